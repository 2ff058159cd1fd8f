"""What becomes of a job after a bad end: nobody waits for ever, nobody tries for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjam.jobs.lifecycle import can
from unjam.jobs.model import Budgets, Counters
from unjam.jobs.reasons import FAILURE_CLASS, FailureClass, ReasonCode
from unjam.jobs.retry import BACKOFF_LONGEST, RESOURCE_BACKOFF, RESOURCE_TRIES, Blame, Ending, backoff, decide
from unjam.jobs.states import Request, State

counters = st.builds(
    Counters,
    attempts=st.integers(1, 99),
    failures=st.integers(0, 9),
    crashes=st.integers(0, 9),
    losses=st.integers(0, 20),
)
budgets = st.builds(Budgets, failures=st.integers(0, 9), crashes=st.integers(0, 9), losses=st.integers(0, 20))
endings = st.builds(
    Ending,
    code=st.sampled_from(sorted(set(ReasonCode) - {ReasonCode.OK})),
    message=st.text(min_size=1),
    blame=st.sampled_from(Blame),
    advanced=st.booleans(),
    request=st.none() | st.sampled_from(Request),
)
jitters = st.floats(0, 1, exclude_max=True)


@given(counters, budgets, endings, jitters)
def test_every_decision_is_possible_and_says_why(
    counters: Counters, budgets: Budgets, ending: Ending, jitter: float
) -> None:
    decision = decide(counters, budgets, ending, jitter=jitter)
    assert can(State.RUNNING, decision.state)
    assert ending.message in decision.reason.message
    assert 0 <= decision.delay <= BACKOFF_LONGEST
    assert decision.delay == 0 or decision.state is State.QUEUED
    assert decision.counters.attempts == counters.attempts


@given(
    budgets,
    endings.filter(lambda e: e.blame is not Blame.ASKED and not e.advanced and not e.request),
    jitters,
)
def test_the_same_bad_end_over_and_over_comes_to_an_end(
    budgets: Budgets, ending: Ending, jitter: float
) -> None:
    counters = Counters()
    for _ in range(1 + max(budgets.failures, budgets.crashes, budgets.losses)):
        decision = decide(counters, budgets, ending, jitter=jitter)
        if decision.state is State.FAILED:
            return
        counters = decision.counters
    pytest.fail(f"still {decision}")


def test_a_machine_without_memory_is_waited_for_and_no_failure_of_the_job() -> None:
    """Not even of one that may fail only once."""
    full = Ending(ReasonCode.MEMORY, "this machine had none left", Blame.CRASH)
    budgets = Budgets(failures=1, crashes=3)
    decision = decide(Counters(), budgets, full, jitter=0.5)
    assert (decision.state, decision.reason.code) == (State.QUEUED, ReasonCode.MEMORY)
    assert (decision.counters.crashes, decision.counters.failures) == (1, 0)
    assert decision.delay == RESOURCE_BACKOFF * 0.75
    last = decide(Counters(crashes=2), budgets, full, jitter=0.5)
    assert (last.state, last.reason.code) == (State.FAILED, ReasonCode.POISON)


@given(budgets, st.sampled_from([Blame.CRASH, Blame.LOST]), jitters)
def test_a_job_that_advances_is_not_set_aside_for_its_machine(
    budgets: Budgets, blame: Blame, jitter: float
) -> None:
    ending = Ending(ReasonCode.WORKER_LOST, "its worker died", blame, advanced=True)
    budgets = Budgets(failures=1, crashes=max(2, budgets.crashes), losses=max(2, budgets.losses))
    counters = Counters()
    for _ in range(50):
        decision = decide(counters, budgets, ending, jitter=jitter)
        assert decision.state is State.QUEUED
        counters = decision.counters


@given(counters, budgets, jitters)
def test_a_drain_costs_the_job_nothing(counters: Counters, budgets: Budgets, jitter: float) -> None:
    ending = Ending(ReasonCode.INTERRUPTED, "the worker stops", Blame.ASKED)
    decision = decide(counters, budgets, ending, jitter=jitter)
    assert (decision.state, decision.counters, decision.delay) == (State.QUEUED, counters, 0)


@given(counters, budgets, endings, jitters)
def test_what_was_asked_happens(counters: Counters, budgets: Budgets, ending: Ending, jitter: float) -> None:
    state = decide(counters, budgets, ending, jitter=jitter).state
    if ending.request is Request.CANCEL:
        assert state is State.CANCELLED
    if ending.request is Request.PAUSE:
        assert state is not State.QUEUED


@pytest.mark.parametrize("code", sorted(ReasonCode))
def test_the_class_of_a_failure_says_how_often_it_is_tried(code: ReasonCode) -> None:
    if code in (ReasonCode.OK, ReasonCode.CANCELLED_BY_USER):
        return
    tries, counters = 0, Counters()
    while True:
        tries += 1
        decision = decide(counters, Budgets(failures=5), Ending(code, "it broke", Blame.JOB), jitter=0)
        if decision.state is State.FAILED:
            break
        assert decision.delay > 0
        counters = decision.counters
    expected = {FailureClass.FINAL: 1, FailureClass.RESOURCE: RESOURCE_TRIES, FailureClass.TRANSIENT: 5}
    assert tries == expected[FAILURE_CLASS[code]]
    assert decision.reason.code is code


@pytest.mark.parametrize(("blame", "times"), [(Blame.CRASH, "3 crashes"), (Blame.LOST, "10 lost workers")])
def test_poison_names_how_often_and_the_last_reason(blame: Blame, times: str) -> None:
    counters = Counters(crashes=2, losses=9)
    decision = decide(counters, Budgets(), Ending(ReasonCode.CRASHED, "SIGSEGV in ffmpeg", blame), jitter=0)
    assert decision.state is State.FAILED
    assert decision.reason.code is ReasonCode.POISON
    assert decision.reason.message == f"set aside after {times} without progress; the last: SIGSEGV in ffmpeg"


def test_a_lost_worker_delays_nothing() -> None:
    decision = decide(Counters(), Budgets(), Ending(ReasonCode.WORKER_LOST, "gone", Blame.LOST), jitter=0.5)
    assert (decision.state, decision.delay) == (State.QUEUED, 0)


def test_backoff_doubles_up_to_its_cap_and_never_overflows() -> None:
    assert [backoff(n, 0) for n in (1, 2, 3, 8, 9, 100_000)] == [2, 4, 8, 256, 300, 300]
    assert backoff(1, 0.999) > 1
