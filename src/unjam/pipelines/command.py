"""The pipeline `exec`: any command, with lease, limits, log, retry and a sure end."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from unjam.pipelines.api import pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.params import Params


class CommandParams(Params):
    """What to run."""

    argv: tuple[str, ...] = Field(
        min_length=1, description="the program and its arguments, one text each; no shell"
    )
    cwd: str | None = Field(default=None, description="folder to run it in; default: the attempt's own")
    env: dict[str, str] = Field(default_factory=dict, description="variables to add to the environment")


@pipeline("exec", version=1, takes_input=False, accepts=frozenset(), summary="Run any command as a job")
def command(ctx: Context, params: CommandParams) -> None:
    """Done when the command ends with 0. What it prints goes to the attempt's log."""
    with ctx.stage("run") as stage:
        # The only thing we can see of a stranger's work is what it says.
        def look() -> None:
            stage.progress(0.0, evidence=_log_state(ctx.attempt.log_path))

        ctx.run(
            params.argv,
            cwd=Path(params.cwd) if params.cwd else None,
            env=params.env,
            on_tick=look,
            patience=None,  # one TERM, then as long as the job's grace allows: KILL is the guardian's
        )
        stage.progress(1.0, evidence="ended")


def _log_state(path: str) -> str:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return "no log"
    return f"{found.st_ino}:{found.st_size}"  # a rotated log is another file
