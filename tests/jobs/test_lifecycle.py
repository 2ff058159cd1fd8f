"""The life of a job has no dead end, and a late request is never lost."""

from itertools import product

import pytest

from unjam.jobs.lifecycle import ACTIVE, ENDED, LIVE, RESUMABLE, TRANSITIONS, can, settle
from unjam.jobs.states import Request, State


def reachable(start: State) -> set[State]:
    found, todo = {start}, [start]
    while todo:
        here = todo.pop()
        for before, after in TRANSITIONS:
            if before is here and after not in found:
                found.add(after)
                todo.append(after)
    return found


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_every_active_state_leads_to_an_end(state: State) -> None:
    """INV-LOST."""
    assert reachable(state) & ENDED


@pytest.mark.parametrize("state", sorted(State))
def test_every_state_is_reached_from_submission(state: State) -> None:
    assert state in reachable(State.QUEUED) | reachable(State.WAITING)


def test_only_a_claim_makes_a_job_live() -> None:
    """INV-ONCE: no way leads into a lease but the one through the queue."""
    assert {before for before, after in TRANSITIONS if after in LIVE and before not in LIVE} == {State.QUEUED}


def test_what_can_be_resumed_is_not_live_and_not_done() -> None:
    assert {state for state in State if can(state, State.QUEUED)} - LIVE - {State.WAITING} == RESUMABLE


def test_no_state_follows_itself() -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] is pair[1]]


@pytest.mark.parametrize(
    ("live", "requested", "wanted"),
    [
        (live, requested, wanted)
        for live, requested, wanted in product(sorted(LIVE), [None, *Request], sorted(State))
        if can(State.RUNNING, wanted)
        and wanted not in LIVE
        and (live is State.CANCELLING) == (requested == "cancel")
    ],
)
def test_an_end_settles_into_a_possible_state_that_honours_the_request(
    live: State, requested: Request | None, wanted: State
) -> None:
    state = settle(live, requested, wanted)
    assert can(live, state)
    if requested is Request.CANCEL:
        assert state in (State.CANCELLED, State.FAILED)
    elif requested is Request.PAUSE:
        assert state is not State.QUEUED
    else:
        assert state is (State.QUEUED if wanted is State.PAUSED else wanted)
