"""The live picture of one attempt: stages, units, progress, ETA and whether it still advances. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from unjam.jobs import stall
from unjam.jobs.messages import Progress, StageEnded, StageStarted, UnitCommitted, UnitsDeclared
from unjam.jobs.progress import WAITING_FOR, JobProgress
from unjam.jobs.records import Lease, ProgressUpdate, StageRecord, UnitRecord
from unjam.jobs.stall import StallClock, StallLimits, Verdict
from unjam.jobs.states import Phase, StageState, UnitState

DRIFT = 0.05
"""Share by which CPU and memory must move to be news: below it each second of a long encode was a transaction
that told 198 % for 199 %."""
DRIFT_SECONDS = 5.0
"""After which less is told too."""
_NOISE: Mapping[str, float] = {"cpu_percent": 1.0, "rss_bytes": 1 << 20}
VERIFYING = frozenset({"verify", "seal"})
"""Stages shown as the phase `verifying`."""


@dataclass(slots=True)
class _Running:
    name: str
    clock: StallClock
    deadline: float | None


class Picture:
    """Fed by the channel and by usage samples; read once a second by the progress writer.

    Times named `now` are CLOCK_BOOTTIME seconds; times written to the store are on the store's clock, `wall`.
    """

    def __init__(self, *, now: float, stall_after: float | None) -> None:
        self._stall_after = stall_after
        self._progress = JobProgress()
        self._stages: dict[str, StageRecord] = {}
        self._units: dict[tuple[str, str], UnitRecord] = {}
        self._running: _Running | None = None
        self._start_clock = StallClock(StallLimits.of(stall_after or stall.MODEL_LOAD), now=now, what="start")
        self._held: str | None = None
        self._message = ""
        self._usage: dict[str, Any] | None = None
        self._told_usage: dict[str, Any] = {}
        self._told_at = 0.0
        self._told_stall: tuple[str | None, float] = (None, 0.0)
        self._last_cpu: tuple[float, float] | None = None
        self.units_committed = 0
        self.stalled: str | None = None
        self.changed = True

    # -- fed by the attempt ---------------------------------------------------------------------------------
    def stage_started(self, message: StageStarted, *, now: float, wall: float) -> None:
        # What the user asked for this job goes before what the pipeline's author thought right.
        idle = self._stall_after or message.stall_after or stall.ENCODE
        busy = None if self._stall_after else message.busy_after
        clock = StallClock(StallLimits.of(idle, busy), now=now)
        deadline = now + message.timeout if message.timeout else None
        if self._last_cpu is not None:
            # What is used from here on counts with the next sample, not with the one after.
            clock.cpu(*self._last_cpu)
        self._running = _Running(message.stage, clock, deadline)
        self._message = ""
        self._progress.add_stage(message.stage, message.weight)
        self._set_stage(message.stage, state=StageState.RUNNING, started_at=wall)

    def stage_ended(self, message: StageEnded, *, now: float, wall: float) -> None:
        self._progress.update(message.stage, 1.0, now)
        self._set_stage(
            message.stage, state=StageState.SUCCEEDED, progress=1.0, message=message.message, ended_at=wall
        )

    def progressed(self, message: Progress, *, now: float) -> None:
        self._progress.update(message.stage, message.fraction, now)
        self._message = message.message
        self._set_stage(
            message.stage, progress=self._progress.fraction(message.stage), message=message.message
        )
        if message.unit is not None:
            key = (message.stage, message.unit)
            self._units[key] = UnitRecord(*key, UnitState.RUNNING, progress=message.unit_fraction or 0.0)
        if self._running is not None and self._running.name == message.stage:
            self._running.clock.advance(now, message.evidence)

    def units_declared(self, message: UnitsDeclared, *, now: float) -> None:
        self._set_stage(message.stage, units_total=message.total, units_done=message.done)
        if message.total and message.done:
            self._progress.start_at(message.stage, message.done / message.total, now)

    def unit_committed(self, message: UnitCommitted, *, now: float) -> None:
        self.units_committed += 1
        self._units.pop((message.stage, message.name), None)
        stage = self._stages.get(message.stage)
        self._set_stage(message.stage, units_done=(stage.units_done if stage else 0) + 1)
        if self._running is not None:
            self._running.clock.advance(now, f"{message.name} committed")

    def hold(self, what: str | None) -> None:
        """The attempt waits for something of the machine (a token): not a stall."""
        self.changed |= what != self._held
        self._held = what

    # -- fed by the guardian --------------------------------------------------------------------------------
    def used(self, *, cpu_seconds: float, rss_bytes: int, processes: int, now: float) -> None:
        percent = 0.0
        if self._last_cpu is not None and now > self._last_cpu[0]:
            percent = max(0.0, 100 * (cpu_seconds - self._last_cpu[1]) / (now - self._last_cpu[0]))
        self._last_cpu = (now, cpu_seconds)
        self._usage = {"cpu_percent": round(percent, 1), "rss_bytes": rss_bytes, "processes": processes}
        self._clock.cpu(now, cpu_seconds)

    def slept(self, seconds: float, *, now: float) -> None:
        """The machine, or the worker, stood still until now for so long: no fault of the job."""
        self._clock.skip(now, seconds)

    # -- read -----------------------------------------------------------------------------------------------
    def tells(self, now: float) -> bool:
        """Is there anything new that is worth a transaction?"""
        usage = self._usage or {}
        # The limit: when its CPU has idled for long enough it will count as stalled sooner than was told.
        if (self.stalled, self._clock.limit) != self._told_stall:
            return True
        if self.changed or _moved(self._told_usage, usage):
            return True
        ages = usage != self._told_usage or self._held is not None or self._progress.eta(now) is not None
        return ages and now - self._told_at >= DRIFT_SECONDS

    def check(self, now: float) -> Verdict:
        """Does it still advance? (INV-STALL)"""
        if self._held is not None:
            self._clock.advance(now, f"waiting for {self._held} at {now}")
        return self._clock.check(now)

    def overdue(self, now: float) -> str | None:
        """The stage that is over its own time limit."""
        running = self._running
        return running.name if running and running.deadline is not None and now >= running.deadline else None

    @property
    def has_units(self) -> bool:
        """Is the running stage one that commits units?"""
        record = self._stages.get(self._running.name) if self._running else None
        return record is not None and record.units_total > record.units_done

    @property
    def stage(self) -> str | None:
        return self._running.name if self._running else None

    @property
    def phase(self) -> Phase:
        if self._running is None:
            return Phase.STARTING
        return Phase.VERIFYING if self._running.name in VERIFYING else Phase.WORKING

    def update(self, lease: Lease, *, now: float, wall: float) -> ProgressUpdate:
        """What the store is told of this attempt."""
        self.changed = False
        self._told_usage, self._told_at = self._usage or {}, now
        self._told_stall = self.stalled, self._clock.limit
        silent = now - self._clock.advanced_at
        return ProgressUpdate(
            lease=lease,
            phase=self.phase,
            progress=self._progress.value,
            eta_seconds=self._progress.eta(now),
            message=f"{WAITING_FOR}{self._held}" if self._held else self._told(),
            advanced_at=wall - silent,
            stalled=self.stalled,
            # Nothing that is waited for counts as a stall.
            stall_at=None if self._held else wall + self._clock.check(now).seconds_left,
            usage=self._usage,
            stages=tuple(self._stages.values()),
            units=tuple(self._units.values()),
        )

    def _told(self) -> str:
        """What it is at, for people: "encode 5/12, 1.4x". A job's only stage goes without saying."""
        record = self._stages.get(self._running.name) if self._running else None
        if record is None:
            return self._message
        if record.units_total > 1:
            place = f"{record.name} {min(record.units_done + 1, record.units_total)}/{record.units_total}"
        else:
            place = record.name if len(self._stages) > 1 else ""
        return ", ".join(part for part in (place, self._message) if part)

    def stages_at_end(self, state: StageState, *, wall: float) -> tuple[StageRecord, ...]:
        """The stages as they stand when the attempt is over: what still ran ends as `state`."""
        return tuple(
            replace(s, state=state, ended_at=wall) if s.state is StageState.RUNNING else s
            for s in self._stages.values()
        )

    @property
    def _clock(self) -> StallClock:
        return self._running.clock if self._running else self._start_clock

    def _set_stage(self, name: str, **changes: Any) -> None:
        known = self._stages.get(name) or StageRecord(name, StageState.PENDING, len(self._stages))
        self._stages[name] = replace(known, **changes)
        self.changed = True


def _moved(told: Mapping[str, float], now: Mapping[str, float]) -> bool:
    """Is any figure news?"""
    return any(
        abs(value - told.get(name, 0)) > max(DRIFT * value, _NOISE.get(name, 0))
        for name, value in now.items()
    )
