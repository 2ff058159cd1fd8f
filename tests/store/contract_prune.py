"""Forgetting: a little at a time, everything of it, and nothing that is needed."""

from tests.store.rig import TTL, Backend, Clock, bring, ending, job, take, unit, worker
from unjam.jobs.model import NewBatch
from unjam.jobs.states import State
from unjam.store import JobFilter, Store

OF_A_JOB = (
    "job",
    "job_detail",
    "tag",
    "dependency",
    "unit",
    "plan",
    "stage",
    "attempt",
    "progress",
    "artifact",
)


def test_a_little_at_a_time_until_nothing_of_them_is_left(
    store: Store, backend: Backend, clock: Clock
) -> None:
    """No lock is long, however much has to go."""
    for number in range(3):
        ids = [f"j{number}-{n:02}" for n in range(10)]
        store.submit_many([job(id, tags={"a": "b"}) for id in ids], batch=NewBatch(f"b{number}", "x"))
        for claim in take(store, limit=10):
            store.put_plan(claim.lease, "encode", "d", {}, host="here")
            store.commit_unit(claim.lease, unit())
            store.end(claim.lease, ending(State.FAILED, claim))
    store.submit_many([job("kept-1"), job("kept-2", after=("kept-1",))], batch=NewBatch("kept", "x"))
    clock.advance(100)
    rounds = 0
    while removed := store.prune(ended_before=store.now(), limit=7):
        assert len(removed) <= 7
        rounds += 1
    assert rounds == 5
    assert store.count_by_state(JobFilter()) == {State.QUEUED: 1, State.WAITING: 1}
    left = backend.dump()
    assert {name: len(left[name]) for name in OF_A_JOB if left[name]} == {
        "job": 2,
        "job_detail": 2,
        "dependency": 1,
    }
    assert len(left["batch"]) == 1
    assert store.batch_jobs("b1") is None
    assert store.batch_jobs("kept") == ["kept-1", "kept-2"]


def test_the_last_call_takes_what_belongs_to_no_job(store: Store, clock: Clock) -> None:
    store.submit_many([], batch=NewBatch("b-empty", "x"))
    store.pause_queue("night", by="ann")
    store.check_in(worker("gone", host="elsewhere"), ttl=TTL)
    store.check_in(worker("holds"), ttl=TTL)
    assert bring(store, "running") is not None
    held = store.live_jobs()[0].job.worker_id
    store.check_in(worker(str(held)), ttl=TTL)
    clock.advance(TTL + 50)
    cut = store.now() - 10
    store.check_in(worker("new"), ttl=TTL)
    store.submit_many([], batch=NewBatch("b-new", "x"))
    store.resume_queue("night")
    newest = store.last_event_id()
    assert store.prune(ended_before=cut) == []
    assert store.batch_jobs("b-empty") is None
    assert store.batch_jobs("b-new") == []
    assert sorted(there.id for there in store.workers()) == sorted([str(held), "new"])
    assert [event.kind for event in store.events_since(0) if event.job_id is None] == ["queue_resumed"]
    assert store.last_event_id() == newest


def test_a_store_that_has_nothing_to_give_back_says_so(store: Store) -> None:
    assert store.shrink() is False
