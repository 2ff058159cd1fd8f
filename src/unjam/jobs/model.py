"""What is submitted, and the job that it becomes: plain frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unjam.jobs.reasons import Reason
from unjam.jobs.states import OnExists, Phase, Request, State


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
    fresh: bool = False
    """Every finished unit is forgotten."""
    redo: tuple[str, ...] = ()
    """These finished units are forgotten."""


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
