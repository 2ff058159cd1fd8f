"""The words of unjam as plain frozen values: job, attempt, lease, unit, plan, artifact, event, worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from unjam.jobs.reasons import Reason


class State(StrEnum):
    """Where a job is in its life. `lifecycle.TRANSITIONS` says which changes are possible."""

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


LIVE = frozenset({State.RUNNING, State.CANCELLING})
"""An attempt holds a lease."""
ENDED = frozenset({State.SUCCEEDED, State.PARTIAL, State.SKIPPED, State.FAILED, State.CANCELLED})
ACTIVE = frozenset(set(State) - ENDED)
"""Holds its dedupe key and its output name (INV-DUP, INV-LOCK: derived from state, never stored)."""


class Phase(StrEnum):
    """Part of `running`."""

    STARTING = "starting"
    WORKING = "working"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"


class Request(StrEnum):
    """What a person asked of a live job and has not happened yet."""

    CANCEL = "cancel"
    PAUSE = "pause"


class OnExists(StrEnum):
    """What to do when the output name is taken by something else than the same work."""

    FAIL = "fail"
    REPLACE = "replace"
    RENAME = "rename"


class StageState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class UnitState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMMITTED = "committed"
    FAILED = "failed"


class AttemptState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Ended through no fault of its own: paused, cancelled, worker stopped or lost."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input. `uri` is an absolute path or a URL; size in bytes and mtime in ns as seen at submission."""

    name: str
    uri: str
    size_bytes: int | None = None
    mtime_ns: int | None = None
    media: Mapping[str, Any] | None = None
    source: str | None = None
    """`job:ID/ARTIFACT`, if it is a result of another job: `uri` is where that is, or will be."""

    @property
    def job_id(self) -> str | None:
        """The job whose result this is."""
        return None if self.source is None else self.source.removeprefix("job:").partition("/")[0]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job takes of a machine while it runs; counted over all workers of the machine at claim."""

    cpu: int = 1
    memory_bytes: int = 0
    disk_bytes: int = 0
    """Free bytes wanted at the output before the start; not held, only checked."""
    gpu: int = 0


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Limits of one attempt, in seconds and bytes. None: the pipeline's own."""

    timeout: float | None = None
    stall_after: float | None = None
    memory_bytes: int | None = None
    nice: int = 0


@dataclass(frozen=True, slots=True)
class Budgets:
    """How often a job may end badly before it is set aside. A committed unit restores crashes and losses."""

    failures: int = 3
    """Attempts that ended with an error of their own."""
    crashes: int = 3
    """Attempts whose process died by a signal nobody of ours sent."""
    losses: int = 10
    """Attempts that ended because their worker or guardian died."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as it is submitted. Ids come from the caller so that a repeated submission can be recognised."""

    id: str
    pipeline: str
    pipeline_version: int
    params: Mapping[str, Any]
    inputs: tuple[InputFile, ...] = ()
    output_dir: str | None = None
    output_path: str | None = None
    """Absolute path of the main output: unique among active jobs. None: the job publishes no file."""
    name: str = ""
    """What people call it: usually the input's file name."""
    queue: str = "default"
    priority: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    dedupe_key: str | None = None
    needs: Needs = Needs()
    limits: JobLimits = JobLimits()
    budgets: Budgets = Budgets()
    on_exists: OnExists = OnExists.FAIL
    force: bool = False
    """Run even if the manifest proves the same work was done."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be changed of a job that nobody runs. None: as it is."""

    inputs: tuple[InputFile, ...] | None = None
    """What is known of the inputs now (size, mtime)."""
    limits: JobLimits | None = None
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who waits for jobs; when the attachment expires, the jobs that it holds are paused."""

    id: str
    ttl: float
    """Seconds without a renewal."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """One submission of several jobs. `source` says what was asked for, as the user typed it."""

    id: str
    source: str


@dataclass(frozen=True, slots=True)
class Counters:
    """How often a job was tried and how each try ended badly, since its budgets were last restored."""

    attempts: int = 0
    failures: int = 0
    crashes: int = 0
    losses: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store holds it. Times are seconds since the epoch on the store's clock."""

    seq: int
    spec: NewJob
    batch_id: str | None
    state: State
    phase: Phase | None
    requested: Request | None
    reason: Reason | None
    counters: Counters
    fence: int
    worker_id: str | None
    lease_expires_at: float | None
    run_at: float
    """Not claimed before this moment (backoff)."""
    stalled: str | None
    """Evidence sentence while the attempt is considered stalled."""
    progress: float
    eta_seconds: float | None
    message: str
    advanced_at: float | None
    heartbeat_at: float | None
    usage: Mapping[str, Any] | None
    """Last sample of the attempt's tree: {cpu_percent, rss_bytes, processes}."""
    created_at: float
    started_at: float | None
    finished_at: float | None
    stall_at: float | None = None
    """When its attempt counts as stalled, unless it advances."""

    @property
    def id(self) -> str:
        return self.spec.id


