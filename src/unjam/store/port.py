"""The store as the rest of unjam sees it: what can be asked, what is promised, what is raised.

Every method is one autocommit transaction. Every method that names a `Lease` raises `LeaseLost` and
changes nothing when that fence is no longer the job's (INV-FENCE). Every state change writes one event in
the same transaction. Times are seconds on the store's own clock, never the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from unjam.jobs.machines import Capacity, QueueInfo, WorkerInfo
from unjam.jobs.model import InputFile, Job, NewBatch, NewJob, Terms, Watcher
from unjam.jobs.reasons import Reason
from unjam.jobs.records import (
    Artifact,
    AttemptEnd,
    AttemptRecord,
    Claim,
    Due,
    Event,
    HeldLease,
    Lease,
    PlanOutcome,
    ProgressUpdate,
    Publishing,
    StagedOutput,
    StageRecord,
    UnitRecord,
)
from unjam.jobs.states import State


class OnDuplicate(StrEnum):
    """What to do when the dedupe key or the output name belongs to an active job."""

    REFUSE = "refuse"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Submitted:
    """Outcome of one submission: the id of the job that does this work, and whether it was made now."""

    job_id: str
    created: bool


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What `list_jobs` selects. Empty fields select everything; fields are combined with AND."""

    states: frozenset[State] = frozenset()
    pipeline: str | None = None
    queue: str | None = None
    batch_id: str | None = None
    worker_id: str | None = None
    tag: tuple[str, str] | None = None
    text: str | None = None
    """Part of the job's name."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A live job whose lease has run out, or whose worker is asked about: who held it."""

    lease: Lease
    attempt: int
    worker: WorkerInfo | None
    attempt_identity: str | None
    publishing: bool
    lease_expires_at: float
    units_committed: bool
    """Did this attempt commit a unit (restores the loss and crash budgets)."""
    job: Job


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """What became of a request for one job: its state after the call."""

    job_id: str
    state: State
    changed: bool
    revived: tuple[str, ...] = ()
    """Of a resumed job: those that had failed because of it and wait for it again."""
    dropped: tuple[UnitRecord, ...] = ()
    """Of a resumed job: the units that its terms forgot, so that their files can go."""
    publishing: bool = False
    """Too late to be cancelled or paused: it is past the point of no return, and ends by itself."""


