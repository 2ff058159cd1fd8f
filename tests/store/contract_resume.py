"""Resuming: a pause withdrawn, other terms, what failed along with it, and to whom the job belongs then."""

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
    take,
    take_one,
    unit,
)
from unjam.errors import Conflict, Duplicate
from unjam.jobs.lifecycle import ACTIVE, LIVE
from unjam.jobs.model import InputFile, Job, JobLimits, Terms, Watcher
from unjam.jobs.states import Request, State
from unjam.store import Store


def get(store: Store, id: str = "job-1") -> Job:
    found = store.get(id)
    assert found is not None
    return found


def kinds(store: Store, id: str) -> list[str]:
    return [event.kind for event in store.events_since(0, job_ids=[id])]


# -- a pause withdrawn -----------------------------------------------------------------------------------
def test_a_pause_that_was_withdrawn_never_was(store: Store) -> None:
    lease = bring(store, "pausing")
    assert lease is not None
    assert [held.requested for held in store.requests("worker-1")] == [Request.PAUSE]
    (outcome,) = store.resume(["job-1"], by="bob", fresh_budgets=False)
    assert (outcome.state, outcome.changed) == (State.RUNNING, True)
    assert store.requests("worker-1") == []
    (held,) = store.renew("worker-1", [lease], ttl=TTL)
    assert held.requested is None
    assert kinds(store, "job-1")[-1] == "pause_withdrawn"
    assert not store.resume(["job-1"], by="bob", fresh_budgets=False)[0].changed


def test_withdrawn_while_its_attempt_was_ending_for_it_the_job_is_queued(store: Store) -> None:
    """INV-LOST: the later word counts, whoever is faster."""
    lease = bring(store, "pausing")
    assert lease is not None
    store.resume(["job-1"], by="bob", fresh_budgets=False)
    store.end(lease, ending(State.PAUSED))
    after = get(store)
    assert (after.state, after.reason) == (State.QUEUED, None)
    assert changes(store)[-1] == (State.RUNNING, State.QUEUED)
    take_one(store)


# -- other terms -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", EVERY_STATE)
def test_terms_hold_for_what_nobody_runs(store: Store, name: str) -> None:
    bring(store, name)
    limits = JobLimits(timeout=7.0, stall_after=3.0, memory_bytes=1 << 30, nice=2)
    (outcome,) = store.resume(
        ["job-1"], by="ann", fresh_budgets=False, terms={"job-1": Terms(limits=limits, priority=9)}
    )
    spec = get(store).spec
    if outcome.state in (State.QUEUED, State.WAITING):
        assert (spec.limits, spec.priority, spec.needs.memory_bytes) == (limits, 9, 1 << 30)
        assert "terms_changed" in kinds(store, "job-1")
    else:
        assert (spec.limits, spec.priority, spec.needs.memory_bytes) == (JobLimits(), 0, 0)


def test_another_priority_and_memory_count_at_the_next_claim(store: Store) -> None:
    store.submit_many([job("a"), job("b"), job("c")])
    store.request_pause(["b", "c"], by="ann", reason=PAUSED)
    big = Terms(limits=JobLimits(memory_bytes=50), priority=5)
    store.resume(["b", "c"], by="ann", fresh_budgets=False, terms={"b": big, "c": Terms(priority=7)})
    assert [claim.job.id for claim in take(store, limit=3, memory_bytes=60)] == ["c", "b", "a"]
    assert take(store, memory_bytes=60) == []
    store.submit(job("d", needs=get(store, "b").spec.needs))
    assert take(store, memory_bytes=60) == []


def test_a_refused_resume_leaves_no_lane_behind(store: Store) -> None:
    """What was rolled back is not remembered: the next one makes its lane again."""
    store.submit_many([job("a", dedupe_key="k"), job("b")])
    store.request_cancel(["a", "b"], by="ann")
    store.submit(job("c", dedupe_key="k"))
    new = Terms(priority=77)
    with pytest.raises(Conflict):
        store.resume(["b", "a"], by="ann", fresh_budgets=False, terms={"b": new, "a": new})
    store.resume(["b"], by="ann", fresh_budgets=False, terms={"b": new})
    assert take_one(store).job.id == "b"


