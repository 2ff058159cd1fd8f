"""Who yields to whom: the attempt's CPU, disk and out-of-memory priority, set by the attempt on itself."""

import os

from unjam.supervise import linux

OOM_SCORE_ADJ = 500  # the kernel's killer takes the job before its guardian, and both before the database


def yield_to_others(nice: int, ionice_idle: bool) -> None:
    """Inherited by everything the attempt starts. What the system does not allow is left as it is: a priority
    is a courtesy, its absence breaks no promise."""
    if nice:
        try:
            os.nice(nice)
        except PermissionError:
            _note(f"nice {nice} is not allowed here")
    if ionice_idle and not linux.io_idle():
        _note("idle disk priority is not possible here")
    _prefer_as_victim()


def _note(text: str) -> None:
    """Into the attempt's log: its stderr is the log already."""
    os.write(2, f"unjam: {text}\n".encode())


def _prefer_as_victim() -> None:
    """Raising one's own score needs no right, so a failure means: no such file (macOS, a masked /proc)."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(OOM_SCORE_ADJ))
    except OSError:
        return
