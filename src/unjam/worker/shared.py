"""What the duties of one worker share: settings, store line, launcher, clocks, and who runs."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unjam.jobs.machines import Capacity, WorkerInfo
from unjam.jobs.records import Lease
from unjam.printable import one_line
from unjam.settings import Settings
from unjam.supervise.faults import FaultPoints
from unjam.supervise.linux import boottime
from unjam.supervise.portable import AnyLauncher
from unjam.worker import shortage
from unjam.worker.storeline import StoreLine
from unjam.worker.tokens import Tokens

if TYPE_CHECKING:
    from unjam.worker.attempt import AttemptRun

__all__ = ["WorkerState", "boottime"]


@dataclass(slots=True)
class WorkerState:
    """One per worker process; owned by the event loop's thread."""

    id: str
    host: str
    settings: Settings
    slots: int
    line: StoreLine
    chores: StoreLine
    """A line of its own for recovery: its renames may meet a dead mount, and no renewal must wait for it."""
    launcher: AnyLauncher
    tokens: Tokens
    faults: FaultPoints
    info: WorkerInfo | None = None
    """As it checked in."""
    clock_offset: float = 0.0
    """Store clock minus CLOCK_BOOTTIME."""
    running: dict[Lease, AttemptRun] = field(default_factory=dict)
    """By lease, not by job: an attempt that cannot die keeps its slot, also when this very worker runs its
    job again (INV-DEADLINE)."""
    draining: bool = False
    claims_held_until: float = 0.0
    """CLOCK_BOOTTIME seconds, 0 once a start went well again."""
    neighbours: tuple[str, ...] = ()
    """Wake-up paths of the other workers of this machine, as seen a moment ago."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """There may be a job to claim."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """There may be a request for a running job."""
    reapable: asyncio.Event = field(default_factory=asyncio.Event)
    """There may be something to free: of a worker that died, of a lease that ran out, of a watcher."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """An attempt ended."""

    def capacity(self, free_slots: int) -> Capacity:
        """What this machine has for the jobs of all its workers, and how many more this one may take."""
        return Capacity(
            host=self.host,
            host_name=socket.gethostname(),
            cpu=max(self.settings.slots, self.slots),
            memory_bytes=self.settings.memory_bytes,
            gpu=int(os.path.exists("/dev/nvidia0")),
            free_slots=free_slots,
        )

    @property
    def stuck(self) -> int:
        """Slots that are held by what cannot be killed."""
        return sum(run.quarantined for run in self.running.values())

    def hold_claims(self, why: str) -> None:
        """The machine is short of something: nothing is claimed for a moment."""
        if boottime() >= self.claims_held_until:
            self.say(f"{why}; no new job for {shortage.WAIT:g} s")
        self.claims_held_until = boottime() + shortage.WAIT

    def wall(self) -> float:
        """Now, on the store's clock."""
        return boottime() + self.clock_offset

    def say(self, text: str) -> None:
        """One line for whoever watches the worker."""
        try:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {one_line(text)}\n")
            sys.stderr.flush()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return  # a log on a full disk: the line stays in the buffer, and is written with a later one
            # The terminal is gone (tmux kill-session): a worker that drains must not die of its last words.
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it is stderr from now on

    def say_bug(self, text: str, error: BaseException) -> None:
        """An error that nobody expected, with the place where it came from: whoever mends it needs that."""
        self.say(f"{text}: {type(error).__name__}: {error}")
        for line in "".join(traceback.format_exception(error)).splitlines():
            self.say(line)
