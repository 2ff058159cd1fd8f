"""What the worker hears about a process tree: plain values."""

import errno
from dataclasses import dataclass
from typing import Literal

SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
"""What a start meets when the machine has no descriptor, process number or memory for it at that moment."""

Containment = Literal["pidns", "tree", "group", "pidns+cgroup", "tree+cgroup"]
"""How a tree is held; `+cgroup`: the kernel keeps its memory limit."""

Killer = Literal["group", "machine"]
"""Whose memory the kernel killed for: the attempt's own limit, or a group around it or the whole machine."""


class LaunchFailed(Exception):
    """Nothing of the attempt ever ran. `reason` says why in words.

    short: the machine had no descriptor, process number or memory for it at that moment.
    """

    def __init__(self, reason: str, *, short: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.short = short


@dataclass(frozen=True, slots=True)
class Started:
    """The attempt runs. `pid` is its number as the worker sees it, `at` CLOCK_BOOTTIME seconds."""

    pid: int
    containment: Containment
    at: float


@dataclass(frozen=True, slots=True)
class Usage:
    """One sample of a tree. `cpu_seconds` is the total so far, `at` CLOCK_BOOTTIME seconds."""

    cpu_seconds: float
    rss_bytes: int
    processes: int
    at: float


@dataclass(frozen=True, slots=True)
class Stuck:
    """Processes that have their SIGKILL and do not end: uninterruptible sleep (state D), usually dead
    storage."""

    pids: tuple[int, ...]
    states: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TreeEnd:
    """The tree is gone: the kernel said so.

    exit_code, signal: of the attempt itself; both None when nobody was left to see it (the guardian was
        killed) or it never started.
    reason: why it was made to end ("deadline", "lease", "memory", or what stop()/kill() was given); None when
        it ended by itself.
    killed: how many processes needed a SIGKILL.
    oom: the kernel killed for memory: surely in this tree ("group"), or somewhere on this machine just before
        the tree ended ("machine").
    """

    exit_code: int | None
    signal: int | None
    reason: str | None
    peak_rss_bytes: int
    cpu_seconds: float
    killed: int
    guardian_died: bool
    oom: Killer | None = None
