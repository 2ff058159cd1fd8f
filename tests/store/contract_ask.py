"""What people ask, in every state a job can be in."""

import pytest

from tests.store.rig import (
    EVERY_STATE,
    PAUSED,
    TTL,
    Clock,
    an_input,
    bring,
    changes,
    ending,
    job,
    picture,
    state_of,
    take_one,
    unit,
)
from unjam.errors import Conflict, Duplicate, NotFound
from unjam.jobs.lifecycle import ACTIVE, ENDED, LIVE, RESUMABLE, can
from unjam.jobs.model import Counters, NewBatch, Terms
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.states import Request, State
from unjam.store import JobFilter, Store


def as_state(name: str) -> State:
    return State.RUNNING if name in ("publishing", "pausing") else State(name)


# -- cancel ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", EVERY_STATE)
def test_cancel_in_every_state(store: Store, name: str) -> None:
    before = as_state(name)
    bring(store, name)
    history = changes(store, "job-1")
    (outcome,) = store.request_cancel(["job-1"], by="ann")
    expected = before
    if name in ("queued", "waiting", "paused"):
        expected = State.CANCELLED
    elif name in ("running", "pausing"):
        expected = State.CANCELLING
    assert (outcome.job_id, outcome.state, outcome.changed) == ("job-1", expected, expected is not before)
    assert state_of(store) is expected
    assert changes(store, "job-1")[len(history) :] == ([(before, expected)] if expected is not before else [])
    if expected is State.CANCELLED and outcome.changed:
        done = store.get("job-1")
        assert done is not None
        assert done.reason == Reason(ReasonCode.CANCELLED_BY_USER, "cancelled by ann")
    if expected is State.CANCELLING and outcome.changed:
        assert [one.requested for one in store.requests("worker-1")] == [Request.CANCEL]


def test_cancelled_work_fails_what_waits_for_it(store: Store) -> None:
    store.submit_many([job("a"), job("b", after=("a",))])
    store.request_cancel(["a"], by="ann")
    assert state_of(store, "b") is State.FAILED


def test_a_chain_can_be_cancelled_together(store: Store) -> None:
    store.submit_many([job("a"), job("b", after=("a",))])
    outcome = store.request_cancel(["b", "a"], by="ann")
    assert [one.state for one in outcome] == [State.CANCELLED, State.CANCELLED]


# -- pause -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", EVERY_STATE)
def test_pause_in_every_state(store: Store, name: str) -> None:
    before = as_state(name)
    bring(store, name)
    (outcome,) = store.request_pause(["job-1"], by="ann", reason=PAUSED)
    expected = State.PAUSED if name in ("queued", "waiting") else before
    assert (outcome.state, outcome.changed) == (expected, name in ("queued", "waiting", "running"))
    after = store.get("job-1")
    assert after is not None
    assert after.state is expected
    if expected is State.PAUSED and name != "paused":
        assert after.reason == PAUSED
    if name == "running":
        assert after.requested is Request.PAUSE


# -- resume ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", EVERY_STATE)
def test_resume_in_every_state(store: Store, clock: Clock, name: str) -> None:
    before = as_state(name)
    bring(store, name)
    clock.advance(100)
    (outcome,) = store.resume(["job-1"], by="ann", fresh_budgets=False)
    resumed = before in RESUMABLE
    withdrawn = name == "pausing"
    assert (outcome.state, outcome.changed) == (State.QUEUED if resumed else before, resumed or withdrawn)
    after = store.get("job-1")
    assert after is not None
    assert after.state is outcome.state
    assert after.requested is (Request.CANCEL if name == "cancelling" else None)
    if resumed:
        assert (after.reason, after.finished_at, after.run_at) == (None, None, clock())
        assert changes(store, "job-1")[-1] == (before, State.QUEUED)
        assert can(*changes(store, "job-1")[-1])  # type: ignore[arg-type]
        take_one(store)


def test_resume_keeps_units_and_budgets_unless_asked_for_fresh_ones(store: Store) -> None:
    store.submit(job())
    claim = take_one(store)
    store.commit_unit(claim.lease, unit())
    spent = Counters(attempts=4, failures=3, crashes=2, losses=1)
    store.end(claim.lease, ending(State.FAILED, claim, counters=spent))
    store.resume(["job-1"], by="ann", fresh_budgets=False)
    kept = store.get("job-1")
    assert kept is not None
    assert kept.counters == spent
    store.request_pause(["job-1"], by="ann", reason=PAUSED)
    store.resume(["job-1"], by="ann", fresh_budgets=True)
    fresh = store.get("job-1")
    assert fresh is not None
    assert fresh.counters == Counters()
    assert [unit.name for unit in store.units("job-1")] == ["0001"]
    assert take_one(store).lease.fence == claim.lease.fence + 1