@dataclass(frozen=True, slots=True)
class Lease:
    """An attempt's exclusive right to a job. `fence` grows with every claim; every write names it
    (INV-FENCE)."""

    job_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A job just claimed by a worker."""

    job: Job
    lease: Lease
    attempt: int
    """Number of this attempt, from 1."""


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease still held after a renewal, with what was asked of its job meanwhile."""

    lease: Lease
    requested: Request | None
    request_reason: Reason | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """What a stage decided before its units began. Another digest voids the units committed under it."""

    stage: str
    digest: str
    revision: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """The smallest piece of work that outlives its attempt. The row is the truth; the file lies at `uri`."""

    stage: str
    name: str
    state: UnitState
    progress: float = 0.0
    fence: int = 0
    uri: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    result: Mapping[str, Any] | None = None
    """Small JSON result for units that make no file."""
    host: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """The plan now in force, the units that hold under it, and how many were voided because it changed."""

    plan: PlanRecord
    committed: tuple[UnitRecord, ...]
    voided: int


@dataclass(frozen=True, slots=True)
class StagedOutput:
    """A verified file waiting beside its final name for the worker to rename it (INV-TORN).

    `inode`, `size_bytes` and `ctime_ns` were read after fsync: the worker refuses a file that changed since.
    """

    name: str
    kind: str
    staged_path: str
    final_path: str
    inode: int
    size_bytes: int
    ctime_ns: int
    sha256: str
    media: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A published output: whole, verified, with size and sha256."""

    name: str
    kind: str
    path: str
    size_bytes: int
    sha256: str
    media: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StageRecord:
    name: str
    state: StageState
    position: int
    progress: float = 0.0
    message: str = ""
    units_done: int = 0
    units_total: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at a job. `identity` is the guardian's: boot, pid, start ticks, pidfs inode; `host` the id of
    its machine, `host_name` what people call that."""

    number: int
    fence: int
    worker_id: str
    host: str
    state: AttemptState
    identity: str | None = None
    pid: int | None = None
    containment: str | None = None
    log_path: str | None = None
    reason: Reason | None = None
    started_at: float | None = None
    ended_at: float | None = None
    peak_rss_bytes: int | None = None
    cpu_seconds: float | None = None
    units_reused: int = 0
    host_name: str = ""


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """The newest picture of a live attempt, written once a second for all attempts of a worker together."""

    lease: Lease
    phase: Phase
    progress: float
    eta_seconds: float | None
    message: str
    advanced_at: float | None
    stalled: str | None
    usage: Mapping[str, Any] | None
    stall_at: float | None = None
    """When it counts as stalled unless it advances; on the store's clock."""
    stages: tuple[StageRecord, ...] = ()
    units: tuple[UnitRecord, ...] = ()
    """Running or failed units only; committed ones were written by commit_unit."""


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """What became of an attempt once its tree was gone, and where its job goes (`retry.decide`)."""

    attempt_state: AttemptState
    attempt_reason: Reason
    job_state: State
    job_reason: Reason | None
    counters: Counters
    run_at: float | None = None
    """When queued again: not before."""
    artifacts: tuple[Artifact, ...] = ()
    peak_rss_bytes: int | None = None
    cpu_seconds: float | None = None
    containment: str | None = None
    """How the tree was really held, where `set_containment` was not worth a write of its own."""
    stages: tuple[StageRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the append-only history."""

    id: int
    at: float
    job_id: str | None
    attempt: int | None
    kind: str
    state_from: State | None
    state_to: State | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process as it checked in. `identity` and `keeper_identity` prove life or death to who runs on
    the same boot; `host` is the id of its machine, `host_name` what people call that; `mark` is the
    RLIMIT_LOCKS number every process below it carries."""

    id: str
    host: str
    identity: str
    keeper_identity: str | None
    mark: int
    queues: tuple[str, ...] | None
    """None: every queue."""
    slots: int
    pipelines: tuple[str, ...]
    wake_path: str | None
    started_at: float = 0.0
    heartbeat_at: float = 0.0
    expires_at: float = 0.0
    draining: bool = False
    host_name: str = ""
    cpu: int = 0
    """What its machine has for all jobs together, as it counts them at a claim; 0: not told."""
    memory_bytes: int = 0
    gpu: int = 0
    stuck: int = 0
    """Slots held by processes that cannot be killed."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a machine has for all its workers together, and what this worker may still take."""

    host: str
    cpu: int
    memory_bytes: int
    gpu: int
    free_slots: int
    """How many more attempts this worker may start now (-j minus running)."""
    host_name: str = ""


@dataclass(frozen=True, slots=True)
class Publishing:
    """The point of no return: an attempt whose outputs are being renamed into place."""

    lease: Lease
    attempt: int
    outputs: tuple[StagedOutput, ...]
    end: AttemptEnd
    """How the job ends once every rename is done; stored so that any worker can roll forward."""


@dataclass(frozen=True, slots=True)
class QueueInfo:
    name: str
    paused: bool
    paused_by: str | None
    counts: Mapping[State, int]
    oldest_queued_at: float | None