class Store(Protocol):
    """One job store. Instances are used by one thread at a time."""

    @property
    def url(self) -> str: ...

    # -- life --------------------------------------------------------------------------------------------
    def close(self) -> None: ...
    def now(self) -> float: ...
    def steady_since(self) -> float:
        """Since when, on the store's clock, leases could be renewed without a break, as far as this store has
        seen: it was away until then, or its clock jumped. A lease that ran out sooner than one TTL later may
        have a healthy owner. 0 for a store that is never away."""

    def check(self) -> list[str]:
        """Findings of an integrity check, empty when all is well."""

    def backup(self, path: str) -> None: ...

    # -- submit ------------------------------------------------------------------------------------------
    def submit(self, job: NewJob, *, on_duplicate: OnDuplicate = OnDuplicate.REFUSE) -> Submitted:
        """Insert one job (state queued, or waiting while an `after` job is not done). Raises Duplicate
        (INV-DUP)."""

    def submit_many(
        self,
        jobs: Sequence[NewJob],
        *,
        batch: NewBatch | None = None,
        on_duplicate: OnDuplicate = OnDuplicate.REFUSE,
    ) -> list[Submitted | Reason]:
        """Insert many jobs and their batch row in one transaction. A job refused as duplicate yields a Reason
        (code duplicate, message naming the other job) in its place; the others are inserted."""

    # -- claim and lease ---------------------------------------------------------------------------------
    def claim(
        self,
        worker_id: str,
        *,
        capacity: Capacity,
        queues: Sequence[str] | None,
        pipelines: Sequence[str],
        ttl: float,
        limit: int = 1,
    ) -> list[Claim]:
        """Take up to `limit` jobs that fit: by priority (high first), then age. The machine's cpu, memory
        and gpu are counted inside the statement from live leases over all workers of `capacity.host`
        (INV-LOCK); a job that needs more than the whole machine counts as needing all of it. A job whose
        committed units lie on other machines only is left to those for one `ttl` after it came back: here
        they would be done again (INV-KEEP). Inserts the attempt row."""

    def begin(self, lease: Lease, *, identity: str, pid: int, log_path: str) -> None:
        """Commit who will run the attempt; only then may it start (nothing runs that the store does not
        know)."""

    def renew(self, worker_id: str, leases: Sequence[Lease], *, ttl: float) -> list[HeldLease]:
        """Extend the leases still held, in one statement. Those not returned are lost."""

    def requests(self, worker_id: str) -> list[HeldLease]:
        """What was asked of this worker's jobs (cheap; after a wake-up)."""

    def set_containment(self, lease: Lease, *, containment: str, pid: int) -> None: ...

    # -- work --------------------------------------------------------------------------------------------
    def put_plan(
        self, lease: Lease, stage: str, digest: str, body: dict[str, object], *, host: str
    ) -> PlanOutcome:
        """Store the stage's plan, or find it again. Another digest voids committed units, and an event
        says so. Returns the units that hold (on this host) in order of commit."""

    def revise_plan(self, lease: Lease, stage: str, digest: str, body: dict[str, object]) -> PlanOutcome:
        """A new revision for the units not yet committed (halved segments): committed units stay."""

    def commit_unit(self, lease: Lease, unit: UnitRecord) -> None:
        """Commit one unit; a second commit of the same unit under the same plan is refused with Conflict
        (INV-KEEP)."""

    def void_units(self, lease: Lease, stage: str, names: Sequence[str]) -> int:
        """Forget committed units whose files are gone or damaged, so that they can be done and committed
        again; an event says so. Returns how many there were."""

    def save_progress(self, updates: Sequence[ProgressUpdate]) -> list[Lease]:
        """Write the newest pictures in one transaction; returns the leases that were stale (their rows
        unchanged)."""

    def set_input_media(self, lease: Lease, inputs: Sequence[InputFile]) -> None: ...

    # -- ends --------------------------------------------------------------------------------------------
    def begin_publish(self, lease: Lease, outputs: Sequence[StagedOutput], end: AttemptEnd) -> bool:
        """The point of no return. False (and nothing changed) when a cancel was asked. A pause that comes
        this late is overtaken: all the work is done."""

    def end(self, lease: Lease, end: AttemptEnd) -> None:
        """The attempt is over and its tree is gone (INV-TRUTH): write both ends, artifacts and stages;
        release dependants (after) or fail them with dependency_failed; free the lease."""

    def publishing(self, host: str) -> list[Publishing]:
        """Jobs left at the point of no return by workers of this host."""

    def unlease(self, lease: Lease, end: AttemptEnd) -> None:
        """Like `end`, for a claim that never started an attempt (skip, refused output, full disk before
        the start) or an owner proven dead; same fence rules. Raises PastReturn for a job that is
        publishing: that is rolled forward, or ended."""

    def live_jobs(self, host: str | None = None) -> list[Expired]:
        """Every job that holds a lease (of workers of `host`), with its owner: for recovery and reaping."""

    def expired(self, *, by: float | None = None) -> list[Expired]:
        """Live jobs whose lease had run out by that time of the store's clock, or has by now."""

    # -- requests ----------------------------------------------------------------------------------------
    def request_cancel(self, job_ids: Sequence[str], *, by: str) -> list[RequestOutcome]:
        """Queued, waiting and paused jobs are cancelled at once; running ones become `cancelling` until
        their tree is gone; publishing ones are past the point of no return and unchanged."""

    def request_pause(self, job_ids: Sequence[str], *, by: str, reason: Reason) -> list[RequestOutcome]: ...
    def resume(
        self,
        job_ids: Sequence[str],
        *,
        by: str,
        fresh_budgets: bool,
        terms: Mapping[str, Terms] | None = None,
        watcher: Watcher | None = None,
    ) -> list[RequestOutcome]:
        """Paused, failed or cancelled jobs become queued (waiting) with their units, and what failed because
        of them waits again. Of a live job a pause that was asked for is withdrawn. `terms` hold for what is
        not live, and forget units only of what goes on (INV-KEEP); of a live job that raises Conflict. All of
        them are attached to `watcher` from now on, or to nobody. Raises Duplicate when the output name or the
        dedupe key meanwhile belongs to another active job."""

    def drop_units(self, job_id: str, *, units: Sequence[str] | None = None) -> list[UnitRecord]:
        """Forget units (all, or by name) of a job that is not live; returns what was dropped so files can
        go."""

    def remove(self, job_ids: Sequence[str]) -> list[str]:
        """Delete ended jobs and all their rows; returns the ids removed. Active jobs, and those that
        an active one waited for, raise Conflict."""

    # -- attachment leases -------------------------------------------------------------------------------
    def attach(self, watcher_id: str, job_ids: Sequence[str], *, ttl: float) -> None: ...
    def renew_attachment(self, watcher_id: str, *, ttl: float) -> None: ...
    def attached(self, watcher_id: str) -> list[str]:
        """The jobs this watcher still holds: others may have taken some over."""

    def detach(self, watcher_id: str) -> None: ...
    def expire_attachments(self, *, by: float | None = None) -> list[str]:
        """Forget attachments that had expired by that time of the store's clock, or have by now; jobs left
        without any watcher that are still active are asked to pause with reason `interrupted` (queued ones
        become paused). Returns their ids."""

    # -- workers and queues ------------------------------------------------------------------------------
    def check_in(self, worker: WorkerInfo, *, ttl: float) -> None: ...
    def heartbeat(self, worker_id: str, *, ttl: float, draining: bool = False, stuck: int = 0) -> None: ...
    def check_out(self, worker_id: str) -> None: ...
    def due(
        self, worker_id: str, *, host: str, queues: Sequence[str] | None, pipelines: Sequence[str]
    ) -> Due:
        """Is there anything for this worker of `host`? One look for all that it would ask for otherwise."""

    def workers(self) -> list[WorkerInfo]: ...
    def forget_worker(self, worker_id: str) -> None:
        """Remove the row of a worker proven dead that holds no job."""

    def pause_queue(self, name: str, *, by: str) -> None: ...
    def resume_queue(self, name: str) -> None: ...
    def paused_queues(self) -> dict[str, str]:
        """By whom each paused queue was paused."""

    def queues(self) -> list[QueueInfo]: ...

    # -- reading -----------------------------------------------------------------------------------------
    def resolve(self, prefix: str) -> list[str]:
        """Job or batch ids beginning with `prefix` (at most 10)."""

    def newest(self) -> str | None:
        """`@last`: the batch or job of the newest submission."""

    def batch_jobs(self, batch_id: str) -> list[str] | None:
        """Ids of a batch's jobs in order of submission; None when there is no such batch."""

    def get(self, job_id: str) -> Job | None: ...
    def get_many(self, job_ids: Sequence[str]) -> list[Job]: ...
    def find_dedupe(self, dedupe_key: str) -> Job | None:
        """The active job with this key, else the newest ended one."""

    def list_jobs(self, where: JobFilter, *, limit: int = 50, before_seq: int | None = None) -> list[Job]:
        """Newest first; keyset cursor: pass the last row's `seq` as `before_seq`."""

    def count_by_state(self, where: JobFilter) -> dict[State, int]: ...
    def stages(self, job_id: str) -> list[StageRecord]: ...
    def units(self, job_id: str) -> list[UnitRecord]: ...
    def attempts(self, job_id: str) -> list[AttemptRecord]: ...
    def artifacts(self, job_id: str) -> list[Artifact]: ...
    def events_since(
        self, cursor: int, *, job_ids: Iterable[str] | None = None, limit: int = 500
    ) -> list[Event]: ...
    def last_event_id(self) -> int: ...
    def blocked_by(self, job_id: str) -> list[str]:
        """The unfinished jobs a waiting job waits for."""

    def prune(self, *, ended_before: float, limit: int = 100) -> list[str]:
        """Delete some of the jobs that ended before that (store clock), with their events; returns the ids
        removed. To be called until there is none; that call removes the rest of that age: batches without
        jobs, events of no job, workers that never came back. What an active job goes on from stays."""

    def shrink(self) -> bool:
        """Give some of the room that deleted rows left back to the disk; False when there is no more."""
