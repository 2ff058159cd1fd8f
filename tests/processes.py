"""Which processes a test left behind, and their sure end."""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc showed it; equal by pid and start time, so that a reused pid is another process."""

    pid: int
    started_ticks: int
    parent: int = field(compare=False)
    state: str = field(compare=False)

    def command(self) -> str:
        try:
            raw = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return "(gone)"
        return raw.replace(b"\0", b" ").decode(errors="replace").strip() or "(no command line)"


def read_process(pid: int) -> Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold spaces and parentheses: count from its end.
    fields = stat.rpartition(")")[2].split()
    return Process(pid, started_ticks=int(fields[19]), parent=int(fields[1]), state=fields[0])


def children_of(parents: Iterable[int]) -> set[Process]:
    """The direct children of any of `parents`, zombies included."""
    wanted = set(parents)
    seen = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process for process in seen if process is not None and process.parent in wanted}


def reap(process: Process) -> None:
    """Take a dead child's status, if it is a child of this process."""
    try:
        os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        pass  # someone else's child: its parent reaps it


def kill(process: Process) -> None:
    """SIGKILL by pidfd, after a second look: a pid that is someone else's by now is left alone."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if read_process(process.pid) == process:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself
    finally:
        os.close(pidfd)


def end_all(
    parents: Iterable[int], spared: set[Process], grace: float, patience: float = 5.0
) -> dict[Process, str]:
    """End the children of `parents` that are not `spared`; return who lived past `grace` seconds.

    What the killed ones leave becomes a child of the nearest subreaper, hence the loop.
    """
    parents = set(parents)
    started = time.monotonic()
    late: dict[Process, str] = {}
    while True:
        left = children_of(parents) - spared
        for process in left:
            if process.state == "Z":
                reap(process)
        living = {process for process in left if process.state not in "ZX"}
        waited = time.monotonic() - started
        if not living or waited > grace + patience:
            return late
        if waited >= grace:
            for process in living:
                late.setdefault(process, process.command())
                kill(process)
        time.sleep(0.005)
