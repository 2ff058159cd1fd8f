"""Finding and ending what dead workers left: by the mark that every descendant carries, never by name or
number."""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from unjam.supervise import linux
from unjam.supervise.mark import get_mark

EMPTY_SCANS = 3  # scans in a row that must find nothing: one can miss a process that forks ahead of it
PATIENCE = 5.0  # seconds; what still lives then is in uninterruptible sleep


@dataclass(frozen=True, slots=True)
class SweepReport:
    """`killed`: how many processes were ended; `left`: pids that have their SIGKILL and have not ended
    yet."""

    killed: int
    left: tuple[int, ...]


def marked_processes(mark: int) -> list[int]:
    """Living processes (not zombies) that carry the mark."""
    return [pid for pid, pidfd in _open_marked({mark}) if _closed(pidfd)]


def living_marks(marks: Iterable[int]) -> set[int]:
    """Which of these marks a living process carries."""
    wanted = set(marks)
    if not wanted:
        return set()  # with a thousand processes a look at all of them takes tens of milliseconds
    return wanted & {get_mark(pid) for pid, pidfd in _open_marked(wanted) if _closed(pidfd)}


def sweep(marks: Iterable[int], patience: float = PATIENCE) -> SweepReport:
    """Kill every process that carries one of `marks`, until three scans in a row find none.

    The caller answers for the marks: only those of workers that are proven dead (identity.is_alive of worker
    and keeper). A second worker on the same machine has another mark and is never touched (INV-STRANGER).
    """
    wanted = set(marks)
    killed: set[int] = set()
    until = time.monotonic() + patience
    empty = 0
    while empty < EMPTY_SCANS:
        found = []
        for pid, pidfd in _open_marked(wanted):
            if linux.send_pidfd(pidfd, signal.SIGKILL):
                found.append(pid)
            os.close(pidfd)
        killed.update(found)
        empty = 0 if found else empty + 1
        if found and time.monotonic() > until:
            return SweepReport(len(killed), tuple(found))
        if found:
            time.sleep(0.001)
    return SweepReport(len(killed), ())


def _open_marked(marks: set[int]) -> Iterable[tuple[int, int]]:
    """(pid, pidfd) of living processes with one of the marks. The caller closes the pidfd.

    INV-STRANGER: the mark is asked again after the pidfd is open, and the process must live after the answer.
    Then the number never moved, and the pidfd is of the one that carries the mark.
    """
    for pid in linux.all_pids():
        if pid == os.getpid() or get_mark(pid) not in marks:
            continue
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue  # ended since
        if get_mark(pid) in marks and not linux.pidfd_dead(pidfd):
            yield pid, pidfd
        else:
            os.close(pidfd)


def _closed(pidfd: int) -> bool:
    os.close(pidfd)
    return True