# -- units forgotten -------------------------------------------------------------------------------------
def failed_with_units(store: Store, id: str, **fields: object) -> None:
    store.submit(job(id, **fields))
    claim = take_one(store)
    for name in ("0000", "0001", "0002"):
        store.commit_unit(claim.lease, unit(name))
    store.save_progress([picture(claim.lease)])
    store.end(claim.lease, ending(State.FAILED, claim))


def unit_names(store: Store, id: str) -> list[str]:
    return [unit.name for unit in store.units(id)]


def test_terms_forget_units_of_what_goes_on(store: Store) -> None:
    failed_with_units(store, "a")
    failed_with_units(store, "b")
    terms = {"a": Terms(redo=("0001",)), "b": Terms(fresh=True)}
    one, all_of_them = store.resume(["a", "b"], by="ann", fresh_budgets=True, terms=terms)
    assert [unit.uri for unit in one.dropped] == ["/units/0001"]
    assert [unit.name for unit in all_of_them.dropped] == ["0000", "0001", "0002"]
    assert (unit_names(store, "a"), unit_names(store, "b")) == (["0000", "0002"], [])
    assert "units_dropped" in kinds(store, "a")
    assert get(store, "a").progress == 0.0


def test_who_is_refused_keeps_all_units(store: Store) -> None:
    """INV-KEEP."""
    failed_with_units(store, "a")
    failed_with_units(store, "b", dedupe_key="k")
    store.submit(job("rival", dedupe_key="k"))
    fresh = Terms(fresh=True)
    with pytest.raises(Duplicate):
        store.resume(["a", "b"], by="ann", fresh_budgets=True, terms={"a": fresh, "b": fresh})
    assert len(unit_names(store, "a")) == len(unit_names(store, "b")) == 3
    assert (state_of(store, "a"), state_of(store, "b")) == (State.FAILED, State.FAILED)


@pytest.mark.parametrize("name", EVERY_STATE)
def test_units_are_forgotten_only_of_what_goes_on_and_does_not_run(store: Store, name: str) -> None:
    lease = bring(store, name)
    before = state_of(store)
    if lease is not None:
        store.commit_unit(lease, unit())
    if before in LIVE:
        with pytest.raises(Conflict, match="when it does not run"):
            store.resume(["job-1"], by="ann", fresh_budgets=True, terms={"job-1": Terms(fresh=True)})
        assert unit_names(store, "job-1") == ["0001"]
        assert state_of(store) is before
    else:
        (outcome,) = store.resume(["job-1"], by="ann", fresh_budgets=True, terms={"job-1": Terms(fresh=True)})
        assert outcome.dropped == ()


# -- what failed along with it ---------------------------------------------------------------------------
def test_what_failed_because_of_it_waits_for_it_again(store: Store) -> None:
    store.submit_many(
        [job("a"), job("b", after=("a",)), job("c", after=("b",)), job("d", after=("a", "c")), job("x")]
    )
    claim = take_one(store)
    store.end(claim.lease, ending(State.FAILED, claim))
    assert {state_of(store, id) for id in "abcd"} == {State.FAILED}
    (outcome,) = store.resume(["a"], by="bob", fresh_budgets=True)
    assert set(outcome.revived) == {"b", "c", "d"}
    assert [state_of(store, id) for id in "abcd"] == [State.QUEUED] + [State.WAITING] * 3
    told = store.events_since(0, job_ids=["c"])[-1]
    assert (told.kind, told.data, told.state_to) == ("revived", {"by": "bob", "after": "b"}, State.WAITING)
    for id in "abcdx":
        claim = take_one(store)
        assert claim.job.id == id
        store.end(claim.lease, ending(State.SUCCEEDED, claim))


