"""Jobs that their worker has lost or lets go of: freed or waited for, so that the same work can go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from unjam.client.follow import paces
from unjam.client.owners import proven_dead
from unjam.jobs.lifecycle import LIVE
from unjam.jobs.machines import WorkerInfo
from unjam.jobs.model import Job
from unjam.jobs.states import Request
from unjam.settings import Settings
from unjam.store.port import Store
from unjam.supervise.host import host_id
from unjam.worker.recovery import reap_expired, recover

PATIENCE = 5.0
"""Seconds beyond the grace until a job that is being let go of counts as running after all."""

LINGER = 0.5
"""Seconds in which a worker whose run was killed a moment ago has surely said that it is stopping."""


def hand_over(store: Store, settings: Settings, job_ids: Sequence[str], tell: Callable[[str], None]) -> bool:
    """Free what dead workers held and wait for what is being stopped. True when the jobs may have moved.

    A run that was killed leaves its job with a worker that is draining, or dead too: the same command a
    moment later shall go on with it and not be told that somebody does this already.
    """
    moved = False
    began = time.monotonic()
    for pace in paces():
        found = [job for job in store.get_many(job_ids) if job.state in LIVE]
        workers = store.workers()
        now = store.now()
        moved |= free_lost(store, settings, found)
        going = [job for job in found if _lost(job, workers, now) or _let_go(job, workers)]
        waited = time.monotonic() - began
        if not found or waited >= (settings.grace + PATIENCE if going else LINGER):
            return moved or not found
        if going and not moved:
            tell(f"{going[0].spec.name}: waiting until {going[0].id} has stopped")
            moved = True
        time.sleep(pace)
    raise AssertionError("paces never end")


def free_lost(store: Store, settings: Settings, jobs: Sequence[Job]) -> bool:
    """Free what workers hold that are proven dead, or whose lease ran out, if any of these jobs is among it:
    where no worker is left nobody else would. True when there was any."""
    workers, now = store.workers(), store.now()
    if not any(job.state in LIVE and _lost(job, workers, now) for job in jobs):
        return False
    here = host_id(settings.home, settings.host_id)
    recover(store, settings, here)
    reap_expired(store, settings, here)
    return True


def _owner(job: Job, workers: Sequence[WorkerInfo]) -> WorkerInfo | None:
    return next((worker for worker in workers if worker.id == job.worker_id), None)


def _lost(job: Job, workers: Sequence[WorkerInfo], now: float) -> bool:
    owner = _owner(job, workers)
    if owner is not None and proven_dead(owner):
        return True
    return job.lease_expires_at is not None and job.lease_expires_at <= now


def _let_go(job: Job, workers: Sequence[WorkerInfo]) -> bool:
    owner = _owner(job, workers)
    return job.requested is Request.PAUSE or (owner is not None and owner.draining)
