"""Looking: lists, counts, history, workers, queues, backup."""

from typing import Any

import pytest

from tests.store.rig import (
    HOST,
    PAUSED,
    TTL,
    Backend,
    Clock,
    bring,
    ending,
    job,
    state_of,
    take,
    take_one,
    worker,
)
from unjam.errors import Conflict, NotFound
from unjam.jobs.model import NewBatch
from unjam.jobs.states import State
from unjam.store import JobFilter, Store


def ids(store: Store, where: JobFilter | None = None, **more: int) -> list[str]:
    return [job.id for job in store.list_jobs(where or JobFilter(), **more)]


# -- lists ------------------------------------------------------------------------------------------------
def test_lists_are_newest_first_and_continue_where_they_stopped(store: Store) -> None:
    store.submit_many([job(f"job-{i:02}") for i in range(25)])
    seen: list[str] = []
    cursor = None
    while page := store.list_jobs(JobFilter(), limit=10, before_seq=cursor):
        seen += [job.id for job in page]
        cursor = page[-1].seq
        store.submit(job(f"new-{cursor}"))
    assert seen == [f"job-{i:02}" for i in reversed(range(25))]


def test_a_job_that_is_claimed_in_the_middle_of_a_look_is_listed_once(store: Any, backend: Backend) -> None:
    store.submit_many([job("a"), job("b")])
    other, look = backend.open(), store._db.all

    def late(name: str, *asked: Any, **tail: str) -> Any:
        found = look(name, *asked, **tail)
        if name == "list_jobs" and asked[0]["state"] is State.QUEUED:
            take_one(other)
        return found

    store._db.all = late
    assert ids(store, JobFilter(states=frozenset({State.QUEUED, State.RUNNING}))) == ["b", "a"]
    other.close()


@pytest.mark.parametrize("asked", ["job", "batch"])
def test_what_is_removed_in_the_middle_of_a_look_is_taken_for_no_other(
    store: Any, backend: Backend, asked: str
) -> None:
    """A number that became free is given again."""
    other, look = backend.open(), store._db.all
    store.submit_many([job("a")], batch=NewBatch("first", "a"))
    store.request_cancel(["a"], by="ann")

    def late(*asked: Any, **tail: str) -> Any:
        store._db.all = look
        found = look(*asked, **tail)
        other.remove(["a"])
        other.submit_many([job("b")], batch=NewBatch("second", "b"))
        return found

    store._db.all = late
    if asked == "job":
        assert store.get("a") is None
    else:
        assert store.batch_jobs("first") == ["a"]
    assert (ids(store), store.batch_jobs("second"), store.batch_jobs("first")) == (["b"], ["b"], None)
    other.close()


@pytest.fixture
def zoo(store: Store) -> Store:
    store.submit(job("plain"))
    store.submit(job("faces", pipeline="faces", name="Wedding 100%.mov", tags={"show": "S01"}))
    store.submit(job("night", queue="night", name="wedding_2.mov", tags={"show": "S02", "x": "y"}))
    store.submit_many(
        [job("in-batch-1"), job("in-batch-2", pipeline="faces")], batch=NewBatch("batch", "*.mov")
    )
    store.request_cancel(["in-batch-2"], by="ann")
    take_one(store, by="worker-7", queues=["night"])
    return store


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (JobFilter(), ["in-batch-2", "in-batch-1", "night", "faces", "plain"]),
        (JobFilter(states=frozenset({State.QUEUED})), ["in-batch-1", "faces", "plain"]),
        (JobFilter(states=frozenset({State.CANCELLED, State.RUNNING})), ["in-batch-2", "night"]),
        (JobFilter(pipeline="faces"), ["in-batch-2", "faces"]),
        (JobFilter(queue="night"), ["night"]),
        (JobFilter(queue="night", pipeline="faces"), []),
        (JobFilter(queue="no-such-queue"), []),
        (JobFilter(batch_id="batch"), ["in-batch-2", "in-batch-1"]),
        (JobFilter(batch_id="batch", states=frozenset({State.QUEUED})), ["in-batch-1"]),
        (JobFilter(batch_id="no-such-batch"), []),
        (JobFilter(worker_id="worker-7"), ["night"]),
        (JobFilter(tag=("show", "S01")), ["faces"]),
        (JobFilter(tag=("show", "S0")), []),
        (JobFilter(text="WEDDING"), ["night", "faces"]),
        (JobFilter(text="100%"), ["faces"]),
        (JobFilter(text="_"), ["night"]),
    ],
)
def test_filters(zoo: Store, where: JobFilter, found: list[str]) -> None:
    assert ids(zoo, where) == found
    assert sum(zoo.count_by_state(where).values()) == len(found)


def test_counts_by_state(zoo: Store) -> None:
    assert zoo.count_by_state(JobFilter()) == {State.QUEUED: 3, State.RUNNING: 1, State.CANCELLED: 1}
    assert zoo.count_by_state(JobFilter(states=frozenset({State.RUNNING, State.FAILED}))) == {
        State.RUNNING: 1
    }


def test_ids_by_prefix(store: Store) -> None:
    store.submit_many([job("abc1"), job("abc2"), job("abd"), job("ü")], batch=NewBatch("abcb", "x"))
    assert sorted(store.resolve("abc")) == ["abc1", "abc2", "abcb"]
    assert store.resolve("abd") == ["abd"]
    assert store.resolve("x") == store.resolve("abc%") == store.resolve("a_c") == []
    store.submit_many([job(f"abc-{i}") for i in range(20)])
    assert len(store.resolve("abc")) == 10


