"""A running stage: its plan, its units and its progress, told to the worker over the channel."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unjam.jobs.digest import digest_of
from unjam.jobs.messages import (
    PlanAccepted,
    PlanProposed,
    Progress,
    UnitCommitted,
    UnitsDeclared,
    UnitsVoided,
)
from unjam.pipelines.channel import Channel, stop_asked

REPORT_EVERY = 0.5
"""Seconds between progress messages: the worker writes once a second, more would only cost CPU."""


class Stopped(BaseException):
    """The attempt was asked to stop. A BaseException, so that a pipeline's `except Exception` cannot keep it
    alive."""

    def __init__(self, why: str, message: str = "") -> None:
        super().__init__(message or why)
        self.why = why


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """A unit to do. `weight` is its share of the stage, `suffix` that of its file, `data` whatever the
    pipeline needs."""

    name: str
    weight: float = 1.0
    suffix: str = ""
    data: Any = None


@dataclass(frozen=True, slots=True)
class CommittedUnit:
    """A unit that an attempt finished: its file (if it made one) or its small JSON result."""

    name: str
    path: Path | None
    result: Mapping[str, Any] | None


class Unit:
    """One unit being worked on: write `path`, then `commit()`."""

    def __init__(self, stage: Stage, spec: UnitSpec, path: Path) -> None:
        self._stage = stage
        self.spec = spec
        self.name = spec.name
        self.data = spec.data
        self.path = path

    def progress(self, fraction: float, *, evidence: str, message: str = "") -> None:
        """`fraction` of this unit; `evidence` changes when and only when the work advanced."""
        self._stage.unit_progress(self, fraction, evidence, message)

    def commit(self, result: Mapping[str, Any] | None = None) -> None:
        """Make this unit survive: fsync its file and return only after the store has its row (INV-KEEP).

        Raises Stopped when a pause or cancel was asked meanwhile: this is the point where it costs nothing.
        """
        self._stage.commit(self, result)


class Stage:
    """Given by `Context.stage`; see `Context` for the life of one."""

    def __init__(self, name: str, channel: Channel, work: Path, log: Callable[[str], None]) -> None:
        self.name = name
        self.message = ""
        self.committed: dict[str, CommittedUnit] = {}
        self._channel = channel
        self._work = work / name
        self._log = log
        self._total = 0.0
        self._done = 0.0
        self._count = 0
        self._last_report = 0.0
        self._reported: Progress | None = None

    # -- progress -------------------------------------------------------------------------------------------
    def progress(self, fraction: float, *, evidence: str, message: str = "") -> None:
        """How much of the stage is done (0..1). Called as often as you like; sent a few times a second."""
        self._report(
            Progress(self.name, min(1.0, max(0.0, fraction)), evidence, message), final=fraction >= 1.0
        )

    def unit_progress(self, unit: Unit, fraction: float, evidence: str, message: str) -> None:
        fraction = min(1.0, max(0.0, fraction))
        whole = (self._done + unit.spec.weight * fraction) / self._total if self._total else 0.0
        self._report(Progress(self.name, whole, f"{unit.name}:{evidence}", message, unit.name, fraction))

    def _report(self, message: Progress, *, final: bool = False) -> None:
        self.message = message.message
        now = time.monotonic()
        # What says nothing new is not sent at all: silence is what the stall clock listens to anyway.
        if message != self._reported and (final or now - self._last_report >= REPORT_EVERY):
            self._last_report = now
            self._reported = message
            self._channel.send(message)

    # -- plan and units -------------------------------------------------------------------------------------
    def plan(self, body: Mapping[str, Any], *, revise: bool = False) -> Mapping[str, Any]:
        """Store what this stage decided, or find again what an earlier attempt stored.

        The same body keeps the units committed under it; another one voids them, and an event says so. With
        `revise` the new body replaces the plan and the committed units stay. Returns the plan in force.
        """
        answer = self._channel.ask(PlanProposed(self.name, digest_of(body), body, revise))
        if not isinstance(answer, PlanAccepted):
            raise TypeError(f"worker answered a plan with {answer.kind}")
        self.committed = {}
        lost = [row["name"] for row in answer.committed if not self._keep(row)]
        if lost:
            self._channel.ask(UnitsVoided(self.name, tuple(lost)))
        if answer.voided:
            self._log(f"{self.name}: the plan changed, {answer.voided} finished unit(s) are void")
        if self.committed:
            self._log(f"{self.name}: {len(self.committed)} unit(s) kept from earlier attempts")
        return answer.body

    def _keep(self, row: Mapping[str, Any]) -> bool:
        path = Path(row["uri"]) if row.get("uri") else None
        # A row without its file is void: the disk was cleaned, or the unit lies on another machine.
        if path is not None and (not path.is_file() or path.stat().st_size != row["size_bytes"]):
            self._log(f"{self.name}: unit {row['name']} has lost its file {path}; doing it again")
            return False
        self.committed[row["name"]] = CommittedUnit(row["name"], path, row.get("result"))
        return True

    def units(self, specs: Sequence[UnitSpec]) -> Iterator[Unit]:
        """The units still to do, in order. Committed ones are in `committed`, the new ones join it as they
        commit."""
        self._total = sum(s.weight for s in specs)
        self._done = sum(s.weight for s in specs if s.name in self.committed)
        self._count = sum(1 for s in specs if s.name in self.committed)
        self._channel.send(UnitsDeclared(self.name, len(specs), self._count))
        self._work.mkdir(parents=True, exist_ok=True)
        for spec in specs:
            if spec.name not in self.committed:
                yield Unit(self, spec, self._work / f"{spec.name}{spec.suffix}")

    def commit(self, unit: Unit, result: Mapping[str, Any] | None) -> None:
        uri, size, sha256 = None, None, None
        if unit.path.exists():
            size, sha256 = _seal(unit.path)
            uri = str(unit.path)
        answer = self._channel.ask(UnitCommitted(self.name, unit.name, uri, size, sha256, result))
        self.committed[unit.name] = CommittedUnit(unit.name, unit.path if uri else None, result)
        self._done += unit.spec.weight
        self._count += 1
        if (why := stop_asked(answer)) is not None:
            raise Stopped(why)


def _seal(path: Path) -> tuple[int, str]:
    """fsync file and folder, return (size, sha256): only then may a row say that the unit exists."""
    import hashlib  # in here: see jobs/digest.py

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        while block := file.read(1 << 20):
            digest.update(block)
        size = file.tell()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size, digest.hexdigest()
