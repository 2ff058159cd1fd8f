"""Ending descendants for certain: signal only our own unreaped children, until the kernel says there are
none.

A direct child that we have not waited for keeps its number, so no signal can hit a stranger (INV-STRANGER).
Grandchildren come to us as their parents die, because every caller is a subreaper. The end is wait() =
ECHILD, which the kernel decides; a /proc snapshot misses a process that is just being reparented
(INV-ORPHAN).
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from resource import struct_rusage

from unjam.supervise import linux

OnReap = Callable[[int, int, struct_rusage], None]
"""Called with (pid, wait status, what it and those it waited for used) of each child that was reaped."""

PATIENT_ROUNDS = (
    50  # rounds without a pause: a hopper lives 1 ms, so the first rounds must be faster than it is
)


def reap_all(on_reap: OnReap | None = None) -> bool:
    """Reap every dead child. True when no child is left at all (ECHILD)."""
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            return False
        if on_reap:
            on_reap(pid, status, used)


def reap(pid: int, options: int = 0) -> None:
    """Reap one child. That somebody else's loop over all children came first is no harm."""
    try:
        os.waitpid(pid, options)
    except ChildProcessError:
        return


def strike(pids: Iterable[int], number: int = signal.SIGKILL) -> set[int]:
    """Reap those of these children that are dead, signal the others, and say which were signalled.

    One synchronous round: nobody else may reap between the look and the signal, or the number could move.
    """
    hit: set[int] = set()
    for pid in pids:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, number)
                hit.add(pid)
        except (ChildProcessError, ProcessLookupError):
            continue  # reaped by its owner, or not our child any more: nothing of ours to end
    return hit


def breath(rounds: int, unchanged: float) -> float:
    """Seconds to rest between two rounds of killing, when the same processes have been left for `unchanged`
    seconds. They are in uninterruptible sleep: a look a thousand times a second cost 5 % of a core until the
    kernel let go of them."""
    if unchanged > 0.5:
        return 0.1
    return 0.0 if rounds < PATIENT_ROUNDS else 0.001


def kill_my_children(
    on_reap: OnReap | None = None, limit: float | None = None, *, again: bool = False
) -> tuple[bool, int]:
    """Kill every descendant. Returns (all gone, how many were signalled).

    Not all gone only when `limit` seconds did not suffice: something is in uninterruptible sleep with its
    SIGKILL pending. `again`: an earlier call left it. For single-threaded processes that own all their
    children (guardian, keeper).
    """
    began = changed = time.monotonic()
    killed: set[int] = set()
    left: list[int] = []
    rounds = 0
    while not reap_all(on_reap):
        found = linux.children()
        if found != left:
            left, changed = found, -math.inf if again and rounds == 0 else time.monotonic()
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # listed, then adopted away by a debugger: wait() still decides
            killed.add(pid)
        rounds += 1
        if limit is not None and time.monotonic() - began > limit:
            return False, len(killed)
        time.sleep(breath(rounds, time.monotonic() - changed))
    return True, len(killed)
