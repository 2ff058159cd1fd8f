"""Two calls on PostgreSQL where the second comes while the first has everything but its commit.

SQLite has no such moment: there one writes at a time. For every statement that locks rows so that they can be
judged, a case here fails when it does not (tried; renewals judge again by themselves).
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.postgres import Server
from tests.store.rig import (
    PAUSED,
    TTL,
    PostgresBackend,
    ending,
    job,
    picture,
    staged,
    state_of,
    take,
    take_one,
    unit,
)
from unjam.errors import Conflict, Duplicate, LeaseLost, NotFound
from unjam.jobs.records import Claim
from unjam.jobs.states import State
from unjam.store import Store
from unjam.store.pg_batch import Statement, sent
from unjam.store.pg_store import PostgresStore
from unjam.store.port import Submitted
from unjam.store.postgres import PostgresDatabase

Call = Callable[[Store], Any]


class _Held(PostgresDatabase):
    """Stops before its commit until it is told to go on."""

    def __init__(self, backend: PostgresBackend) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        super().__init__(backend.url, clock=backend.clock)

    def _end_with(self, batch: Sequence[Statement]) -> None:
        # All is written but the receipt and the commit: what the call locks is locked.
        sent(self._connection, batch[:-2])
        self.reached.set()
        assert self.go.wait(20)
        sent(self._connection, batch[-2:])


@pytest.fixture
def backend(postgres_server: Server, request: pytest.FixtureRequest) -> PostgresBackend:
    return PostgresBackend(postgres_server, request.node.name.partition("[")[0][:60])


@pytest.fixture
def store(backend: PostgresBackend) -> Any:
    store = backend.open()
    backend.clear()
    yield store
    assert store.check() == []
    store.close()


def at_once(backend: PostgresBackend, first: Call, second: Call, *, met: bool = True) -> tuple[Any, Any]:
    """What both answer, or raise, when the second begins before the first commits. Who has met a live job (as
    its worker has) demands in one round trip that its fence holds; others ask first."""
    answers: dict[str, Any] = {}

    def ask(name: str, call: Call, store: Store) -> None:
        try:
            if met:
                store.live_jobs()
            answers[name] = call(store)
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            answers[name] = error
        store.close()

    held = _Held(backend)
    one = threading.Thread(target=ask, args=("first", first, PostgresStore(held)))
    two = threading.Thread(target=ask, args=("second", second, backend.open()))
    one.start()
    assert held.reached.wait(20)
    two.start()
    waits = """
        SELECT 1 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE NOT l.granted AND a.query NOT LIKE '%pg_locks%'
    """
    wait_until(lambda: not two.is_alive() or backend.execute(waits), what="the second to wait or to end")
    held.go.set()
    one.join(20)
    two.join(20)
    return answers["first"], answers["second"]


def end(claim: Claim, state: State) -> Call:
    return lambda store: store.end(claim.lease, ending(state, claim))


def resume(id: str) -> Call:
    return lambda store: store.resume([id], by="ann", fresh_budgets=False)


def test_the_last_two_that_a_job_waits_for(store: Store, backend: PostgresBackend) -> None:
    """INV-LOST."""
    store.submit_many([job("a"), job("b"), job("down", pipeline="never", after=("a", "b"))])
    a, b = take(store, limit=2)
    assert at_once(backend, end(a, State.SUCCEEDED), end(b, State.SUCCEEDED)) == (None, None)
    assert state_of(store, "down") is State.QUEUED


@pytest.mark.parametrize("resumed_first", [True, False])
@pytest.mark.parametrize(("ended", "left"), [(State.SUCCEEDED, State.QUEUED), (State.FAILED, State.FAILED)])
def test_a_resumed_job_and_what_it_waits_for(
    store: Store, backend: PostgresBackend, resumed_first: bool, ended: State, left: State
) -> None:
    """INV-LOST: nobody waits for what has ended."""
    store.submit_many([job("up"), job("down", pipeline="never", after=("up",))])
    store.request_pause(["down"], by="ann", reason=PAUSED)
    calls = [resume("down"), end(take_one(store), ended)]
    at_once(backend, *(calls if resumed_first else reversed(calls)))
    assert state_of(store, "down") is left


@pytest.mark.parametrize("upstream_first", [True, False])
def test_a_job_and_what_it_waits_for_are_resumed(
    store: Store, backend: PostgresBackend, upstream_first: bool
) -> None:
    """INV-LOST: it does not fail of an end that is being taken back."""
    store.submit_many([job("up"), job("down", pipeline="never", after=("up",))])
    store.request_pause(["down"], by="ann", reason=PAUSED)
    claim = take_one(store)
    store.end(claim.lease, ending(State.FAILED, claim))
    calls = [resume("up"), resume("down")]
    at_once(backend, *(calls if upstream_first else reversed(calls)))
    assert (state_of(store, "up"), state_of(store, "down")) == (State.QUEUED, State.WAITING)


@pytest.mark.parametrize("submitted_first", [True, False])
@pytest.mark.parametrize(("ended", "left"), [(State.SUCCEEDED, State.QUEUED), (State.FAILED, State.FAILED)])
def test_a_new_job_and_what_it_waits_for(
    store: Store, backend: PostgresBackend, submitted_first: bool, ended: State, left: State
) -> None:
    """INV-LOST."""
    store.submit(job("up"))
    claim = take_one(store)
    calls: list[Call] = [
        lambda s: s.submit(job("down", pipeline="never", after=("up",))),
        end(claim, ended),
    ]
    at_once(backend, *(calls if submitted_first else reversed(calls)))
    assert state_of(store, "down") is left


def test_a_watcher_that_comes_as_the_last_one_expires(store: Store, backend: PostgresBackend) -> None:
    store.submit(job())
    store.attach("old", ["job-1"], ttl=TTL)
    backend.clock.advance(TTL + 1)
    _, paused = at_once(
        backend,
        lambda s: s.attach("new", ["job-1"], ttl=TTL),
        lambda s: s.expire_attachments(),
    )
    assert paused == []
    assert state_of(store) is State.QUEUED


WRITES: dict[str, Callable[[Store, Claim], Any]] = {
    "begin": lambda s, c: s.begin(c.lease, identity="late", pid=1, log_path="/l"),
    "put_plan": lambda s, c: s.put_plan(c.lease, "encode", "late", {}, host="host-a"),
    "commit_unit": lambda s, c: s.commit_unit(c.lease, unit()),
    "begin_publish": lambda s, c: s.begin_publish(c.lease, [staged()], ending(State.SUCCEEDED, c)),
    "end": lambda s, c: s.end(c.lease, ending(State.SUCCEEDED, c)),
    "save_progress": lambda s, c: s.save_progress([picture(c.lease)]),
    "renew": lambda s, c: s.renew("worker-1", [c.lease], ttl=TTL),
}


@pytest.mark.parametrize("met", [True, False])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_comes_as_its_lease_is_taken(
    store: Store, backend: PostgresBackend, write: str, met: bool
) -> None:
    """INV-FENCE: a reaper hands the job on, and its owner writes."""
    store.submit(job())
    claim = take_one(store)
    _, late = at_once(
        backend,
        lambda s: s.unlease(claim.lease, ending(State.QUEUED, claim)),
        lambda s: WRITES[write](s, claim),
        met=met,
    )
    if write == "save_progress":
        assert late == [claim.lease]
    elif write == "renew":
        assert late == []
    else:
        assert isinstance(late, LeaseLost)
    assert state_of(store) is State.QUEUED
    assert store.units("job-1") == []


def test_cancel_and_publish(store: Store, backend: PostgresBackend) -> None:
    """INV-TORN: whoever comes first, the other one is told."""
    store.submit_many([job("a"), job("b")])
    a, b = take(store, limit=2)
    done, late = at_once(
        backend,
        lambda s: s.begin_publish(a.lease, [staged()], ending(State.SUCCEEDED, a)),
        lambda s: s.request_cancel(["a"], by="ann"),
    )
    assert done is True
    assert [one.changed for one in late] == [False]
    asked, published = at_once(
        backend,
        lambda s: s.request_cancel(["b"], by="ann"),
        lambda s: s.begin_publish(b.lease, [staged()], ending(State.SUCCEEDED, b)),
    )
    assert [one.state for one in asked] == [State.CANCELLING]
    assert published is False


def test_pause_and_claim(store: Store, backend: PostgresBackend) -> None:
    """INV-ONCE: a job that is being paused is passed over, one that is being claimed is asked to pause."""
    store.submit(job("a"))
    _, claims = at_once(backend, lambda s: s.request_pause(["a"], by="ann", reason=PAUSED), take)
    assert claims == []
    assert state_of(store, "a") is State.PAUSED
    store.submit(job("b"))
    claims, paused = at_once(backend, take, lambda s: s.request_pause(["b"], by="ann", reason=PAUSED))
    assert [claim.job.id for claim in claims] == ["b"]
    assert [one.state for one in paused] == [State.RUNNING]
    assert [one.lease for one in store.requests("worker-1")] == [claims[0].lease]


def test_two_machines_claim_one_job(store: Store, backend: PostgresBackend) -> None:
    """INV-ONCE."""
    store.submit(job("a"))
    first, second = at_once(
        backend, lambda s: take(s, host="host-a"), lambda s: take(s, host="host-b", by="worker-2")
    )
    assert (len(first), second) == (1, [])


def test_two_workers_of_one_machine_fill_its_last_slot(store: Store, backend: PostgresBackend) -> None:
    """INV-LOCK."""
    store.submit_many([job("a"), job("b")])
    first, second = at_once(backend, lambda s: take(s, cpu=1), lambda s: take(s, cpu=1, by="worker-2"))
    assert (len(first), second) == (1, [])


def test_resume_and_remove(store: Store, backend: PostgresBackend) -> None:
    """INV-LOST: what was just resumed is not removed, nor pruned."""
    store.submit_many([job("a"), job("b"), job("c")])
    for claim in take(store, limit=3):
        store.end(claim.lease, ending(State.FAILED, claim))
    backend.clock.advance(10)
    _, refused = at_once(backend, resume("a"), lambda s: s.remove(["a"]))
    assert isinstance(refused, Conflict)
    _, gone = at_once(backend, lambda s: s.remove(["b"]), resume("b"))
    assert isinstance(gone, NotFound)
    _, pruned = at_once(backend, resume("c"), lambda s: s.prune(ended_before=s.now()))
    assert pruned == []
    assert {state_of(store, "a"), state_of(store, "c")} == {State.QUEUED}


@pytest.mark.parametrize("many", [True, False])
def test_the_same_work_from_two(store: Store, backend: PostgresBackend, many: bool) -> None:
    """INV-DUP: the second waits for the first and is told of it."""
    mine, yours = job("mine", dedupe_key="k"), job("yours", dedupe_key="k")
    other: Call = (lambda s: s.submit_many([yours])) if many else (lambda s: s.submit(yours))
    first, second = at_once(backend, lambda s: s.submit(mine), other)
    assert first == Submitted("mine", created=True)
    if many:
        assert "mine" in second[0].message
    else:
        assert isinstance(second, Duplicate)
        assert second.job_id == "mine"


def test_two_of_the_same_work_are_resumed(store: Store, backend: PostgresBackend) -> None:
    """INV-DUP."""
    for id in ("a", "b"):
        store.submit(job(id, dedupe_key="k"))
        store.request_cancel([id], by="ann")
    _, refused = at_once(backend, resume("a"), resume("b"))
    assert isinstance(refused, Duplicate)
    assert refused.job_id == "a"
