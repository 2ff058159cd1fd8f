"""The store once more, small and slow: no SQL, no indexes. What it says, every store must say."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from unjam.errors import Conflict, Duplicate, LeaseLost, NotFound, PastReturn
from unjam.jobs.lifecycle import ACTIVE, ENDED, LIVE, RESUMABLE, SATISFIED, can, settle
from unjam.jobs.records import Lease
from unjam.jobs.states import Phase, Request, State
from unjam.store.claim import AGING, PATIENCE

SLOTS = 2
"""Of every worker."""
IDLE = (State.QUEUED, State.WAITING, State.PAUSED)


@dataclass
class ModelJob:
    """What the model knows of a job; `units` in the order of their commits."""

    id: str
    seq: int
    pipeline: str
    queue: str
    priority: int
    cpu: int
    gpu: int
    dedupe_key: str | None
    output_path: str | None
    after: dict[str, bool]
    """Job waited for, and whether that is settled."""
    inputs: tuple[str, ...]
    """Those of them whose results it works on."""
    run_at: float
    state: State = State.QUEUED
    phase: Phase | None = None
    requested: Request | None = None
    fence: int = 0
    worker: str | None = None
    host: str | None = None
    expires_at: float | None = None
    came_back_at: float = 0.0
    """When its last attempt ended."""
    by_dependency: bool = False
    """Failed only because another one had."""
    plan: tuple[str, str] | None = None
    """Digests: as proposed, and after revisions."""
    units: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    """Name to fence and host."""

    @property
    def seen(self) -> tuple[object, ...]:
        """What a reader of the store sees of it."""
        return self.state, self.phase, self.requested, self.fence, self.worker, self.expires_at, self.run_at


@dataclass
class ModelWorker:
    expires_at: float
    host: str
    draining: bool = False


@dataclass(frozen=True)
class Host:
    """Whose slots a claim counts."""

    host: str
    cpu: int
    gpu: int


@dataclass
class Model:
    """All jobs, workers and queues. A method that raises may leave a mess: it is called on a copy."""

    now: float
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    workers: dict[str, ModelWorker] = field(default_factory=dict)
    paused_queues: set[str] = field(default_factory=set)

    # -- looks -------------------------------------------------------------------------------------------
    def live(self, host: str | None = None) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state in LIVE and host in (None, job.host)]

    def expired(self) -> set[Lease]:
        return {Lease(j.id, j.fence) for j in self.live() if (j.expires_at or 0) <= self.now}

    def _rival(self, job: ModelJob) -> ModelJob | None:
        for other in self.jobs.values():
            if other is job or other.state not in ACTIVE:
                continue
            if job.dedupe_key is not None and other.dedupe_key == job.dedupe_key:
                return other
            if job.output_path is not None and other.output_path == job.output_path:
                return other
        return None

    def _get(self, job_id: str) -> ModelJob:
        if job_id not in self.jobs:
            raise NotFound(job_id)
        return self.jobs[job_id]

    def _held(self, lease: Lease) -> ModelJob:
        job = self.jobs.get(lease.job_id)
        if job is None or job.fence != lease.fence or job.state not in LIVE:
            raise LeaseLost(lease.job_id)
        return job

    # -- submit ------------------------------------------------------------------------------------------
    def submit(self, job: ModelJob) -> None:
        for upstream in job.after:
            self._get(upstream)
        other = self._rival(job)
        if other is not None:
            raise Duplicate(other.id, other.id)
        self.jobs[job.id] = job
        if job.after:
            job.state = State.WAITING
            self._settle_waiting(job)

    # -- claim -------------------------------------------------------------------------------------------
    def claim(
        self,
        worker: str,
        machine: Host,
        queues: Sequence[str] | None,
        pipelines: Sequence[str],
        limit: int,
        ttl: float,
    ) -> list[tuple[str, int]]:
        free = {"cpu": machine.cpu, "gpu": machine.gpu}
        for job in self.live(machine.host):
            free["cpu"] -= job.cpu
            free["gpu"] -= job.gpu
        due = [
            job
            for job in self.jobs.values()
            if job.state is State.QUEUED and job.run_at <= self.now and job.pipeline in pipelines
            and job.queue not in self.paused_queues and (queues is None or job.queue in queues)
            and not self._left_to_others(job, machine.host, ttl)
        ]  # fmt: skip
        taken: list[tuple[str, int]] = []
        starving = self._starving(worker, machine, queues, pipelines)
        for job in sorted(due, key=self._turn):
            if len(taken) == limit:
                break
            if starving is not None and self._turn(starving) < self._turn(job):
                needs = {"cpu": min(starving.cpu, machine.cpu), "gpu": min(starving.gpu, machine.gpu)}
                if any(need > free[name] for name, need in needs.items() if need):
                    break
                for name, need in needs.items():
                    free[name] -= need
                starving = None
            if job.gpu and not machine.gpu:
                continue
            needs = {"cpu": min(job.cpu, machine.cpu), "gpu": min(job.gpu, machine.gpu)}
            if all(need <= free[name] for name, need in needs.items() if need):
                for name, need in needs.items():
                    free[name] -= need
                job.state, job.phase, job.fence = State.RUNNING, Phase.STARTING, job.fence + 1
                job.worker, job.host, job.expires_at = worker, machine.host, self.now + ttl
                taken.append((job.id, job.fence))
            elif self.now - job.run_at > PATIENCE:
                break
        return taken

    def _starving(
        self, worker: str, machine: Host, queues: Sequence[str] | None, pipelines: Sequence[str]
    ) -> ModelJob | None:
        """The first that waits for room, where only neighbours serve it; these serve everything."""
        neighbours = [
            name
            for name, w in self.workers.items()
            if name != worker and w.host == machine.host and not w.draining and w.expires_at > self.now
            and sum(job.worker == name for job in self.live(machine.host)) < SLOTS
        ]  # fmt: skip
        waiting = [
            job
            for job in self.jobs.values()
            if job.state is State.QUEUED and self.now - job.run_at > PATIENCE
            and job.queue not in self.paused_queues and (not job.gpu or machine.gpu)
            and not (job.pipeline in pipelines and (queues is None or job.queue in queues))
        ]  # fmt: skip
        return min(waiting, key=self._turn) if neighbours and waiting else None

    def _left_to_others(self, job: ModelJob, host: str, ttl: float) -> bool:
        places = {where for _, where in job.units.values() if where is not None}
        return bool(places) and host not in places and max(job.run_at, job.came_back_at) > self.now - ttl

    def _turn(self, job: ModelJob) -> tuple[float, float, int]:
        return -job.priority - (self.now - job.run_at) // AGING, job.run_at, job.seq

    def renew(self, worker: str, leases: Iterable[Lease], ttl: float) -> set[Lease]:
        kept = set()
        for lease in leases:
            job = self.jobs.get(lease.job_id)
            if job is None or (job.fence, job.worker) != (lease.fence, worker) or job.state not in LIVE:
                continue
            if (job.expires_at or 0) > self.now:
                job.expires_at = self.now + ttl
                kept.add(lease)
        return kept

    # -- work --------------------------------------------------------------------------------------------
    def touch(self, lease: Lease) -> None:
        """Any write that changes nothing which the model knows."""
        self._held(lease)

    def progress(self, lease: Lease) -> bool:
        """False for a stale one."""
        try:
            job = self._held(lease)
        except LeaseLost:
            return False
        if job.phase not in (None, Phase.PUBLISHING):
            job.phase = Phase.WORKING
        return True

    def put_plan(self, lease: Lease, digest: str, host: str) -> list[str]:
        job = self._held(lease)
        if job.plan is None:
            job.plan = (digest, digest)
        elif digest not in job.plan:
            job.plan, job.units = (digest, digest), {}
        return self._holding(job, host)

    def revise_plan(self, lease: Lease, digest: str) -> list[str]:
        job = self._held(lease)
        if job.plan is None:
            raise Conflict("no plan")
        job.plan = (job.plan[0], digest)
        assert job.host is not None
        return self._holding(job, job.host)

    def _holding(self, job: ModelJob, host: str) -> list[str]:
        return [name for name, (_, where) in job.units.items() if where in (None, host)]

    def commit_unit(self, lease: Lease, name: str, host: str | None) -> None:
        job = self._held(lease)
        if name in job.units and job.units[name][1] in (None, host):
            if job.units[name] == (lease.fence, host):
                return
            raise Conflict(f"{name} is committed")
        job.units.pop(name, None)
        job.units[name] = (lease.fence, host)

    def void_units(self, lease: Lease, names: Sequence[str]) -> int:
        job = self._held(lease)
        return sum(job.units.pop(name, None) is not None for name in names)

    # -- ends --------------------------------------------------------------------------------------------
    def begin_publish(self, lease: Lease) -> bool:
        job = self._held(lease)
        if job.requested is Request.CANCEL:
            return False
        job.phase, job.requested = Phase.PUBLISHING, None
        return True

    def end(self, lease: Lease, wanted: State, *, unlease: bool = False) -> None:
        job = self._held(lease)
        if unlease and job.phase is Phase.PUBLISHING:
            raise PastReturn(job.id)
        state = settle(job.state, job.requested, wanted)
        if not can(job.state, state):
            raise Conflict(f"{job.state} to {state}")
        self._leave(job, state)
        if state in ENDED:
            self._settle_dependants(job)

    def _leave(self, job: ModelJob, state: State) -> None:
        if job.state in LIVE:
            job.came_back_at = self.now
        job.state, job.phase, job.requested, job.by_dependency = state, None, None, False
        job.worker = job.host = job.expires_at = None

    # -- dependants --------------------------------------------------------------------------------------
    def _waiters(self, upstream: str) -> Iterator[ModelJob]:
        return (job for job in self.jobs.values() if job.after.get(upstream) is False)

    def _settle_dependants(self, ended: ModelJob) -> None:
        for job in self._waiters(ended.id):
            if ended.state in SATISFIED:
                job.after[ended.id] = True
                self._release(job)
            elif job.state is State.WAITING:
                self._fail(job)

    def _fail(self, job: ModelJob) -> None:
        self._leave(job, State.FAILED)
        job.by_dependency = True
        self._settle_dependants(job)

    def _release(self, job: ModelJob) -> None:
        if job.state is State.WAITING and all(job.after.values()):
            job.state, job.run_at = State.QUEUED, max(job.run_at, self.now)

    def _settle_waiting(self, job: ModelJob) -> None:
        waits_for = [self.jobs.get(upstream) for upstream, settled in job.after.items() if not settled]
        for upstream in waits_for:
            if upstream is not None and upstream.state in SATISFIED:
                job.after[upstream.id] = True
        if any(up is None or up.state in ENDED - SATISFIED for up in waits_for):
            self._fail(job)
        else:
            self._release(job)

    # -- requests ----------------------------------------------------------------------------------------
    def cancel(self, job_id: str) -> State:
        job = self._get(job_id)
        if job.state in IDLE:
            self._leave(job, State.CANCELLED)
            self._settle_dependants(job)
        elif job.state is State.RUNNING and job.phase is not Phase.PUBLISHING:
            job.state, job.phase, job.requested = State.CANCELLING, None, Request.CANCEL
        return job.state

    def pause(self, job_id: str) -> State:
        job = self._get(job_id)
        if job.state in (State.QUEUED, State.WAITING):
            job.state = State.PAUSED
        elif job.state is State.RUNNING and job.phase is not Phase.PUBLISHING and job.requested is None:
            job.requested = Request.PAUSE
        return job.state

    def resume(self, job_ids: Sequence[str], drop: Sequence[str] | None = ()) -> dict[str, set[str]]:
        """`drop` units (None: all) of what goes on; which these were."""
        dropped: dict[str, set[str]] = {}
        for job in sorted((self._get(id) for id in set(job_ids)), key=lambda job: job.seq):
            if job.requested is Request.PAUSE:
                job.requested = None
            elif job.state in RESUMABLE:
                rival = self._rival(job)
                if rival is not None:
                    raise Duplicate(rival.id, rival.id)
                waits = not all(job.after.values())
                self._requeue(job, State.WAITING if waits else State.QUEUED)
                if waits:
                    self._settle_waiting(job)
                if job.state in ACTIVE:
                    self._revive(job)
            forgets = drop != () and job.state in ACTIVE
            dropped[job.id] = self.drop_units(job.id, drop) if forgets else set()
        return dropped

    def _requeue(self, job: ModelJob, state: State) -> None:
        self._leave(job, state)
        job.run_at = self.now

    def _revive(self, upstream: ModelJob) -> None:
        """What failed only because of it waits for it again."""
        for job in self._waiters(upstream.id):
            if job.state is not State.FAILED or not job.by_dependency or self._rival(job) is not None:
                continue
            others = [self.jobs.get(id) for id, settled in job.after.items() if not settled]
            if all(other is not None and other.state in ACTIVE for other in others):
                self._requeue(job, State.WAITING)
                self._revive(job)

    def drop_units(self, job_id: str, names: Sequence[str] | None) -> set[str]:
        job = self._get(job_id)
        if job.state in LIVE:
            raise Conflict(job.id)
        gone = set(job.units) if names is None else set(job.units) & set(names)
        for name in gone:
            del job.units[name]
        return gone

    def remove(self, job_id: str) -> list[str]:
        job = self._get(job_id)
        needed = any(job_id in one.inputs and one.state in ACTIVE for one in self.jobs.values())
        if job.state in ACTIVE or needed:
            raise Conflict(job.id)
        del self.jobs[job_id]
        return [job_id]

    # -- workers -----------------------------------------------------------------------------------------
    def heartbeat(self, worker: str, ttl: float, draining: bool) -> None:
        if worker not in self.workers:
            raise NotFound(worker)
        self.workers[worker] = replace(self.workers[worker], expires_at=self.now + ttl, draining=draining)

    def check_out(self, worker: str) -> None:
        if worker in self.workers:
            if any(job.worker == worker for job in self.live()):
                self.workers[worker] = replace(self.workers[worker], expires_at=self.now, draining=True)
            else:
                del self.workers[worker]

    def forget(self, worker: str) -> None:
        if worker in self.workers:
            if any(job.worker == worker for job in self.live()):
                raise Conflict(worker)
            del self.workers[worker]