def test_resume_takes_new_facts_about_the_inputs(store: Store) -> None:
    store.submit(job(inputs=(an_input(),)))
    new = (type(an_input())("in.mov", "/media/in.mov", 999, 5),)
    store.request_cancel(["job-1"], by="ann")
    store.resume(
        ["job-1"],
        by="ann",
        fresh_budgets=False,
        terms={"job-1": Terms(inputs=new), "other": Terms(inputs=new)},
    )
    resumed = store.get("job-1")
    assert resumed is not None
    assert resumed.spec.inputs == new


@pytest.mark.parametrize("field", ["dedupe_key", "output_path"])
def test_resume_is_refused_where_another_job_has_the_work_meanwhile(store: Store, field: str) -> None:
    """INV-DUP."""
    store.submit(job("job-1", **{field: "same"}))
    store.submit(job("job-0"))
    store.request_cancel(["job-0", "job-1"], by="ann")
    store.submit(job("job-2", **{field: "same"}))
    with pytest.raises(Duplicate, match="job-2") as refused:
        store.resume(["job-0", "job-1"], by="ann", fresh_budgets=False)
    assert refused.value.job_id == "job-2"
    assert [state_of(store, "job-0"), state_of(store, "job-1")] == [State.CANCELLED] * 2


def test_a_failed_chain_is_resumed_together_in_any_order(store: Store) -> None:
    store.submit_many([job("a"), job("b", after=("a",)), job("c", after=("b",))])
    claim = take_one(store)
    store.end(claim.lease, ending(State.FAILED, claim))
    outcome = store.resume(["c", "b", "a"], by="ann", fresh_budgets=True)
    assert [one.state for one in outcome] == [State.WAITING, State.WAITING, State.QUEUED]
    for id in ("a", "b", "c"):
        claim = take_one(store)
        assert claim.job.id == id
        store.end(claim.lease, ending(State.SUCCEEDED, claim))


def test_a_job_cannot_wait_again_for_what_has_failed(store: Store) -> None:
    """INV-LOST: it says at once that it cannot come."""
    store.submit_many([job("a"), job("b", after=("a",))])
    store.request_pause(["b"], by="ann", reason=PAUSED)
    store.request_cancel(["a"], by="ann")
    assert state_of(store, "b") is State.PAUSED
    (outcome,) = store.resume(["b"], by="ann", fresh_budgets=False)
    assert outcome.state is state_of(store, "b") is State.FAILED
    store.remove(["a"])
    (outcome,) = store.resume(["b"], by="ann", fresh_budgets=False)
    failed = store.get("b")
    assert failed is not None
    assert failed.reason is not None
    assert "was removed" in failed.reason.message


def test_what_succeeded_before_it_was_removed_still_counts(store: Store) -> None:
    store.submit_many([job("a"), job("b", after=("a",))])
    store.request_pause(["b"], by="ann", reason=PAUSED)
    claim = take_one(store)
    store.end(claim.lease, ending(State.SUCCEEDED, claim))
    assert state_of(store, "b") is State.PAUSED
    store.remove(["a"])
    (outcome,) = store.resume(["b"], by="ann", fresh_budgets=False)
    assert outcome.state is State.QUEUED


def test_asking_about_an_unknown_job_changes_nothing(store: Store) -> None:
    store.submit(job())
    for ask in (
        lambda: store.request_cancel(["job-1", "nobody"], by="ann"),
        lambda: store.request_pause(["job-1", "nobody"], by="ann", reason=PAUSED),
        lambda: store.resume(["nobody"], by="ann", fresh_budgets=False),
        lambda: store.drop_units("nobody"),
        lambda: store.attach("watcher", ["nobody"], ttl=TTL),
    ):
        with pytest.raises(NotFound, match="nobody"):
            ask()
    assert state_of(store) is State.QUEUED


# -- forget ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", EVERY_STATE)
def test_units_are_dropped_only_while_nothing_runs(store: Store, name: str) -> None:
    bring(store, name)
    if as_state(name) in LIVE:
        with pytest.raises(Conflict):
            store.drop_units("job-1")
    else:
        assert store.drop_units("job-1") == []


