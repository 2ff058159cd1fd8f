"""A channel that needs no worker and no store, so that a pipeline is tested as the plain function it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unjam.jobs.messages import (
    Ack,
    Finished,
    Message,
    PlanAccepted,
    PlanProposed,
    Progress,
    Stop,
    UnitCommitted,
    UnitsVoided,
)
from unjam.jobs.model import InputFile
from unjam.pipelines.context import Attempt, Context


class MemoryChannel:
    """Answers as a worker would, remembering plans and units between contexts that share it."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.plans: dict[str, tuple[str, Mapping[str, Any], int]] = {}
        self.units: dict[str, dict[str, UnitCommitted]] = {}
        self.stop_at_commit: str | None = None
        self.finished: Finished | None = None

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def ask(self, message: Message) -> Message:
        self.sent.append(message)
        if isinstance(message, PlanProposed):
            return self._plan(message)
        if isinstance(message, UnitCommitted):
            self.units.setdefault(message.stage, {})[message.name] = message
            return Ack(self.stop_at_commit)
        if isinstance(message, UnitsVoided):
            for name in message.names:
                self.units[message.stage].pop(name)
        if isinstance(message, Finished):
            self.finished = message
        return Ack()

    def why_stopped(self) -> Stop | None:
        return None

    def progress(self, stage: str) -> list[Progress]:
        """What was said of a stage's progress so far."""
        return [m for m in self.sent if isinstance(m, Progress) and m.stage == stage]

    def _plan(self, message: PlanProposed) -> PlanAccepted:
        known = self.plans.get(message.stage)
        voided = 0
        if known is None or (known[0] != message.digest):
            if known is not None and not message.revise:
                voided = len(self.units.pop(message.stage, {}))
            self.plans[message.stage] = (message.digest, message.body, (known[2] if known else 0) + 1)
        _, body, revision = self.plans[message.stage]
        rows = tuple(asdict(u) for u in self.units.get(message.stage, {}).values())
        return PlanAccepted(body, revision, rows, voided)


def local_context(
    tmp: Path, source: Path | None, output: Path | None, channel: MemoryChannel | None = None, **changes: Any
) -> Context:
    """A Context over a MemoryChannel: `source` as its input, `output` as its main output."""
    inputs: tuple[InputFile, ...] = ()
    if source is not None:
        stat = source.stat()
        inputs = (InputFile(source.name, str(source), stat.st_size, stat.st_mtime_ns),)
    attempt = Attempt(
        job_id="jtest",
        number=1,
        fence=1,
        pipeline="test",
        version=1,
        name=source.name if source else "test",
        params={},
        inputs=inputs,
        output_dir=str(output.parent) if output else None,
        output_path=str(output) if output else None,
        work_dir=str(tmp / "work"),
        log_path=str(tmp / "attempt.log"),
        host="test",
    )
    from dataclasses import replace

    return Context(replace(attempt, **changes), channel or MemoryChannel())
