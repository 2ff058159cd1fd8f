"""Stopping a worker: the first signal gives its jobs back, the second kills at once; both say so."""

from __future__ import annotations

import asyncio
import signal

from unjam.supervise.keeper_env import LET_GO
from unjam.worker.shared import WorkerState

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Drain:
    """Signals in, `state.draining` out. Leases are renewed until the last attempt is reaped (INV-DRAIN)."""

    def __init__(self, state: WorkerState, *, finish_first: bool) -> None:
        self._state = state
        self._finish_first = finish_first
        self._presses = 0
        self._hung_up = False
        self.killed = False

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._pressed, number)
        loop.add_signal_handler(LET_GO, self._let_go)

    def begin(self, why: str) -> None:
        """No new claims; running attempts are stopped and their jobs queued again."""
        state = self._state
        if not state.draining:
            state.draining = True
            state.woken.set()
            state.say(f"worker {state.id}: stopping, {why}")
        self._stop_attempts()

    def _pressed(self, number: signal.Signals) -> None:
        state = self._state
        if number == signal.SIGHUP and self._hung_up:
            return  # a closed terminal says it twice, once itself and once by its shell: no second wish
        self._hung_up |= number == signal.SIGHUP
        self._presses += 1
        name = signal.Signals(number).name
        if self._presses == 1:
            self._first(name)
        elif self._finish_first and self._presses == 2:
            state.say(f"{name} again: giving the jobs back; once more kills at once")
            self._stop_attempts()
        else:
            state.say(f"{name} again: killing {len(state.running)} attempt(s) now; finished units are kept")
            self.killed = True
            state.line.patient = False
            for run in list(state.running.values()):
                run.drain_now()

    def _let_go(self) -> None:
        """The run that started this worker is over: what others have here is finished, nothing else begun."""
        self._finish_first = True
        if self._presses == 0:
            self._presses = 1
            self._first("the run that started this worker is over")

    def _first(self, name: str) -> None:
        state = self._state
        state.draining = True
        state.woken.set()
        if not state.running:
            state.say(f"{name}: stopping; nothing was running")
            return
        jobs = ", ".join(run.label for run in state.running.values())
        if self._finish_first:
            state.say(f"{name}: finishing {jobs}; press again to give them back")
            return
        state.say(f"{name}: releasing {jobs}; finished units are kept, press again to kill at once")
        self._stop_attempts()

    def _stop_attempts(self) -> None:
        for run in list(self._state.running.values()):
            run.drain()