def test_dropped_units_are_told_and_progress_begins_anew(store: Store) -> None:
    store.submit(job())
    claim = take_one(store)
    for name in ("0000", "0001", "0002"):
        store.commit_unit(claim.lease, unit(name))
    store.save_progress([picture(claim.lease)])
    store.end(claim.lease, ending(State.FAILED, claim))
    assert [unit.uri for unit in store.drop_units("job-1", units=["0001"])] == ["/units/0001"]
    assert [unit.name for unit in store.units("job-1")] == ["0000", "0002"]
    assert [unit.name for unit in store.drop_units("job-1")] == ["0000", "0002"]
    assert store.units("job-1") == []
    left = store.get("job-1")
    assert left is not None
    assert left.progress == 0.0


@pytest.mark.parametrize("name", EVERY_STATE)
def test_only_ended_jobs_are_removed(store: Store, name: str) -> None:
    bring(store, name)
    if as_state(name) in ACTIVE:
        with pytest.raises(Conflict, match="job-1"):
            store.remove(["job-1"])
        assert state_of(store) is as_state(name)
    else:
        assert store.remove(["nobody", "job-1"]) == ["job-1"]
        assert store.get("job-1") is None
        assert (store.attempts("job-1"), store.units("job-1"), store.stages("job-1")) == ([], [], [])


def test_a_removed_job_leaves_one_line_of_history(store: Store) -> None:
    store.submit_many([job("a"), job("b")], batch=NewBatch("batch", "x"))
    store.request_cancel(["a"], by="ann")
    before = store.last_event_id()
    store.remove(["a"])
    assert store.batch_jobs("batch") == ["b"]
    (told,) = store.events_since(before)
    assert (told.kind, told.job_id, told.data) == ("removed", None, {"jobs": ["a"]})
    assert store.events_since(0, job_ids=["a"]) == []
    store.request_cancel(["b"], by="ann")
    store.remove(["b"])
    assert store.batch_jobs("batch") is None
    assert store.last_event_id() > told.id


def test_prune_takes_the_oldest_ends_and_never_what_is_active(store: Store, clock: Clock) -> None:
    for number in range(6):
        store.submit(job(f"job-{number}"))
        store.request_cancel([f"job-{number}"], by="ann")
        clock.advance(10)
    store.submit(job("active"))
    clock.advance(1000)
    cut = store.now() - 1000 - 20
    assert store.prune(ended_before=cut, limit=3) == ["job-0", "job-1", "job-2"]
    assert store.prune(ended_before=cut) == ["job-3"]
    assert store.prune(ended_before=cut) == []
    assert store.count_by_state(JobFilter()) == {State.CANCELLED: 2, State.QUEUED: 1}


# -- watchers --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", EVERY_STATE)
def test_a_job_whose_last_watcher_is_gone_is_paused(store: Store, clock: Clock, name: str) -> None:
    bring(store, name)
    store.attach("terminal", ["job-1"], ttl=TTL)
    store.attach("browser", ["job-1"], ttl=TTL + 10)
    clock.advance(TTL)
    assert store.expire_attachments() == []
    assert state_of(store) is as_state(name)
    clock.advance(10)
    stopped = name in ("queued", "waiting", "running")
    assert store.expire_attachments() == (["job-1"] if stopped else [])
    after = store.get("job-1")
    assert after is not None
    if name in ("queued", "waiting"):
        assert after.state is State.PAUSED
        assert after.reason is not None
        assert after.reason.code is ReasonCode.INTERRUPTED
    elif name == "running":
        assert after.requested is Request.PAUSE
    else:
        assert after.state is as_state(name)
    assert store.expire_attachments() == []


def test_a_watcher_that_renews_or_leaves_in_peace_stops_nothing(store: Store, clock: Clock) -> None:
    store.submit_many([job("kept"), job("left")])
    store.attach("watcher", ["kept"], ttl=TTL)
    store.attach("leaver", ["left"], ttl=TTL)
    for _ in range(3):
        clock.advance(TTL - 1)
        store.renew_attachment("watcher", ttl=TTL)
        store.detach("leaver")
        assert store.expire_attachments() == []
    assert {state_of(store, "kept"), state_of(store, "left")} == {State.QUEUED}


def test_an_ended_watched_job_can_be_removed(store: Store, clock: Clock) -> None:
    store.submit(job())
    store.attach("watcher", ["job-1"], ttl=TTL)
    store.request_cancel(["job-1"], by="ann")
    assert state_of(store) in ENDED
    assert store.remove(["job-1"]) == ["job-1"]
    clock.advance(TTL)
    assert store.expire_attachments() == []
