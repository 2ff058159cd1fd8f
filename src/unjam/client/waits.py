"""What happens next to a job and why it waits, in words that are true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unjam.client.owners import can_take, live, proven_dead
from unjam.jobs.lifecycle import ENDED
from unjam.jobs.model import Job, QueueInfo, Request, State, WorkerInfo
from unjam.measures import show_duration


@dataclass(frozen=True, slots=True)
class Next:
    """The next step of a job: what, when (store clock, None: not known) and why not before."""

    action: str
    at: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What decides when a job goes on, besides the job itself."""

    now: float
    workers: Sequence[WorkerInfo]
    queues: Sequence[QueueInfo]
    blocked_by: Sequence[str] = ()
    """Unfinished jobs that a waiting job waits for."""
    attempt_started_at: float | None = None


def next_step(job: Job, around: Surroundings) -> Next | None:
    """None for a job that has ended."""
    if job.state in ENDED:
        return None
    match job.state:
        case State.QUEUED:
            return _queued(job, around)
        case State.WAITING:
            names = ", ".join(around.blocked_by) or "another job"
            return Next("start", None, f"waits for {names}")
        case State.PAUSED:
            why = job.reason.message if job.reason else "paused"
            return Next("resume", None, f"{why}; `unjam resume {job.id}` goes on")
    return _live(job, around)


def _queued(job: Job, around: Surroundings) -> Next:
    if job.run_at > around.now:
        left = show_duration(job.run_at - around.now)
        last = f": {job.reason.message}" if job.reason else ""
        return Next("retry", job.run_at, f"backs off for {left} after attempt {job.counters.attempts}{last}")
    queue = next((q for q in around.queues if q.name == job.spec.queue), None)
    if queue is not None and queue.paused:
        by = f" by {queue.paused_by}" if queue.paused_by else ""
        return Next(
            "start", None, f"queue {job.spec.queue} is paused{by}; `unjam queues resume {job.spec.queue}`"
        )
    takers = [w for w in live(around.workers, around.now) if can_take(w, job.spec.pipeline, job.spec.queue)]
    if not takers:
        return Next("start", None, _no_worker(job, around))
    slots = sum(w.slots for w in takers)
    return Next("start", None, f"waits for one of {_count(slots, 'slot')} of {_count(len(takers), 'worker')}")


def _no_worker(job: Job, around: Surroundings) -> str:
    alive = live(around.workers, around.now)
    if not alive:
        return "no_worker: no worker is running; start one with `unjam worker`"
    if all(w.draining for w in alive):
        return "no_worker: the only workers are draining; start one with `unjam worker`"
    if not any(job.spec.pipeline in w.pipelines for w in alive):
        return f"no_worker: none of {_count(len(alive), 'worker')} knows the pipeline {job.spec.pipeline}"
    return f"no_worker: none of {_count(len(alive), 'worker')} takes jobs of queue {job.spec.queue}"


def _live(job: Job, around: Surroundings) -> Next:
    owner = next((w for w in around.workers if w.id == job.worker_id), None)
    if owner is not None and proven_dead(owner):
        return Next(
            "recover",
            None,
            f"its worker {owner.id} is gone; the next worker, or `unjam recover`, takes it over",
        )
    if job.lease_expires_at is not None and job.lease_expires_at <= around.now:
        silent = show_duration(around.now - (job.heartbeat_at or job.lease_expires_at))
        return Next(
            "recover", None, f"its worker has been silent for {silent}; the next worker takes it over"
        )
    if job.state is State.CANCELLING:
        return Next("cancel", None, "cancelled when its processes are gone")
    if job.requested is Request.PAUSE:
        return Next("pause", None, "paused at the next finished unit, or after the grace")
    if job.stalled:
        return Next("stop", None, f"stalled: {job.stalled}")
    finish = None if job.eta_seconds is None else around.now + job.eta_seconds
    timeout = job.spec.limits.timeout
    if timeout is not None and around.attempt_started_at is not None:
        end = around.attempt_started_at + timeout
        if finish is None or end < finish:
            return Next("timeout", end, f"limit of {show_duration(timeout)} an attempt")
    return Next("finish", finish, job.message or (job.phase or "running"))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"
