"""What is known of workers, of their machines and of queues: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unjam.jobs.states import State


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
class QueueInfo:
    name: str
    paused: bool
    paused_by: str | None
    counts: Mapping[State, int]
    oldest_queued_at: float | None