def test_last_is_the_newest_submission(store: Store) -> None:
    assert store.newest() is None
    store.submit_many([job("a"), job("b")], batch=NewBatch("batch", "x"))
    assert store.newest() == "batch"
    store.submit(job("c"))
    assert store.newest() == "c"


def test_many_by_id_in_the_order_asked_for(store: Store) -> None:
    store.submit_many([job(id) for id in "abc"])
    assert [job.id for job in store.get_many(["c", "nobody", "a"])] == ["c", "a"]
    assert store.get_many([]) == []
    assert store.get("nobody") is None
    assert store.blocked_by("nobody") == []


# -- history ----------------------------------------------------------------------------------------------
def test_events_are_numbered_in_order_and_read_from_a_cursor(store: Store, clock: Clock) -> None:
    store.submit(job("a"))
    clock.advance(5)
    store.submit(job("b"))
    claim = take_one(store)
    store.end(claim.lease, ending(State.FAILED, claim))
    events = store.events_since(0)
    assert [event.kind for event in events] == ["submitted", "submitted", "claimed", "ended"]
    assert events == sorted(events, key=lambda event: event.id)
    assert len({event.id for event in events}) == len(events)
    assert store.last_event_id() == events[-1].id
    assert store.events_since(events[1].id) == events[2:]
    assert store.events_since(0, limit=2) == events[:2]
    assert store.events_since(0, job_ids=["b"]) == [events[1]]
    last = store.events_since(0, job_ids=["a"])[-1]
    assert (last.job_id, last.attempt, last.at) == ("a", 1, clock())
    assert last.data == {"code": "input_bad", "message": "ended as failed", "attempt_state": "failed"}
    assert store.events_since(0, job_ids=[]) == []


# -- workers and queues -----------------------------------------------------------------------------------
def test_workers_check_in_beat_and_leave(store: Store, clock: Clock) -> None:
    store.check_in(worker(queues=("a", "b"), wake_path="/run/w.sock", keeper_identity="k"), ttl=TTL)
    (there,) = store.workers()
    assert (there.queues, there.wake_path, there.keeper_identity) == (("a", "b"), "/run/w.sock", "k")
    assert (there.mark, there.pipelines, there.slots) == ((1 << 62) - 1, ("convert", "faces"), 4)
    assert (there.started_at, there.expires_at, there.draining) == (clock(), clock() + TTL, False)
    clock.advance(10)
    store.heartbeat("worker-1", ttl=TTL, draining=True)
    (there,) = store.workers()
    assert (there.started_at, there.heartbeat_at, there.expires_at) == (clock() - 10, clock(), clock() + TTL)
    assert there.draining
    store.check_out("worker-1")
    assert store.workers() == []
    with pytest.raises(NotFound, match="not checked in"):
        store.heartbeat("worker-1", ttl=TTL)
    store.check_out("worker-1")
    store.forget_worker("worker-1")


def test_the_row_of_a_worker_that_holds_a_job_stays(store: Store, clock: Clock) -> None:
    """It is what proves later that the owner is dead."""
    store.check_in(worker(), ttl=TTL)
    lease = bring(store, "running")
    assert lease is not None
    with pytest.raises(Conflict, match="holds a job"):
        store.forget_worker("worker-1")
    store.check_out("worker-1")
    (there,) = store.workers()
    assert there.expires_at == clock()
    store.end(lease, ending(State.QUEUED))
    store.forget_worker("worker-1")
    assert store.workers() == []


def test_queues_tell_what_is_in_them(store: Store, clock: Clock) -> None:
    assert store.queues() == []
    store.submit(job("a"))
    clock.advance(3)
    store.submit_many([job("b", pipeline="faces"), job("c", priority=3), job("d", queue="night"), job("e")])
    store.request_pause(["e"], by="ann", reason=PAUSED)
    take(store, limit=1)
    store.pause_queue("night", by="bob")
    store.pause_queue("night", by="cleo")
    default, night = store.queues()
    assert (default.name, default.paused, default.paused_by) == ("default", False, None)
    assert default.counts == {State.QUEUED: 2, State.RUNNING: 1, State.PAUSED: 1}
    assert default.oldest_queued_at == clock() - 3
    assert (night.paused, night.paused_by, night.counts) == (True, "cleo", {State.QUEUED: 1})
    store.resume_queue("night")
    store.resume_queue("no-such-queue")
    assert [queue.paused for queue in store.queues()] == [False, False]
    kinds = [event.kind for event in store.events_since(0) if event.job_id is None]
    assert kinds == ["queue_paused", "queue_paused", "queue_resumed"]


# -- care -------------------------------------------------------------------------------------------------
def test_a_second_reader_sees_what_was_committed(store: Store, backend: Backend) -> None:
    reader = backend.open()
    assert ids(reader) == []
    for number in range(3):
        store.submit(job(f"job-{number}"))
        assert len(ids(reader)) == number + 1
    claim = take_one(reader)
    assert state_of(store, claim.job.id) is State.RUNNING
    assert reader.live_jobs(HOST)[0].lease == claim.lease
    reader.close()
