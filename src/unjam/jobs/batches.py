"""What a batch is as a whole, derived from the states of its jobs and never stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unjam.jobs.states import State

_DELIVERED = (State.SUCCEEDED, State.SKIPPED)
# Told of a batch that goes on: the first of these that any job is in.
_GOING_ON = (State.RUNNING, State.CANCELLING, State.QUEUED, State.WAITING, State.PAUSED)


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """State and counts of a batch; `ended` and `total` count jobs."""

    state: State
    counts: Mapping[State, int]
    ended: int
    total: int


def batch_summary(counts: Mapping[State, int]) -> BatchSummary:
    """The batch whose jobs are in these states. One without jobs (all removed) has nothing left to do."""
    total = sum(counts.values())
    going_on = sum(counts.get(state, 0) for state in _GOING_ON)
    return BatchSummary(_state(counts), dict(counts), total - going_on, total)


def _state(counts: Mapping[State, int]) -> State:
    for state in _GOING_ON:
        if counts.get(state):
            return state
    present = {state for state, jobs in counts.items() if jobs}
    if len(present) == 1:
        return present.pop()
    if present <= set(_DELIVERED):  # the empty batch too
        return State.SUCCEEDED
    if present <= {State.FAILED, State.CANCELLED}:
        return State.FAILED
    return State.PARTIAL
