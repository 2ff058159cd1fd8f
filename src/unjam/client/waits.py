"""What happens next to a job and why it waits, in words that are true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from unjam.client.owners import can_take, live, proven_dead
from unjam.jobs.lifecycle import ENDED, LIVE
from unjam.jobs.machines import WorkerInfo
from unjam.jobs.model import Job
from unjam.jobs.progress import WAITING_FOR
from unjam.jobs.records import AttemptRecord
from unjam.jobs.states import Phase, Request, State
from unjam.measures import show_duration, show_size
from unjam.store.attachments import ABANDONED
from unjam.store.port import JobFilter, Store

SILENT = 5.0
"""Seconds without an advance after which the next thing to be expected is the stall limit."""
NAMED = 3
"""Jobs that are named in one sentence; more are counted."""
LOOK = 200
"""Running jobs that are looked at for who holds what."""


class Cause(StrEnum):
    """Why it is not done yet, for programs; `Next.why` says the same to people."""

    BACKOFF = "backoff"
    QUEUE_PAUSED = "queue_paused"
    NO_WORKER = "no_worker"
    SLOTS = "slots"
    CPU = "cpu"
    MEMORY = "memory"
    GPU = "gpu"
    UNITS = "units"
    """Its finished units lie on machines that are away; another one takes it later, and does them again."""
    TURN = "turn"
    """A worker has room for it; it looks for jobs about once a second, or has others in front of it."""
    DEPENDENCY = "dependency"
    PAUSED = "paused"
    ABANDONED = "abandoned"
    WORKER_LOST = "worker_lost"
    CANCELLING = "cancelling"
    PAUSING = "pausing"
    PUBLISHING = "publishing"
    STALLED = "stalled"
    STALL_LIMIT = "stall_limit"
    TIME_LIMIT = "time_limit"
    TOKEN = "token"
    WORKING = "working"


@dataclass(frozen=True, slots=True)
class Next:
    """The next step of a job: what, when (store clock, None: not known), why not before."""

    action: str
    at: float | None
    cause: Cause
    why: str


@dataclass(frozen=True)
class Surroundings:
    """What decides when a job goes on, besides the job itself."""

    now: float
    workers: Sequence[WorkerInfo] = ()
    paused_queues: Mapping[str, str] = field(default_factory=dict)
    """By whom."""
    running: Sequence[Job] = ()
    blockers: Callable[[str], Sequence[Job]] = lambda job_id: ()
    """The unfinished jobs that a waiting job waits for."""
    unit_hosts: Callable[[str], Sequence[str]] = lambda job_id: ()
    """Where the finished units of a job lie: machines, once for each unit."""
    last_attempt: Callable[[str], AttemptRecord | None] = lambda job_id: None

    @cached_property
    def living(self) -> list[WorkerInfo]:
        return live(self.workers, self.now)

    def host_of(self, worker_id: str | None) -> str | None:
        return next((w.host for w in self.workers if w.id == worker_id), None)


def look_around(store: Store) -> Surroundings:
    """The surroundings of every job of this store, as they are now."""

    def last_attempt(job_id: str) -> AttemptRecord | None:
        attempts = store.attempts(job_id)
        return attempts[-1] if attempts else None

    return Surroundings(
        now=store.now(),
        workers=store.workers(),
        paused_queues=store.paused_queues(),
        running=store.list_jobs(JobFilter(states=LIVE), limit=LOOK),
        blockers=lambda job_id: store.get_many(store.blocked_by(job_id)),
        unit_hosts=lambda job_id: [u.host for u in store.units(job_id) if u.host],
        last_attempt=last_attempt,
    )


def next_step(job: Job, around: Surroundings) -> Next | None:
    """None for a job that has ended."""
    if job.state in ENDED:
        return None
    match job.state:
        case State.QUEUED:
            return _queued(job, around)
        case State.WAITING:
            return Next("start", None, Cause.DEPENDENCY, _waits_for(around.blockers(job.id)))
        case State.PAUSED:
            cause = Cause.ABANDONED if job.reason == ABANDONED else Cause.PAUSED
            why = job.reason.message if job.reason else "paused"
            return Next("resume", None, cause, f"{why}; `unjam resume {job.id}` goes on")
    return _live(job, around)


# -- waiting to start ---------------------------------------------------------------------------------------
def _waits_for(blockers: Sequence[Job]) -> str:
    told = []
    for other in blockers[:NAMED]:
        how = other.state.value
        if other.state is State.PAUSED:
            how = f"paused: `unjam resume {other.id}`"
        told.append(f"{other.id} ({how})")
    return f"waits for {_listed(told, len(blockers))}" if told else "waits for another job"


def _queued(job: Job, around: Surroundings) -> Next:
    if job.run_at > around.now:
        left = show_duration(job.run_at - around.now)
        last = f": {job.reason.message}" if job.reason else ""
        told = f"backs off for {left} after attempt {job.counters.attempts}{last}"
        return Next("retry", job.run_at, Cause.BACKOFF, told)
    queue = job.spec.queue
    if queue in around.paused_queues:
        by = around.paused_queues[queue]
        told = f"queue {queue} is paused by {by}; `unjam queues resume {queue}`"
        return Next("start", None, Cause.QUEUE_PAUSED, told)
    takers = [w for w in around.living if can_take(w, job.spec.pipeline, queue)]
    if not takers:
        return Next("start", None, Cause.NO_WORKER, _no_worker(job, around))
    if job.spec.needs.gpu and not any(worker.gpu for worker in takers):
        told = f"no_worker: none of {_count(len(takers), 'worker')} has a GPU, and it needs one"
        return Next("start", None, Cause.NO_WORKER, told)
    places = around.unit_hosts(job.id) if job.fence else ()
    if places and not any(worker.host in places for worker in takers):
        where = _units_on(places, around)
        until = _left_until(job, takers, around)
        if until > around.now:
            left = show_duration(until - around.now)
            told = f"{where}: left to it for {left}, then another machine takes it and does them again"
            return Next("start", until, Cause.UNITS, told)
        cause, why = _shortage(job, takers, around)
        return Next("start", None, cause, f"{why}; does {where} again")
    cause, why = _shortage(job, takers, around)
    return Next("start", None, cause, why)


def _no_worker(job: Job, around: Surroundings) -> str:
    alive = around.living
    if not alive:
        return "no_worker: no worker is running; start one with `unjam worker`"
    if all(w.draining for w in alive):
        return "no_worker: the only workers are draining; start one with `unjam worker`"
    open_ones = [w for w in alive if not w.draining]
    if not any(job.spec.pipeline in w.pipelines for w in open_ones):
        return f"no_worker: none of {_count(len(open_ones), 'worker')} knows the pipeline {job.spec.pipeline}"
    return f"no_worker: none of {_count(len(open_ones), 'worker')} takes jobs of queue {job.spec.queue}"


def _shortage(job: Job, takers: Sequence[WorkerInfo], around: Surroundings) -> tuple[Cause, str]:
    """What is missing, where anything is missing everywhere: a slot, or room on the machine."""
    found = [_missing(job, worker, around) for worker in takers]
    if None in found:
        return Cause.TURN, "a worker has room for it and takes it when its turn comes"
    full = [one for one in found if one is not None]
    room = [one for one in full if one[0] is not Cause.SLOTS]
    if room:
        return room[0]
    slots = sum(worker.slots for worker in takers)
    holders = [j for j in around.running if any(j.worker_id == w.id for w in takers)]
    told = f"waits for one of {_count(slots, 'slot')} of {_count(len(takers), 'worker')}{_held_by(holders)}"
    if stuck := sum(worker.stuck for worker in takers):
        told += f"; {_count(stuck, 'slot')} held by processes that cannot be killed"
    return Cause.SLOTS, told


def _missing(job: Job, worker: WorkerInfo, around: Surroundings) -> tuple[Cause, str] | None:
    """Why this worker cannot take it now; counted as a claim does it."""
    mine = [j for j in around.running if j.worker_id == worker.id]
    if len(mine) + worker.stuck >= worker.slots:
        return Cause.SLOTS, ""
    there = [j for j in around.running if around.host_of(j.worker_id) == worker.host]
    needs, host = job.spec.needs, worker.host_name or worker.host
    for cause, need, whole, taken, show in (
        (Cause.GPU, needs.gpu, worker.gpu, [j.spec.needs.gpu for j in there], str),
        (Cause.CPU, needs.cpu, worker.cpu, [j.spec.needs.cpu for j in there], str),
        (
            Cause.MEMORY,
            needs.memory_bytes,
            worker.memory_bytes,
            [j.spec.needs.memory_bytes for j in there],
            show_size,
        ),
    ):
        wanted = min(need, whole)
        free = whole - sum(min(one, whole) for one in taken)
        if wanted and wanted > free:
            what = {Cause.GPU: "GPU", Cause.CPU: "CPU slots", Cause.MEMORY: "memory"}[cause]
            asked = f" (asked for {show(need)}, which is more than it has)" if need > whole else ""
            told = f"needs {show(wanted)} of {show(whole)} {what} of {host}{asked}, {show(max(0, free))} free"
            return cause, told + _held_by([j for j, one in zip(there, taken, strict=True) if one])
    return None


def _held_by(jobs: Sequence[Job]) -> str:
    return f": held by {_listed([j.id for j in jobs[:NAMED]], len(jobs))}" if jobs else ""


def _units_on(places: Sequence[str], around: Surroundings) -> str:
    names = {w.host: w.host_name or w.host for w in around.workers}
    where = ", ".join(sorted({names.get(place, place) for place in places}))
    return f"{_count(len(places), 'finished unit')} on {where}"


def _left_until(job: Job, takers: Sequence[WorkerInfo], around: Surroundings) -> float:
    """When a worker of another machine than those with its units takes it; counted as a claim does it."""
    last = around.last_attempt(job.id)
    came_back_at = max(job.run_at, last.ended_at or 0.0) if last is not None else job.run_at
    return came_back_at + min(worker.expires_at - worker.heartbeat_at for worker in takers)


# -- live ---------------------------------------------------------------------------------------------------
def _live(job: Job, around: Surroundings) -> Next:
    if (lost := _lost(job, around)) is not None:
        return Next("recover", None, Cause.WORKER_LOST, lost)
    if job.state is State.CANCELLING:
        return Next("cancel", None, Cause.CANCELLING, "cancelled when its processes are gone")
    if job.phase is Phase.PUBLISHING:
        return Next("finish", None, Cause.PUBLISHING, "its outputs are taking their names")
    if job.requested is Request.PAUSE:
        return Next("pause", None, Cause.PAUSING, "paused at the next finished unit, or after the grace")
    if job.stalled:
        return Next("stop", None, Cause.STALLED, f"stalled: {job.stalled}")
    if job.message.startswith(WAITING_FOR):
        return Next("work", None, Cause.TOKEN, job.message)
    return min(_limits(job, around), key=lambda step: (step.at is None, step.at or 0.0))


def _lost(job: Job, around: Surroundings) -> str | None:
    """Why its owner does not count any more; None while it does."""
    who = "the next worker, or `unjam recover`, takes it over"
    owner = next((w for w in around.workers if w.id == job.worker_id), None)
    if owner is not None and proven_dead(owner):
        return f"its worker {owner.id} is gone; {who}"
    if job.lease_expires_at is not None and job.lease_expires_at <= around.now:
        silent = show_duration(around.now - (job.heartbeat_at or job.lease_expires_at))
        who = "a worker takes it over" if around.living else f"no worker is running; {who}"
        return (
            f"its worker has been silent for {silent}; {who} (after an outage of the store: one lease later)"
        )
    return None


def _limits(job: Job, around: Surroundings) -> list[Next]:
    """Its end, and the limits that may come before."""
    finish = None if job.eta_seconds is None else around.now + job.eta_seconds
    steps = [Next("finish", finish, Cause.WORKING, job.message or (job.phase or "running"))]
    timeout = job.spec.limits.timeout
    last = around.last_attempt(job.id) if timeout is not None else None
    if timeout is not None and last is not None and last.started_at is not None:
        told = f"limit of {show_duration(timeout)} an attempt"
        steps.append(Next("timeout", last.started_at + timeout, Cause.TIME_LIMIT, told))
    if job.stall_at is not None and job.advanced_at is not None:
        silent = around.now - job.advanced_at
        if silent >= SILENT:
            left = show_duration(max(0.0, job.stall_at - around.now))
            told = f"no advance for {show_duration(silent)}; stopped as stalled in {left} unless it goes on"
            steps.append(Next("stop", job.stall_at, Cause.STALL_LIMIT, told))
    return steps


def _listed(names: Sequence[str], number: int) -> str:
    more = f" and {number - len(names)} more" if number > len(names) else ""
    return ", ".join(names) + more


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"
