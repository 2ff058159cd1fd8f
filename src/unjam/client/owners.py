"""Who runs a job now, and which live worker could take one: leases, check-ins, proof where possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unjam.jobs.lifecycle import LIVE
from unjam.jobs.machines import WorkerInfo
from unjam.jobs.model import Job
from unjam.supervise.identity import Identity, is_alive


def proven_dead(worker: WorkerInfo) -> bool:
    """Is it certain that this worker is gone, and the keeper that would start it again? Seen from another
    machine, or after a restart of its own, never: its lease decides then."""
    identities = [worker.identity, *([worker.keeper_identity] if worker.keeper_identity else [])]
    return all(_dead(text) for text in identities)


def _dead(text: str) -> bool:
    try:
        return not is_alive(Identity.from_json(text))
    except ValueError:
        return False


def runs_now(job: Job, workers: Iterable[WorkerInfo], now: float) -> bool:
    """Does a worker that may be alive hold this job?"""
    if job.state not in LIVE or job.lease_expires_at is None or job.lease_expires_at <= now:
        return False
    owner = next((w for w in workers if w.id == job.worker_id), None)
    return owner is None or not proven_dead(owner)


def live(workers: Iterable[WorkerInfo], now: float) -> list[WorkerInfo]:
    """Workers that checked in lately and are not proven dead."""
    return [w for w in workers if w.expires_at > now and not proven_dead(w)]


def can_take(worker: WorkerInfo, pipeline: str, queue: str) -> bool:
    """Would this worker claim a job of that pipeline and queue?"""
    return (
        not worker.draining
        and pipeline in worker.pipelines
        and (worker.queues is None or queue in worker.queues)
    )


def suitable(workers: Sequence[WorkerInfo], job: Job, now: float) -> bool:
    """Is there a live worker for this job?"""
    return any(can_take(w, job.spec.pipeline, job.spec.queue) for w in live(workers, now))
