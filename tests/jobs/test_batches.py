"""A batch's state follows from its jobs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjam.jobs.batches import batch_summary
from unjam.jobs.lifecycle import ACTIVE, ENDED
from unjam.jobs.states import State


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({State.SUCCEEDED: 3}, State.SUCCEEDED),
        ({State.SUCCEEDED: 3, State.SKIPPED: 1}, State.SUCCEEDED),
        ({State.SKIPPED: 2}, State.SKIPPED),
        ({State.SUCCEEDED: 9, State.FAILED: 1}, State.PARTIAL),
        ({State.SUCCEEDED: 9, State.CANCELLED: 1}, State.PARTIAL),
        ({State.PARTIAL: 1, State.FAILED: 1}, State.PARTIAL),
        ({State.FAILED: 1, State.CANCELLED: 1}, State.FAILED),
        ({State.CANCELLED: 4}, State.CANCELLED),
        ({State.SUCCEEDED: 9, State.RUNNING: 1, State.QUEUED: 4}, State.RUNNING),
        ({State.FAILED: 9, State.QUEUED: 1}, State.QUEUED),
        ({State.WAITING: 1, State.PAUSED: 1}, State.WAITING),
        ({State.PAUSED: 1, State.SUCCEEDED: 1}, State.PAUSED),
        ({}, State.SUCCEEDED),
    ],
)
def test_the_state_of_a_batch(counts: dict[State, int], state: State) -> None:
    assert batch_summary(counts).state is state


@given(st.dictionaries(st.sampled_from(State), st.integers(0, 50)))
def test_a_batch_has_ended_exactly_when_all_its_jobs_have(counts: dict[State, int]) -> None:
    summary = batch_summary(counts)
    going_on = any(counts.get(state) for state in ACTIVE)
    assert (summary.state in ACTIVE) == going_on
    assert (summary.ended == summary.total) == (not going_on)
    assert summary.ended == sum(counts.get(state, 0) for state in ENDED)
