"""One look tells a worker whether there is anything for it: it asks for the rest only then, so what this look
does not see is not done (INV-LOST)."""

from collections.abc import Sequence
from dataclasses import fields

from tests.store.rig import HOST, PAUSED, TTL, Clock, ending, job, take, take_one, worker
from unjam.jobs.records import Due
from unjam.jobs.states import State
from unjam.store import Store

NOTHING = Due(claimable=False, requested=False, expired=False, abandoned=False, neighbours=False)


def due(
    store: Store,
    id: str = "worker-1",
    *,
    host: str = HOST,
    queues: Sequence[str] | None = None,
    pipelines: Sequence[str] = ("convert",),
) -> Due:
    return store.due(id, host=host, queues=queues, pipelines=pipelines)


def seen(found: Due) -> set[str]:
    return {one.name for one in fields(Due) if getattr(found, one.name)}


def test_an_empty_store_has_nothing(store: Store) -> None:
    store.check_in(worker(), ttl=TTL)
    assert due(store) == NOTHING


def test_a_job_can_be_claimed_whenever_a_claim_would_take_it(store: Store, clock: Clock) -> None:
    store.submit(job("a"))
    cases: list[tuple[list[str] | None, list[str]]] = [
        (None, ["convert"]),
        (["default"], ["convert"]),
        (["night"], ["convert"]),
        (None, ["faces"]),
        (None, []),
    ]
    for queues, pipelines in cases:
        looked = due(store, queues=queues, pipelines=pipelines).claimable
        claims = take(store, queues=queues, pipelines=pipelines)
        assert looked == bool(claims), (queues, pipelines)
        for claim in claims:
            store.end(claim.lease, ending(State.QUEUED, claim))
    store.pause_queue("default", by="ann")
    assert not due(store).claimable
    store.resume_queue("default")
    claim = take_one(store)
    assert not due(store).claimable
    store.end(claim.lease, ending(State.QUEUED, claim, run_at=store.now() + 10))
    assert not due(store).claimable, "in backoff"
    clock.advance(10)
    assert due(store).claimable


def test_what_is_asked_is_seen_by_who_runs_the_job(store: Store) -> None:
    store.submit_many([job("a"), job("b")])
    a, b = take(store, limit=2)
    assert not due(store).requested
    store.request_pause(["b"], by="ann", reason=PAUSED)
    assert seen(due(store)) == {"requested"}
    assert not due(store, "worker-2").requested
    store.end(b.lease, ending(State.PAUSED, b))
    assert not due(store).requested
    store.request_cancel(["a"], by="ann")
    assert seen(due(store)) == {"requested"}
    store.end(a.lease, ending(State.CANCELLED, a))
    assert due(store) == NOTHING


def test_a_lease_that_ran_out_is_seen_by_everybody(store: Store, clock: Clock) -> None:
    store.submit(job("a"))
    take_one(store)
    clock.advance(TTL - 0.1)
    assert due(store, "worker-2", host="elsewhere") == NOTHING
    clock.advance(0.1)
    assert seen(due(store, "worker-2", host="elsewhere")) == {"expired"}
    assert [found.lease.job_id for found in store.expired()] == ["a"]


def test_a_watcher_that_vanished(store: Store, clock: Clock) -> None:
    store.submit(job("a"))
    store.attach("terminal", ["a"], ttl=10)
    clock.advance(9.9)
    assert not due(store).abandoned
    clock.advance(0.1)
    assert due(store).abandoned
    assert store.expire_attachments() == ["a"]
    assert due(store) == NOTHING


def test_neighbours_are_the_others_of_this_machine(store: Store) -> None:
    store.check_in(worker(), ttl=TTL)
    store.check_in(worker("far", host="elsewhere"), ttl=TTL)
    assert due(store) == NOTHING
    store.check_in(worker("near"), ttl=TTL)
    assert seen(due(store)) == {"neighbours"}
    assert seen(due(store, "near")) == {"neighbours"}
    store.check_out("near")
    assert due(store) == NOTHING
