"""The life of a job: which state may follow which, and what an attempt's end makes of an open request."""

from __future__ import annotations

from unjam.jobs.states import ACTIVE, ENDED, LIVE, Request, State

__all__ = ["ACTIVE", "ENDED", "LIVE", "RESUMABLE", "SATISFIED", "TRANSITIONS", "can", "settle"]

_NEXT: dict[State, tuple[State, ...]] = {
    # from            to
    State.QUEUED:     (State.RUNNING, State.PAUSED, State.CANCELLED),
    State.WAITING:    (State.QUEUED, State.PAUSED, State.CANCELLED, State.FAILED),
    State.RUNNING:    (State.SUCCEEDED, State.PARTIAL, State.SKIPPED, State.FAILED, State.CANCELLED,
                       State.QUEUED, State.PAUSED, State.CANCELLING),
    State.CANCELLING: (State.CANCELLED, State.FAILED),
    State.PAUSED:     (State.QUEUED, State.WAITING, State.CANCELLED),
    State.FAILED:     (State.QUEUED, State.WAITING),
    State.CANCELLED:  (State.QUEUED, State.WAITING),
    State.PARTIAL:    (State.QUEUED, State.WAITING),
    State.SUCCEEDED:  (),
    State.SKIPPED:    (),
}  # fmt: skip

TRANSITIONS: frozenset[tuple[State, State]] = frozenset(
    (before, after) for before, nexts in _NEXT.items() for after in nexts
)
"""Every change of state there is. A claim goes through `running`, also when the job is then skipped."""

RESUMABLE = frozenset({State.PAUSED, State.FAILED, State.CANCELLED, State.PARTIAL})
"""Where resume and retry start from."""

SATISFIED = frozenset({State.SUCCEEDED, State.SKIPPED})
"""Ends after which a job that waits for this one may run; any other end fails it (dependency_failed)."""


def can(before: State, after: State) -> bool:
    """Is this change of state possible?"""
    return (before, after) in TRANSITIONS


def settle(live: State, requested: Request | None, wanted: State) -> State:
    """Where a live job goes when its attempt is over and should become `wanted`, given what was asked.

    Its tree is gone, so a request that came too late for the worker to see is fulfilled here and not lost:
    a cancel stands (only a failure is told instead), a pause stops the job from being claimed again. A pause
    that was withdrawn while its attempt was already ending is none: the job goes on.
    """
    if live is State.CANCELLING:
        return State.FAILED if wanted is State.FAILED else State.CANCELLED
    if requested is Request.PAUSE and wanted is State.QUEUED:
        return State.PAUSED
    if requested is not Request.PAUSE and wanted is State.PAUSED:
        return State.QUEUED
    return wanted
