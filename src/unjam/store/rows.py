"""Rows of the store to values of `jobs` and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from unjam.jobs.machines import WorkerInfo
from unjam.jobs.model import Budgets, Counters, InputFile, Job, JobLimits, Needs, NewJob
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import (
    Artifact,
    AttemptEnd,
    AttemptRecord,
    Event,
    StagedOutput,
    StageRecord,
    UnitRecord,
)
from unjam.jobs.states import AttemptState, OnExists, Phase, Request, StageState, State, UnitState
from unjam.store.database import Row

# ASCII only: names of files need not be UTF-8, and their odd bytes (surrogates) survive only as escapes.
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
# The very objects that a NewJob has by default: told apart by identity first, a comparison costs 1 us each.
_DEFAULTS = NewJob("", "", 0, {})
_NO_LIMITS = _DEFAULTS.limits
_USUAL_BUDGETS = _DEFAULTS.budgets


def to_json(value: object) -> str:
    return _ENCODE(value)


_ESCAPED = "\x1b"


def text_in(text: str) -> str:
    """A path or a file's name as a text that a database takes, whatever bytes it is made of.

    Names that are not UTF-8 hold lone surrogates here, which no database stores (nor PostgreSQL a NUL): those
    go in as JSON behind a mark, and come out of `text_out` as they were. A job whose output lost a byte would
    write to another name.
    """
    if not text.startswith(_ESCAPED) and "\0" not in text:
        if text.isascii():
            return text
        try:
            text.encode()
        except UnicodeEncodeError:
            pass  # the very case below
        else:
            return text
    return _ESCAPED + _ENCODE(text)


def text_out(text: str) -> str:
    if not text.startswith(_ESCAPED):
        return text
    original: str = json.loads(text[1:])
    return original


def maybe_in(text: str | None) -> str | None:
    return None if text is None else text_in(text)


def maybe_out(text: str | None) -> str | None:
    return None if text is None else text_out(text)


def maybe_json(value: object | None) -> str | None:
    return None if value is None else _ENCODE(value)


def from_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def reason_of(row: Row, prefix: str = "reason") -> Reason | None:
    code = row[f"{prefix}_code"]
    return None if code is None else Reason(ReasonCode(code), row[f"{prefix}_message"])


def with_inputs(spec: str, inputs: Sequence[InputFile]) -> str:
    """The stored submission with what is known of its inputs now."""
    return _ENCODE({**json.loads(spec), "inputs": _input_rows(inputs)})


def with_limits(spec: str, limits: JobLimits) -> str:
    """The stored submission with other limits."""
    return _ENCODE({**json.loads(spec), "limits": asdict(limits)})


def _input_rows(inputs: Sequence[InputFile]) -> list[list[object]]:
    rows: list[list[object]] = [[i.name, i.uri, i.size_bytes, i.mtime_ns, i.media] for i in inputs]
    return [[*row, i.source] if i.source else row for row, i in zip(rows, inputs, strict=True)]


def spec_json(job: NewJob) -> str:
    """What of a submission has no column of its own; left out where it is the default."""
    spec: dict[str, object] = {"params": job.params, "inputs": _input_rows(job.inputs)}
    if job.tags:
        spec["tags"] = job.tags
    if job.output_dir is not None:
        spec["output_dir"] = job.output_dir
    if job.after:
        spec["after"] = job.after
    if job.needs.disk_bytes:
        spec["disk_bytes"] = job.needs.disk_bytes
    if job.limits is not _NO_LIMITS and job.limits != _NO_LIMITS:
        spec["limits"] = asdict(job.limits)
    if job.budgets is not _USUAL_BUDGETS and job.budgets != _USUAL_BUDGETS:
        spec["budgets"] = asdict(job.budgets)
    if job.on_exists is not OnExists.FAIL:
        spec["on_exists"] = job.on_exists
    if job.force:
        spec["force"] = True
    return _ENCODE(spec)


def spec_of(row: Row) -> NewJob:
    spec = json.loads(row["spec"])
    return NewJob(
        id=row["id"],
        pipeline=row["pipeline"],
        pipeline_version=row["pipeline_version"],
        params=spec["params"],
        inputs=tuple(InputFile(*values) for values in spec["inputs"]),
        output_dir=spec.get("output_dir"),
        output_path=maybe_out(row["output_path"]),
        name=text_out(row["name"]),
        queue=row["queue"],
        priority=row["priority"],
        tags=spec.get("tags", {}),
        after=tuple(spec.get("after", ())),
        dedupe_key=row["dedupe_key"],
        needs=Needs(row["cpu"], row["memory_bytes"], spec.get("disk_bytes", 0), row["gpu"]),
        limits=JobLimits(**spec["limits"]) if "limits" in spec else _NO_LIMITS,
        budgets=Budgets(**spec["budgets"]) if "budgets" in spec else _USUAL_BUDGETS,
        on_exists=OnExists(spec.get("on_exists", OnExists.FAIL)),
        force=spec.get("force", False),
    )


def job_of(row: Row) -> Job:
    return Job(
        seq=row["seq"],
        spec=spec_of(row),
        batch_id=row["batch_id"],
        state=State(row["state"]),
        phase=None if row["phase"] is None else Phase(row["phase"]),
        requested=None if row["requested"] is None else Request(row["requested"]),
        reason=reason_of(row),
        counters=Counters(row["attempts"], row["failures"], row["crashes"], row["losses"]),
        fence=row["fence"],
        worker_id=row["worker_id"],
        lease_expires_at=row["lease_expires_at"],
        run_at=row["run_at"],
        stalled=row["stalled"],
        stall_at=row["stall_at"],
        progress=row["progress"] or 0.0,
        eta_seconds=row["eta_seconds"],
        message=row["message"] or "",
        advanced_at=row["advanced_at"],
        heartbeat_at=row["heartbeat_at"],
        usage=from_json(row["usage"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def stage_of(row: Row) -> StageRecord:
    return StageRecord(
        name=row["name"],
        state=StageState(row["state"]),
        position=row["position"],
        progress=row["progress"],
        message=row["message"],
        units_done=row["units_done"],
        units_total=row["units_total"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        reason=reason_of(row),
    )


def stage_params(job_seq: int, stage: StageRecord) -> dict[str, object]:
    return {
        "job_seq": job_seq,
        "name": stage.name,
        "position": stage.position,
        "state": stage.state,
        "progress": stage.progress,
        "message": stage.message,
        "units_done": stage.units_done,
        "units_total": stage.units_total,
        "started_at": stage.started_at,
        "ended_at": stage.ended_at,
        **reason_params(stage.reason),
    }


def reason_params(reason: Reason | None, prefix: str = "reason") -> dict[str, object]:
    return {
        f"{prefix}_code": None if reason is None else reason.code,
        f"{prefix}_message": None if reason is None else reason.message,
    }


def unit_of(row: Row) -> UnitRecord:
    return UnitRecord(
        stage=row["stage"],
        name=row["name"],
        state=UnitState(row["state"]),
        progress=row["progress"],
        fence=row["fence"],
        uri=maybe_out(row["uri"]),
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        result=from_json(row["result"]),
        host=row["host"],
        reason=reason_of(row),
    )


def unit_params(job_seq: int, fence: int, unit: UnitRecord) -> dict[str, object]:
    return {
        "job_seq": job_seq,
        "stage": unit.stage,
        "name": unit.name,
        "state": unit.state,
        "progress": unit.progress,
        "fence": fence,
        "uri": maybe_in(unit.uri),
        "size_bytes": unit.size_bytes,
        "sha256": unit.sha256,
        "result": maybe_json(unit.result),
        "host": unit.host,
        **reason_params(unit.reason),
    }


def attempt_of(row: Row) -> AttemptRecord:
    return AttemptRecord(
        number=row["fence"],
        fence=row["fence"],
        worker_id=row["worker_id"],
        host=row["host"],
        state=AttemptState(row["state"]),
        identity=row["identity"],
        pid=row["pid"],
        containment=row["containment"],
        log_path=maybe_out(row["log_path"]),
        reason=reason_of(row),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        peak_rss_bytes=row["peak_rss_bytes"],
        cpu_seconds=row["cpu_seconds"],
        units_reused=row["units_reused"],
        host_name=row["host_name"],
    )


def artifact_of(row: Row) -> Artifact:
    return Artifact(
        name=text_out(row["name"]),
        kind=row["kind"],
        path=text_out(row["path"]),
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        media=from_json(row["media"]),
    )


def artifact_params(job_seq: int, artifact: Artifact) -> dict[str, object]:
    return {
        "job_seq": job_seq,
        "name": text_in(artifact.name),
        "kind": artifact.kind,
        "path": text_in(artifact.path),
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "media": maybe_json(artifact.media),
    }


def event_of(row: Row) -> Event:
    return Event(
        id=row["id"],
        at=row["at"],
        job_id=row["job_id"],
        attempt=row["attempt"],
        kind=row["kind"],
        state_from=None if row["state_from"] is None else State(row["state_from"]),
        state_to=None if row["state_to"] is None else State(row["state_to"]),
        data=json.loads(row["data"]),
    )


def worker_of(row: Row) -> WorkerInfo:
    queues = from_json(row["queues"])
    return WorkerInfo(
        id=row["id"],
        host=row["host"],
        identity=row["identity"],
        keeper_identity=row["keeper_identity"],
        mark=row["mark"],
        queues=None if queues is None else tuple(queues),
        slots=row["slots"],
        pipelines=tuple(json.loads(row["pipelines"])),
        wake_path=row["wake_path"],
        started_at=row["started_at"],
        heartbeat_at=row["heartbeat_at"],
        expires_at=row["expires_at"],
        draining=bool(row["draining"]),
        host_name=row["host_name"],
        cpu=row["cpu"],
        memory_bytes=row["memory_bytes"],
        gpu=row["gpu"],
        stuck=row["stuck"],
    )


def worker_params(worker: WorkerInfo) -> dict[str, object]:
    return {
        "id": worker.id,
        "host": worker.host,
        "host_name": worker.host_name,
        "identity": worker.identity,
        "keeper_identity": worker.keeper_identity,
        "mark": worker.mark,
        "queues": maybe_json(worker.queues),
        "slots": worker.slots,
        "pipelines": to_json(worker.pipelines),
        "wake_path": worker.wake_path,
        "draining": int(worker.draining),
        "cpu": worker.cpu,
        "memory_bytes": worker.memory_bytes,
        "gpu": worker.gpu,
        "stuck": worker.stuck,
    }


# -- the point of no return: stored whole, so that any worker can roll it forward ------------------------
def outputs_json(outputs: Sequence[StagedOutput]) -> str:
    return _ENCODE([asdict(output) for output in outputs])


def outputs_of(text: str) -> tuple[StagedOutput, ...]:
    return tuple(StagedOutput(**values) for values in json.loads(text))


def end_json(end: AttemptEnd) -> str:
    return _ENCODE(asdict(end))


def end_of(text: str) -> AttemptEnd:
    values = json.loads(text)
    return AttemptEnd(
        attempt_state=AttemptState(values["attempt_state"]),
        attempt_reason=_reason(values["attempt_reason"]),
        job_state=State(values["job_state"]),
        job_reason=None if values["job_reason"] is None else _reason(values["job_reason"]),
        counters=Counters(**values["counters"]),
        run_at=values["run_at"],
        artifacts=tuple(Artifact(**artifact) for artifact in values["artifacts"]),
        peak_rss_bytes=values["peak_rss_bytes"],
        cpu_seconds=values["cpu_seconds"],
        containment=values["containment"],
        stages=tuple(_stage(stage) for stage in values["stages"]),
    )


def _reason(values: dict[str, Any]) -> Reason:
    return Reason(ReasonCode(values["code"]), values["message"])


def _stage(values: dict[str, Any]) -> StageRecord:
    reason = None if values["reason"] is None else _reason(values["reason"])
    return StageRecord(**{**values, "state": StageState(values["state"]), "reason": reason})
