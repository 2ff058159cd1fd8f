"""A job as JSON: the one shape that the command line, the API and the events show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from unjam.client.waits import Next, Surroundings, look_around, next_step
from unjam.errors import NotFound
from unjam.jobs.model import InputFile, Job
from unjam.jobs.reasons import Reason
from unjam.jobs.records import Artifact, AttemptRecord, Event, StageRecord, UnitRecord
from unjam.store.port import Store


def job_view(store: Store, job_id: str, *, units: bool = False) -> dict[str, Any]:
    """Everything known of a job. `units` adds the list of units. Raises NotFound."""
    job = store.get(job_id)
    if job is None:
        raise NotFound(f"{job_id}: no such job")
    attempts = store.attempts(job_id)
    around = look_around(store)
    artifacts = store.artifacts(job_id)
    view = _head(job, next_step(job, around)) | {
        "stages": [_stage(stage) for stage in store.stages(job_id)],
        "attempts": [_attempt(attempt) for attempt in attempts],
        "artifacts": [_artifact(artifact) for artifact in artifacts],
        "usage": dict(job.usage) if job.usage else None,
        "heartbeat_age_seconds": _age(around.now, job.heartbeat_at),
        "advanced_age_seconds": _age(around.now, job.advanced_at),
        "lease_expires_in_seconds": _left(around.now, job.lease_expires_at),
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
    }
    if units:
        view["units"] = [_unit(unit, artifacts) for unit in store.units(job_id)]
    return view


def row_view(job: Job, around: Surroundings) -> dict[str, Any]:
    """A job in a list: what its own row holds, and what happens next."""
    now = around.now
    view = _head(job, next_step(job, around))
    for name in ("inputs", "params"):
        del view[name]
    return view | {
        "name": job.spec.name,
        "message": job.message,
        "heartbeat_age_seconds": _age(now, job.heartbeat_at),
        "advanced_age_seconds": _age(now, job.advanced_at),
        "lease_expires_in_seconds": _left(now, job.lease_expires_at),
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
    }


def event_view(event: Event) -> dict[str, Any]:
    """One line of history."""
    return {
        "id": event.id,
        "at": iso(event.at),
        "job_id": event.job_id,
        "attempt": event.attempt,
        "kind": event.kind,
        "state_from": event.state_from,
        "state_to": event.state_to,
        "data": dict(event.data),
    }


def progress_view(job: Job, now: float) -> dict[str, Any]:
    """How far a running job is, in the stream of events."""
    return {
        "id": None,
        "at": iso(now),
        "job_id": job.id,
        "kind": "progress",
        "state": job.state,
        "phase": job.phase,
        "progress": round(job.progress, 4),
        "eta_seconds": job.eta_seconds,
        "message": job.message,
        "stalled": job.stalled,
        "heartbeat_age_seconds": _age(now, job.heartbeat_at),
    }


def iso(at: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _head(job: Job, upcoming: Next | None) -> dict[str, Any]:
    spec = job.spec
    return {
        "id": job.id,
        "pipeline": spec.pipeline,
        "pipeline_version": spec.pipeline_version,
        "name": spec.name,
        "state": job.state,
        "phase": job.phase,
        "reason": reason_view(job.reason),
        "requested": job.requested,
        "stalled": job.stalled,
        "progress": round(job.progress, 4),
        "eta_seconds": job.eta_seconds,
        "message": job.message,
        "next": _next(upcoming),
        "inputs": [_input(source) for source in spec.inputs],
        "params": dict(spec.params),
        "output_dir": spec.output_dir,
        "output_path": spec.output_path,
        "queue": spec.queue,
        "priority": spec.priority,
        "tags": dict(spec.tags),
        "batch_id": job.batch_id,
        "after": list(spec.after),
        "dedupe_key": spec.dedupe_key,
        "worker_id": job.worker_id,
    }  # fmt: skip


def _next(upcoming: Next | None) -> dict[str, Any] | None:
    if upcoming is None:
        return None
    return {
        "action": upcoming.action,
        "at": iso(upcoming.at),
        "cause": upcoming.cause,
        "why": upcoming.why,
    }


def reason_view(reason: Reason | None) -> dict[str, str] | None:
    return None if reason is None else {"code": reason.code, "message": reason.message}


def _input(source: InputFile) -> dict[str, Any]:
    return {
        "name": source.name,
        "uri": source.uri,
        "source": source.source,
        "size_bytes": source.size_bytes,
        "mtime": None if source.mtime_ns is None else iso(source.mtime_ns / 1e9),
        "media": _plain(source.media),
    }


def _stage(stage: StageRecord) -> dict[str, Any]:
    return {
        "name": stage.name,
        "state": stage.state,
        "progress": round(stage.progress, 4),
        "message": stage.message,
        "units": {"done": stage.units_done, "total": stage.units_total},
        "started_at": iso(stage.started_at),
        "ended_at": iso(stage.ended_at),
        "reason": reason_view(stage.reason),
    }


def _unit(unit: UnitRecord, artifacts: Sequence[Artifact]) -> dict[str, Any]:
    made = next((a.name for a in artifacts if a.sha256 == unit.sha256 and unit.sha256), None)
    return {
        "name": unit.name,
        "stage": unit.stage,
        "state": unit.state,
        "progress": round(unit.progress, 4),
        "reason": reason_view(unit.reason),
        "artifact": made,
    }


def _attempt(attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "fence": attempt.fence,
        "worker_id": attempt.worker_id,
        "host": attempt.host_name or attempt.host,
        "state": attempt.state,
        "reason": reason_view(attempt.reason),
        "containment": attempt.containment,
        "pid": attempt.pid,
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "peak_rss_bytes": attempt.peak_rss_bytes,
        "cpu_seconds": attempt.cpu_seconds,
        "units_reused": attempt.units_reused,
        "log_path": attempt.log_path,
    }


def _artifact(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "kind": artifact.kind,
        "path": artifact.path,
        "url": None,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "media": _plain(artifact.media),
    }


def _plain(media: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if media is None else dict(media)


def _age(now: float, at: float | None) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)


def _left(now: float, at: float | None) -> float | None:
    return None if at is None else round(at - now, 3)
