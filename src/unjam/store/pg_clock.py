"""The server's clock as its answers tell it: is it still the same, and was the server there all the time?"""

from __future__ import annotations

from collections.abc import Callable

from unjam.store.clock import since_boot

OUTAGE = 5.0
"""Seconds without an answer that count as an outage, which others may have had too: a server that is frozen
(SIGSTOP, a suspended machine, swapping) keeps its connections. Less is a link of our own that flaps: it says
nothing of their leases, which are renewed at half time. It is more than lies between two looks of a reaper,
and more than anybody waits for a lock (`pg_connect.LOCK_TIMEOUT`): who waits in a line is not cut off."""
JUMP = 2.0
"""Seconds by which the server's clock may differ from its course before it counts as set."""


class ServerClock:
    """Fed with every answer. Times of ours are seconds since boot, those of the server since the epoch."""

    def __init__(self, instead: Callable[[], float] | None) -> None:
        """`instead`: a clock that says what is written down, in tests; the server's is watched too."""
        self.steady_since = self.clock_set_at = 0.0
        self._instead = instead
        self._course: tuple[float, float] | None = None
        """Between what the server's clock minus the time since boot lies: an answer says what the clock was
        at some moment between the question and now."""
        self._answered = 0.0
        self._birth: float | None = None
        """When the server was started, by its own clock."""

    def answered(self, asked_at: float, now: float | None = None) -> None:
        """What was asked then came back just now; `now` is what the server's clock said, where it was asked.
        (A transaction counts from its beginning.)"""
        here = since_boot()
        if now is not None:
            self._follow(now - here, now - asked_at)
        if here - asked_at > OUTAGE:
            self._ended_outage()
        self._answered = here

    def connected(self, asked_at: float, now: float, birth: float) -> None:
        """A new connection: was the server out of reach for longer than a moment, and not just for us? A
        restart may be shorter than that for us and longer for others, and so its start time tells."""
        away = birth != self._birth or since_boot() - self._answered > OUTAGE
        self._birth = birth
        self.answered(asked_at, now)
        if away:
            self._ended_outage()

    def _ended_outage(self) -> None:
        self.steady_since = self._latest()

    def _latest(self) -> float:
        """Now, or later by what an answer took: it may have been given just before the server froze."""
        if self._instead is not None:
            return self._instead()
        assert self._course is not None  # told when the connection was made
        return self._course[1] + since_boot()

    def _follow(self, low: float, high: float) -> None:
        """Notice a clock that was set (or is another server's): leases may have run out then by no fault of
        their owners (INV-ONCE)."""
        known, self._course = self._course, (low, high)
        if known is None:
            return
        if low > known[1] + JUMP or high < known[0] - JUMP:
            self.steady_since = self.clock_set_at = self._latest()
        elif low <= known[1] and high >= known[0]:
            # A slow answer tells little, and must not hide the next jump.
            self._course = max(low, known[0]), min(high, known[1])
