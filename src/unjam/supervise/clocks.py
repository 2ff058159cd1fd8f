"""When an attempt must be asked to end and when it must be killed: pure arithmetic on CLOCK_BOOTTIME
seconds."""

import math
from typing import NamedTuple

LEASE_KILL_MARGIN = 1.0  # seconds before the lease ends in which the tree is killed and reaped
LEASE_GRACE = 2.0  # seconds between TERM and KILL when the lease is running out


class Verdict(NamedTuple):
    """`ask`: the reason to send TERM for, if it is time; `kill`: it is time to kill; `next_at`: look again
    then."""

    ask: str | None
    kill: bool
    next_at: float


class Clocks:
    """Deadline, lease and grace of one attempt.

    The lease ends the tree BEFORE it runs out: TERM three seconds before, KILL one second before, so that
    whoever takes the job next never meets this attempt (INV-ONCE, INV-FENCE).
    """

    def __init__(self, deadline: float | None, grace: float) -> None:
        self._deadline_seconds = math.inf if deadline is None else deadline
        self._grace = grace
        self._deadline_at = math.inf
        self._lease_until = math.inf
        self._kill_at = math.inf

    def go(self, lease_until: float, now: float) -> None:
        self._deadline_at = now + self._deadline_seconds
        self._lease_until = lease_until

    def renew(self, lease_until: float) -> None:
        """A renewal that comes after the end was asked changes nothing: the end was asked."""
        self._lease_until = max(self._lease_until, lease_until)

    def stop(self, now: float, grace: float) -> None:
        self._kill_at = min(self._kill_at, now + grace)

    def act(self, now: float) -> Verdict:
        lease_ask = self._lease_until - LEASE_KILL_MARGIN - min(LEASE_GRACE, self._grace)
        ask: str | None = None
        if now >= lease_ask:
            ask = "lease"
            self.stop(now, self._lease_until - LEASE_KILL_MARGIN - now)
        if now >= self._deadline_at:
            ask = "deadline" if ask is None or self._deadline_at < lease_ask else ask
            self._kill_at = min(self._kill_at, self._deadline_at + self._grace)
        upcoming = [at for at in (lease_ask, self._deadline_at) if at > now]
        return Verdict(ask, now >= self._kill_at, min([self._kill_at, *upcoming]))
