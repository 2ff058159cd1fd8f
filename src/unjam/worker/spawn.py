"""How worker processes are started: the command lines of worker and keeper, and what they inherit."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from unjam.settings import Settings, as_environment


def worker_argv(
    *,
    slots: int | None = None,
    exit_when_idle: bool = False,
    drain: bool = False,
    queues: Sequence[str] | None = None,
) -> list[str]:
    """The command line of one worker process."""
    argv = [sys.executable, "-m", "unjam.worker"]
    if slots is not None:
        argv += ["--slots", str(slots)]
    if exit_when_idle:
        argv.append("--exit-when-idle")
    if drain:
        argv.append("--drain")
    for name in queues or ():
        argv += ["--queue", name]
    return argv


def keeper_argv(worker: Sequence[str], *, restart: bool = True, parent_fd: int | None = None) -> list[str]:
    """The command line of the keeper above a worker. `parent_fd`: an inherited pidfd of an attached `run`;
    when that process dies the keeper has the worker drain and ends."""
    argv = [sys.executable, "-m", "unjam.supervise.keeper"]
    if restart:
        argv.append("--restart")
    if parent_fd is not None:
        argv += ["--parent-fd", str(parent_fd)]
    return [*argv, "--", *worker]


def environment(settings: Settings) -> dict[str, str]:
    """The environment of keeper and worker: the caller's, with its settings as variables, so that flags and
    files of the caller hold in the worker whatever its folder is."""
    return {**os.environ, **as_environment(settings)}
