"""Is a living tree still advancing? One clock, an idle and a busy limit (INV-STALL). Pure: time is passed
in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# Seconds without an advance, by kind of stage. Source: stall complaints about and settings of Tdarr (5 min),
# Immich, Unmanic and others: an alive process is not progress, a loading model is not a stall.
PROBE = 30.0
ENCODE = 120.0
MODEL_LOAD = 300.0
BUSY_FACTOR = 5.0
"""The busy limit where a stage names none: work that burns CPU gets five times as long, never for ever."""
BUSY_SHARE = 0.02
"""Of one core: above it the tree counts as busy."""
WINDOW = 10.0
"""Seconds over which CPU use is looked at."""


def mux(size_bytes: int) -> float:
    """Stall limit for writing a file of this size at 5 MB/s (a slow NAS)."""
    return 60.0 + size_bytes / 5e6


@dataclass(frozen=True, slots=True)
class StallLimits:
    """Seconds without an advance: while the tree idles, and while it burns CPU."""

    stall_after: float
    busy_after: float

    @classmethod
    def of(cls, stall_after: float, busy_after: float | None = None) -> StallLimits:
        """The busy limit defaults to BUSY_FACTOR times the idle one and is never below it."""
        return cls(
            stall_after, max(stall_after, stall_after * BUSY_FACTOR if busy_after is None else busy_after)
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Stalled or not, the sentence that proves it, and the seconds until it would be (0 when it is)."""

    stalled: bool
    evidence: str
    seconds_left: float


class StallClock:
    """Fed with evidence and CPU seconds of one stage of one attempt; `what` names what should have come."""

    def __init__(self, limits: StallLimits, *, now: float, what: str = "progress") -> None:
        self.limits = limits
        self.advanced_at = now
        self._what = what
        self._evidence: str | None = None
        self._cpu: deque[tuple[float, float]] = deque()
        self._last_seconds: float | None = None
        self._used = 0.0

    def advance(self, now: float, evidence: str) -> bool:
        """Evidence as reported; only a change of it is an advance. Returns whether it was one."""
        if evidence == self._evidence:
            return False
        self._evidence = evidence
        self.advanced_at = now
        return True

    def skip(self, now: float, seconds: float) -> None:
        """Time until now in which nothing could advance, or nobody could hear of it, is no silence."""
        self.advanced_at = min(now, self.advanced_at + seconds)

    def cpu(self, now: float, cpu_seconds: float) -> None:
        """CPU seconds the tree has used so far. Never resets the clock: a spinning loop is no progress."""
        if self._last_seconds is not None:
            # The sum over a tree falls when a child ends and is not yet counted in its parent.
            self._used += max(0.0, cpu_seconds - self._last_seconds)
        self._last_seconds = cpu_seconds
        self._cpu.append((now, self._used))
        while len(self._cpu) > 2 and self._cpu[1][0] <= now - WINDOW:
            self._cpu.popleft()

    @property
    def cpu_share(self) -> float:
        """Of one core, over the last window (the span between the samples that are known)."""
        if len(self._cpu) < 2:
            return 0.0
        (t0, used0), (t1, used1) = self._cpu[0], self._cpu[-1]
        return (used1 - used0) / (t1 - t0) if t1 > t0 else 0.0

    @property
    def limit(self) -> float:
        """Seconds without an advance that are allowed at the present use of CPU."""
        return self.limits.busy_after if self.cpu_share > BUSY_SHARE else self.limits.stall_after

    def check(self, now: float) -> Verdict:
        """The verdict at this moment."""
        share, limit = self.cpu_share, self.limit
        silent = max(0.0, now - self.advanced_at)
        evidence = f"no new {self._what} for {silent:.0f} s, CPU {100 * share:.0f} %"
        return Verdict(silent >= limit, evidence, max(0.0, limit - silent))