def test_not_what_was_cancelled_or_waits_for_another_failure_too(store: Store) -> None:
    store.submit_many([job("a"), job("z"), job("b", after=("a", "z")), job("c", after=("a",)), job("d")])
    store.request_cancel(["c"], by="ann")
    for claim in take(store, limit=2):
        store.end(claim.lease, ending(State.FAILED, claim))
    assert state_of(store, "b") is State.FAILED
    (outcome,) = store.resume(["a"], by="bob", fresh_budgets=False)
    assert outcome.revived == ()
    assert (state_of(store, "b"), state_of(store, "c")) == (State.FAILED, State.CANCELLED)
    (outcome,) = store.resume(["z"], by="bob", fresh_budgets=False)
    assert outcome.revived == ("b",)


def test_not_where_another_job_does_that_work_meanwhile(store: Store) -> None:
    """INV-DUP."""
    store.submit_many([job("a"), job("b", after=("a",), output_path="/out/b")])
    store.request_cancel(["a"], by="ann")
    store.submit(job("other", output_path="/out/b"))
    (outcome,) = store.resume(["a"], by="bob", fresh_budgets=False)
    assert outcome.revived == ()
    assert (state_of(store, "a"), state_of(store, "b")) == (State.QUEUED, State.FAILED)


# -- results that others need ----------------------------------------------------------------------------
def test_what_an_active_job_takes_as_its_input_stays(store: Store, clock: Clock) -> None:
    result = InputFile("a.mp4", "/out/a.mp4", source="job:a/a.mp4")
    store.submit_many([job("a"), job("b", after=("a",), inputs=(result,)), job("c", after=("a",))])
    claim = take_one(store)
    store.end(claim.lease, ending(State.SUCCEEDED, claim))
    assert get(store, "b").spec.inputs == (result,)
    clock.advance(1000)
    assert store.prune(ended_before=store.now()) == []
    with pytest.raises(Conflict, match=r"job b .* goes on from it"):
        store.remove(["a"])
    store.request_cancel(["b"], by="ann")
    assert store.prune(ended_before=store.now()) == ["a"]


# -- to whom it belongs ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", EVERY_STATE)
@pytest.mark.parametrize("attached", [True, False])
def test_whoever_resumes_a_job_takes_it_over(store: Store, clock: Clock, name: str, attached: bool) -> None:
    """The run that held it was killed a moment ago: its attachment still stands, and must not pause the job
    under its new owner."""
    bring(store, name)
    store.attach("killed", ["job-1"], ttl=TTL)
    new = Watcher("new", 3 * TTL) if attached else None
    (outcome,) = store.resume(["job-1"], by="ann", fresh_budgets=False, watcher=new)
    taken = outcome.state in ACTIVE
    assert store.attached("killed") == ([] if taken else ["job-1"])
    assert store.attached("new") == (["job-1"] if taken and attached else [])
    before = state_of(store)
    clock.advance(TTL + 1)
    assert store.expire_attachments() == []
    assert state_of(store) is before
    clock.advance(2 * TTL)
    stopped = attached and outcome.state in (State.QUEUED, State.WAITING, State.RUNNING)
    stopped &= name != "publishing"
    assert store.expire_attachments() == (["job-1"] if stopped else [])


def test_what_is_revived_belongs_to_who_revived_it(store: Store) -> None:
    store.submit_many([job("a"), job("b", after=("a",))])
    store.attach("killed", ["a", "b"], ttl=TTL)
    store.request_cancel(["a"], by="ann")
    store.resume(["a"], by="ann", fresh_budgets=False, watcher=Watcher("new", TTL))
    assert sorted(store.attached("new")) == ["a", "b"]
    assert store.attached("killed") == []
    assert store.get_many(["b"])[0].spec.inputs == ()
    assert an_input().source is None
