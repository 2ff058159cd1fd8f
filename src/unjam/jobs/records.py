"""What an attempt holds, and what it leaves behind: lease, units, artifacts, its end. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unjam.jobs.model import Counters, Job
from unjam.jobs.reasons import Reason
from unjam.jobs.states import AttemptState, Phase, Request, StageState, State, UnitState


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
class Due:
    """What waits for a worker at this moment: it asks for the rest only where there is something."""

    claimable: bool
    """A job that it serves is due; it may not fit."""
    requested: bool
    """Something is asked of a job that it runs."""
    expired: bool
    """The lease of some job ran out."""
    abandoned: bool
    """A watcher did not renew its attachment."""
    neighbours: bool
    """Other workers are checked in on its machine."""


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
class Publishing:
    """The point of no return: an attempt whose outputs are being renamed into place."""

    lease: Lease
    attempt: int
    outputs: tuple[StagedOutput, ...]
    end: AttemptEnd
    """How the job ends once every rename is done; stored so that any worker can roll forward."""
