"""How far a job is and how long it will still take, from its stages' fractions. Pure: time is passed in."""

from __future__ import annotations

import math
from collections.abc import Mapping

ALMOST = 0.999
"""The most that is shown before the outputs are published: 1.0 means they are there."""
WAITING_FOR = "waiting for "
"""How the message of an attempt begins that waits for something of its machine (a token)."""
ETA_AFTER = 5.0
"""Seconds of observation before an ETA is told."""
ETA_MOVED = 0.005
"""Progress that must have been seen in the window: below it the rate is noise."""
_KEPT = 256


class JobProgress:
    """Weighted over the stages, never falling. One per attempt.

    `weights` are known stages and their shares of the whole. Stages that report themselves later are added;
    their shares are of 1.0 as long as they fit in it.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = {name: max(0.0, weight) for name, weight in (weights or {}).items()}
        self._whole = sum(self._weights.values()) or 1.0
        self._fractions: dict[str, float] = {}
        self._value = 0.0
        self._published = False
        self._advances: list[tuple[float, float]] = []

    def add_stage(self, name: str, weight: float) -> None:
        """A stage that was not known before; a known one keeps its weight."""
        self._weights.setdefault(name, max(0.0, weight))

    def update(self, stage: str, fraction: float, now: float) -> float:
        """The stage is that far (0..1); returns the job's progress. A smaller fraction is ignored."""
        before = self._value
        self._advance(stage, fraction)
        if not self._advances or self._value > before:
            self._advances.append((now, self._value))
        if len(self._advances) > _KEPT:
            self._advances = self._advances[:-1:2] + self._advances[-1:]
        return self._value

    def start_at(self, stage: str, fraction: float, now: float) -> float:
        """The stage begins that far because units of earlier attempts hold: it says nothing about speed."""
        self._advance(stage, fraction)
        self._advances = [(now, self._value)]
        return self._value

    def publish(self) -> None:
        """The outputs are in place: from now on progress is 1.0."""
        self._published = True

    @property
    def value(self) -> float:
        """0..1; below 1.0 until `publish`."""
        return 1.0 if self._published else self._value

    def fraction(self, stage: str) -> float:
        """How far this stage is."""
        return self._fractions.get(stage, 0.0)

    def eta(self, now: float) -> float | None:
        """Seconds still to go at the rate of the younger half of what was seen; None while unknown."""
        if self._published:
            return 0.0
        if len(self._advances) < 2 or now - self._advances[0][0] < ETA_AFTER:
            return None
        # Half of the time seen, not a fixed window: a long job commits its units in jumps far apart.
        half = (self._advances[0][0] + now) / 2
        older = [moment for moment in self._advances[:-1] if moment[0] <= half]
        started, start = older[-1] if older else self._advances[0]
        ended, end = self._advances[-1]
        moved, took, since = end - start, ended - started, now - ended
        if moved < ETA_MOVED or took <= 0:
            return None
        # From jump to jump: what has been done since the last one is not seen yet, but it is done. Only where
        # the next jump is overdue the silence counts as slowness.
        steps = len(self._advances) - max(1, len(older))
        if since > 2 * took / steps:
            took, since = took + since, 0.0
        return max(0.0, (1.0 - self._value) * took / moved - since)

    def _advance(self, stage: str, fraction: float) -> None:
        if stage not in self._weights:
            self._weights[stage] = 0.0
        if not math.isnan(fraction):
            self._fractions[stage] = max(self.fraction(stage), min(1.0, max(0.0, fraction)))
        done = sum(self._weights[name] * part for name, part in self._fractions.items())
        whole = max(self._whole, sum(self._weights.values()))
        self._value = max(self._value, min(ALMOST, done / whole))
