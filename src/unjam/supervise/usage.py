"""What a process tree uses right now: one small file read per process, no library (psutil: 100 times
dearer)."""

import os
from typing import NamedTuple

from unjam.supervise import linux

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """CPU seconds so far, resident bytes, processes."""

    cpu: float
    rss: int
    processes: int


class TreeUsage:
    """Everything below `top`, without `top` itself.

    CPU counts the living and those whom the living have waited for; what `top` itself reaped is the caller's
    to add (RUSAGE_CHILDREN). Shared pages count once per process, so `rss` is an upper bound, as the kernel's
    killer sees it.

    `uncounted` is a process of ours inside the tree (PID 1 of its namespace): it holds the CPU time of those
    that it reaped, but is no process of the job.
    """

    def __init__(self, top: int, uncounted: int = 0) -> None:
        self._top = top
        self._uncounted = uncounted
        self._born: int | None = None
        self._pids: list[int] = []

    def sample(self) -> Sample:
        """As it is now."""
        ticks = pages = processes = 0
        for pid in self._below():
            stat = linux.proc_stat(pid)
            if stat is None:
                continue
            ticks += stat.cpu_ticks
            if stat.state not in "ZX" and pid != self._uncounted:
                pages += stat.rss
                processes += 1
        return Sample(ticks * _TICK, pages * _PAGE, processes)

    def _below(self) -> list[int]:
        """As long as nobody was born on this machine the tree has nobody new either: finding it costs a look
        at every process where the kernel has no lists of children."""
        born = linux.last_born()
        if born is None or born != self._born:
            self._born, self._pids = born, linux.descendants(self._top)
        return self._pids
