"""Innocent processes that look like ours: whoever signals one of them signals a stranger (INV-STRANGER)."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.torture import leaves
from unjam.supervise import linux
from unjam.supervise.kill import strike
from unjam.supervise.mark import new_mark, set_mark


@dataclass(frozen=True, slots=True)
class Bystander:
    pid: int
    look: str


def start(token: str) -> list[Bystander]:
    """Children of this process that die with it. They block every signal, so that one that came stays to be
    seen."""

    def sleep() -> None:
        os.execv(leaves.SLEEP, leaves.argv(token))

    def with_foreign_mark() -> None:
        # Of a worker that no store knows: only marks of workers proven dead may be swept.
        set_mark(new_mark(4711))
        sleep()

    looks: dict[str, Callable[[], None]] = {
        "a sleep like a leaf": sleep,
        "a leaf with the mark of an unknown worker": with_foreign_mark,
        "a process called uj-guardian": lambda: linux.set_name("uj-guardian"),
        "a process called like an attempt": lambda: linux.set_name("uj:t00001/1"),
    }
    return [Bystander(_fork(become), look) for look, become in looks.items()]


def _fork(become: Callable[[], None]) -> int:
    me = os.pidfd_open(os.getpid())
    ready, not_yet = os.pipe()  # closed by exec: a signal that came before all are blocked would not be seen
    pid = os.fork()
    if pid:
        os.close(me)
        os.close(not_yet)
        os.read(ready, 1)
        os.close(ready)
        return pid
    try:
        linux.die_with(me)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        become()
        os.close(not_yet)
        while True:
            signal.pause()
    finally:
        os._exit(1)


def harmed(bystanders: list[Bystander]) -> list[str]:
    """Which of them were signalled, stopped or killed."""
    found = []
    for one in bystanders:
        stat = linux.proc_stat(one.pid)
        if stat is None or stat.state in "ZXTt":
            found.append(f"{one.look} ({one.pid}): {'gone' if stat is None else f'state {stat.state}'}")
        elif pending := _pending(one.pid):
            found.append(f"{one.look} ({one.pid}): was sent {', '.join(pending)}")
    return found


def _pending(pid: int) -> list[str]:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    mask = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return [signal.Signals(number).name for number in signal.valid_signals() if mask >> (number - 1) & 1]


def end(bystanders: list[Bystander]) -> None:
    pids = [one.pid for one in bystanders]
    strike(pids)
    for pid in pids:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            continue  # struck and reaped in the same round
