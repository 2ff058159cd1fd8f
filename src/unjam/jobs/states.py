"""The states of a job and of its parts: plain names, as they are stored and shown."""

from __future__ import annotations

from enum import StrEnum


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
