"""Claiming: the right job, for one worker, on a machine that has room for it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.store.rig import (
    HOST,
    PAUSED,
    TTL,
    Backend,
    Clock,
    bring,
    changes,
    ending,
    job,
    state_of,
    take,
    take_one,
    unit,
    worker,
)
from unjam.jobs.model import JobLimits, Needs, Terms
from unjam.jobs.records import Claim, Lease
from unjam.jobs.states import AttemptState, Phase, Request, State
from unjam.store import Store
from unjam.store.claim import AGING, LOOK, PATIENCE


def ids(claims: list[Claim]) -> list[str]:
    return [claim.job.id for claim in claims]


# -- which -----------------------------------------------------------------------------------------------
def test_high_priority_first_then_the_oldest(store: Store, clock: Clock) -> None:
    for id, priority, pipeline in [
        ("a", 0, "convert"),
        ("b", 5, "faces"),
        ("c", 0, "faces"),
        ("d", 5, "convert"),
    ]:
        store.submit(job(id, priority=priority, pipeline=pipeline))
        clock.advance(1)
    assert ids(take(store, limit=3)) == ["b", "d", "a"]
    assert ids(take(store, limit=3)) == ["c"]
    assert take(store) == []


def test_only_what_the_worker_serves(store: Store) -> None:
    store.submit(job("a", queue="night"))
    store.submit(job("b", pipeline="faces"))
    store.submit(job("c"))
    assert ids(take(store, limit=9, queues=["default"], pipelines=["convert"])) == ["c"]
    assert ids(take(store, limit=9, queues=["night", "other"])) == ["a"]
    assert take(store, limit=9, pipelines=["convert"]) == []
    assert ids(take(store, limit=9)) == ["b"]


def test_a_paused_queue_gives_nothing_until_it_is_resumed(store: Store) -> None:
    store.pause_queue("default", by="ann")
    store.submit(job("a"))
    store.submit(job("b", queue="night"))
    assert ids(take(store, limit=9)) == ["b"]
    store.resume_queue("default")
    assert ids(take(store, limit=9)) == ["a"]


def test_a_job_in_backoff_is_left_alone_until_it_is_due(store: Store, clock: Clock) -> None:
    store.submit(job("late"))
    claim = take_one(store)
    store.end(claim.lease, ending(State.QUEUED, claim, run_at=store.now() + 10))
    store.submit(job("other"))
    assert ids(take(store, limit=9)) == ["other"]
    clock.advance(10)
    assert ids(take(store, limit=9)) == ["late"]


def before_it_writes(store: Any, happens: Callable[[], None]) -> None:
    """Once, between what its next call has looked at and the transaction that acts upon it."""
    write = store._db.write

    def late(alone: str = "") -> Any:
        store._db.write = write
        happens()
        return write(alone)

    store._db.write = late


@pytest.mark.parametrize("left", ["backoff", "units"])
def test_what_came_back_meanwhile_is_not_taken_as_it_was_seen(
    store: Store, backend: Backend, clock: Clock, left: str
) -> None:
    """It was due when it was looked at. Before it could be taken, a faster worker ran it and gave it back."""
    met = []

    def run_by_another() -> None:
        claim = take_one(store)
        if left == "units":
            store.put_plan(claim.lease, "encode", "d", {}, host=HOST)
            store.commit_unit(claim.lease, unit("u0", host=HOST))
        run_at = store.now() + 10 if left == "backoff" else None
        store.end(claim.lease, ending(State.QUEUED, claim, run_at=run_at))
        met.append(claim)

    store.submit(job("a"))
    slow = backend.open()
    before_it_writes(slow, run_by_another)
    assert take(slow, by="worker-2", host="host-b") == []
    assert len(met) == 1
    clock.advance(TTL)
    assert ids(take(slow, by="worker-2", host="host-b")) == ["a"]
    slow.close()


@pytest.mark.parametrize("changed", ["larger", "paused queue", "another job"])
def test_what_changed_meanwhile_is_not_taken_as_it_was_seen(
    store: Store, backend: Backend, changed: str
) -> None:
    """It fitted, and was served here, when it was looked at; by the time it could be taken nobody may, or its
    number had been given to a job of a pipeline that this worker does not know."""

    def change() -> None:
        match changed:
            case "larger":
                terms = {"a": Terms(limits=JobLimits(memory_bytes=8 << 30))}
                store.resume(["a"], by="ann", fresh_budgets=False, terms=terms)
            case "paused queue":
                store.pause_queue("default", by="ann")
            case _:
                store.request_cancel(["a"], by="ann")
                store.remove(["a"])
                store.submit(job("b", pipeline="faces"))

    store.submit(job("other", needs=Needs(memory_bytes=6 << 30)))
    take_one(store, memory_bytes=10 << 30)
    store.submit(job("a", needs=Needs(memory_bytes=2 << 30)))
    slow = backend.open()
    before_it_writes(slow, change)
    assert take(slow, by="worker-2", memory_bytes=10 << 30, pipelines=["convert"]) == []
    assert state_of(store, "b" if changed == "another job" else "a") is State.QUEUED
    slow.close()


def test_a_lease_begins_when_it_is_given(store: Store, backend: Backend, clock: Clock) -> None:
    """Not when its worker began to wait for the other writers."""
    store.submit(job("a"))
    slow = backend.open()
    before_it_writes(slow, lambda: clock.advance(TTL))
    assert take_one(slow).job.lease_expires_at == store.now() + TTL
    slow.close()


def test_a_drained_job_keeps_its_place(store: Store, clock: Clock) -> None:
    store.submit(job("first"))
    clock.advance(1)
    store.submit(job("second"))
    claim = take_one(store)
    clock.advance(100)
    store.end(claim.lease, ending(State.QUEUED, claim))
    assert ids(take(store)) == ["first"]


def test_as_many_as_asked_for(store: Store) -> None:
    """More than the first look at a lane finds."""
    store.submit_many([job(f"job-{i:02}") for i in range(20)])
    assert ids(take(store, limit=15)) == [f"job-{i:02}" for i in range(15)]
    assert ids(take(store, limit=15)) == [f"job-{i:02}" for i in range(15, 20)]


def test_no_more_than_asked_for_and_than_slots(store: Store) -> None:
    store.submit_many([job(f"job-{i}") for i in range(9)])
    assert len(take(store, limit=4, free_slots=2)) == 2
    assert len(take(store, limit=2, free_slots=4)) == 2
    assert take(store, limit=4, free_slots=0) == []


# -- where its units lie ---------------------------------------------------------------------------------
@pytest.fixture
def with_unit_on_a(store: Store, clock: Clock) -> Store:
    """A job that has just come back to the queue, with a unit on host-a."""
    store.submit(job("old"))
    clock.advance(1_000)
    claim = take_one(store)
    store.put_plan(claim.lease, "encode", "d", {}, host=HOST)
    store.commit_unit(claim.lease, unit("u0", host=HOST))
    store.renew("worker-1", [claim.lease], ttl=TTL)
    store.end(claim.lease, ending(State.QUEUED, claim))
    return store


def test_units_keep_their_job_on_their_machine_for_one_ttl(with_unit_on_a: Store, clock: Clock) -> None:
    """INV-KEEP: elsewhere they would be done again. Those behind it do not wait for it."""
    with_unit_on_a.submit(job("new"))
    assert ids(take(with_unit_on_a, host="host-b", limit=9)) == ["new"]
    clock.advance(TTL - 1)
    assert ids(take(with_unit_on_a, host="host-b")) == []
    assert ids(take(with_unit_on_a, host=HOST)) == ["old"]


def test_no_machine_is_waited_for_longer_than_one_ttl(with_unit_on_a: Store, clock: Clock) -> None:
    """INV-LOST: it may never come back."""
    clock.advance(TTL)
    assert ids(take(with_unit_on_a, host="host-b")) == ["old"]


def test_the_ttl_begins_anew_when_a_job_is_due_later(store: Store, clock: Clock) -> None:
    store.submit(job("old"))
    claim = take_one(store)
    store.put_plan(claim.lease, "encode", "d", {}, host=HOST)
    store.commit_unit(claim.lease, unit("u0", host=HOST))
    store.end(claim.lease, ending(State.QUEUED, claim, run_at=store.now() + 100))
    clock.advance(100 + TTL - 1)
    assert ids(take(store, host="host-b")) == []
    clock.advance(1)
    assert ids(take(store, host="host-b")) == ["old"]


def test_units_that_every_machine_sees_bind_nothing(store: Store) -> None:
    store.submit(job("shared"))
    claim = take_one(store)
    store.put_plan(claim.lease, "encode", "d", {}, host=HOST)
    store.commit_unit(claim.lease, unit("u0", host=None))
    store.end(claim.lease, ending(State.QUEUED, claim))
    assert ids(take(store, host="host-b")) == ["shared"]


def test_who_has_a_part_of_the_units_waits_for_nobody(with_unit_on_a: Store, clock: Clock) -> None:
    clock.advance(TTL)
    claim = take_one(with_unit_on_a, host="host-b")
    with_unit_on_a.put_plan(claim.lease, "encode", "d", {}, host="host-b")
    with_unit_on_a.commit_unit(claim.lease, unit("u1", host="host-b"))
    with_unit_on_a.end(claim.lease, ending(State.QUEUED, claim))
    assert ids(take(with_unit_on_a, host="host-c")) == []
    assert ids(take(with_unit_on_a, host=HOST)) == ["old"]


# -- room ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("needs", "machine", "fit"),
    [
        (Needs(cpu=2), {"cpu": 5}, 2),
        (Needs(memory_bytes=3), {"memory_bytes": 10}, 3),
        (Needs(gpu=1), {"gpu": 1}, 1),
        (Needs(cpu=0), {"cpu": 1}, 6),
        (Needs(cpu=9), {"cpu": 4}, 1),
    ],
)
def test_a_machine_is_shared_by_all_its_workers(
    store: Store, needs: Needs, machine: dict[str, Any], fit: int
) -> None:
    """INV-LOCK: what is used is counted from live leases, whoever holds them."""
    store.submit_many([job(f"job-{i}", needs=needs) for i in range(6)])
    got = [take(store, by=f"worker-{i}", **machine) for i in range(7)]
    assert sum(map(len, got)) == fit
    assert len(take(store, host="host-b", limit=9, **machine)) == min(fit, 6 - fit)


def test_room_comes_back_with_the_end_of_an_attempt(store: Store) -> None:
    store.submit_many([job("a", needs=Needs(cpu=4)), job("b", needs=Needs(cpu=4))])
    claim = take_one(store, cpu=4)
    assert take(store, cpu=4) == []
    store.end(claim.lease, ending(State.FAILED, claim))
    assert ids(take(store, cpu=4)) == ["b"]


def test_an_expired_lease_still_takes_room(store: Store, clock: Clock) -> None:
    """INV-LOCK: its tree may live as long as nobody has proved that it does not."""
    store.submit_many([job("a", needs=Needs(cpu=4)), job("b", needs=Needs(cpu=4))])
    take_one(store, cpu=4)
    clock.advance(TTL * 3)
    assert take(store, cpu=4) == []


def test_a_machine_without_a_gpu_leaves_gpu_jobs_to_others(store: Store, clock: Clock) -> None:
    store.submit(job("gpu", needs=Needs(gpu=1)))
    store.submit(job("plain"))
    clock.advance(PATIENCE * 2)
    assert ids(take(store, limit=9, gpu=0)) == ["plain"]
    assert ids(take(store, limit=9, gpu=1)) == ["gpu"]


def test_a_job_that_does_not_fit_is_passed_over_but_not_for_ever(store: Store, clock: Clock) -> None:
    store.submit(job("small-0"))
    store.submit(job("large", needs=Needs(cpu=4)))
    store.submit_many([job(f"small-{i}") for i in range(1, 9)])
    running = take_one(store, cpu=4)
    assert ids(take(store, cpu=4)) == ["small-1"]
    clock.advance(PATIENCE + 1)
    assert take(store, cpu=4) == []
    store.end(running.lease, ending(State.SUCCEEDED, running))
    assert take(store, cpu=4) == []
    assert ids(take(store, cpu=4, host="host-b")) == ["large"]
    assert ids(take(store, cpu=4)) == ["small-2"]


def test_one_that_fits_is_found_behind_many_that_do_not(store: Store) -> None:
    store.submit(job("running", needs=Needs(cpu=3)))
    take_one(store, cpu=4)
    store.submit_many([job(f"large-{i}", needs=Needs(cpu=4)) for i in range(LOOK - 1)])
    store.submit(job("small"))
    assert ids(take(store, cpu=4)) == ["small"]


@pytest.mark.parametrize("priority", [0, 4])
def test_a_stream_of_small_jobs_starves_no_large_one(store: Store, clock: Clock, priority: int) -> None:
    """One slot of the two is always taken when the other is given back; the large job needs both."""
    store.submit(job("large", needs=Needs(cpu=2)))
    store.submit_many([job(f"first-{n}", priority=9) for n in range(2)])
    running = take(store, limit=2, cpu=2)
    began = clock()
    for number in range(1000):
        clock.advance(20)
        store.submit(job(f"small-{number}", priority=priority))
        store.end(running[0].lease, ending(State.SUCCEEDED, running[0]))
        running = running[1:] + take(store, limit=2, cpu=2)
        if "large" in ids(running):
            break
    waited = clock() - began
    assert ids(running) == ["large"]
    # A moment for what still ran; before, its patience, and as long as it takes to become as important.
    assert waited <= priority * AGING + AGING + PATIENCE


@pytest.fixture
def neighbours(store: Store) -> Store:
    """Two workers of one machine: one for nights, with a job that needs all of it, one for days."""
    store.check_in(worker("night", queues=("night",), slots=1), ttl=1_000)
    store.check_in(worker("day", queues=("default",), slots=4), ttl=1_000)
    store.submit(job("large", queue="night", needs=Needs(cpu=4)))
    return store


def at_day(store: Store, **more: Any) -> list[Claim]:
    return take(store, by="day", queues=["default"], cpu=4, **more)


def at_night(store: Store, **more: Any) -> list[Claim]:
    return take(store, by="night", queues=["night"], cpu=4, **more)


def test_a_neighbour_with_other_queues_starves_no_large_job(neighbours: Store, clock: Clock) -> None:
    """Each looks at its own queues only; the room of the machine is one."""
    store, began, running = neighbours, clock(), list[Claim]()
    for number in range(100):
        store.submit_many([job(f"small-{number}-{i}") for i in range(4)])
        running += at_day(store, limit=4)
        if found := at_night(store):
            assert ids(found) == ["large"]
            break
        clock.advance(20)
        ended = running.pop(0) if running else None
        if ended is not None:
            store.end(ended.lease, ending(State.SUCCEEDED, ended))
    assert state_of(store, "large") is State.RUNNING
    assert clock() - began <= 2 * PATIENCE + 4 * 20


def test_its_room_is_kept_even_when_it_is_free(neighbours: Store, clock: Clock) -> None:
    """Whoever looks first would take a part of it again, and so on for ever."""
    clock.advance(PATIENCE + 1)
    neighbours.submit(job("small"))
    assert at_day(neighbours) == []
    assert ids(at_night(neighbours)) == ["large"]


def test_what_comes_before_it_is_not_held_up(neighbours: Store, clock: Clock) -> None:
    clock.advance(PATIENCE + 1)
    neighbours.submit(job("urgent", priority=9))
    assert ids(at_day(neighbours)) == ["urgent"]


def test_only_one_is_waited_for_at_a_time(neighbours: Store, clock: Clock) -> None:
    """The neighbour has one slot: the room that its first job leaves is free for others."""
    clock.advance(1)
    neighbours.submit_many([job(f"night-{i}", queue="night", needs=Needs(cpu=4)) for i in range(3)])
    claim = take_one(neighbours, by="night", queues=["night"], cpu=8)
    clock.advance(PATIENCE + 1)
    neighbours.submit_many([job(f"small-{i}") for i in range(9)])
    assert len(take(neighbours, by="day", queues=["default"], cpu=8, limit=9)) == 4, "its slot is taken"
    neighbours.end(claim.lease, ending(State.SUCCEEDED, claim))
    assert at_day(neighbours, limit=9) == [], "four run, four are kept for the next one"


@pytest.mark.parametrize("gone", ["draining", "silent", "busy", "elsewhere", "paused queue", "no gpu"])
def test_nothing_is_kept_for_whom_nobody_takes(neighbours: Store, clock: Clock, gone: str) -> None:
    """INV-LOST: a neighbour that cannot take it must not idle the machine."""
    store = neighbours
    match gone:
        case "draining":
            store.heartbeat("night", ttl=1_000, draining=True)
        case "silent":
            store.heartbeat("night", ttl=PATIENCE)
        case "busy":
            store.submit(job("first", queue="night", priority=1, needs=Needs(cpu=0)))
            assert ids(at_night(store)) == ["first"]
        case "elsewhere":
            store.check_in(worker("night", queues=("night",), slots=1, host="host-b"), ttl=1_000)
        case "paused queue":
            store.pause_queue("night", by="ann")
        case "no gpu":
            store.request_cancel(["large"], by="ann")
            store.submit(job("gpu", queue="night", needs=Needs(cpu=4, gpu=1)))
    clock.advance(PATIENCE + 1)
    store.submit(job("small"))
    assert ids(at_day(store, gpu=0)) == ["small"]


def test_a_stream_of_important_jobs_starves_no_other(store: Store, clock: Clock) -> None:
    """Strict at first; a job rises by one point for each AGING seconds that it waits."""
    store.submit(job("low"))
    began = clock()
    taken: list[str] = []
    while "low" not in taken:
        clock.advance(30)
        store.submit(job(f"high-{len(taken)}", priority=3))
        claim = take_one(store)
        taken.append(claim.job.id)
        store.end(claim.lease, ending(State.SUCCEEDED, claim))
    assert 3 * AGING <= clock() - began <= 3 * AGING + 60


# -- the lease -------------------------------------------------------------------------------------------
def test_a_claim_is_everything_the_worker_needs(store: Store, clock: Clock) -> None:
    spec = job(dedupe_key="k", output_path="/out/a.mp4", tags={"a": "b"})
    store.submit(spec)
    clock.advance(5)
    claim = take_one(store)
    assert claim.job.spec == spec
    assert (claim.lease, claim.attempt) == (Lease("job-1", 1), 1)
    assert (claim.job.state, claim.job.phase, claim.job.worker_id) == (
        State.RUNNING,
        Phase.STARTING,
        "worker-1",
    )
    assert claim.job.lease_expires_at == clock() + TTL
    assert claim.job.heartbeat_at == claim.job.started_at == clock()
    assert claim.job.counters.attempts == 1
    (attempt,) = store.attempts("job-1")
    assert (attempt.state, attempt.host, attempt.fence, attempt.number) == (AttemptState.STARTING, HOST, 1, 1)
    assert changes(store, "job-1") == [(None, State.QUEUED), (State.QUEUED, State.RUNNING)]


def test_every_claim_has_a_higher_fence(store: Store) -> None:
    """INV-FENCE."""
    store.submit(job())
    for number in (1, 2, 3):
        claim = take_one(store)
        assert (claim.lease.fence, claim.attempt, claim.job.counters.attempts) == (number, number, number)
        store.end(claim.lease, ending(State.QUEUED, claim))
    assert [attempt.number for attempt in store.attempts("job-1")] == [1, 2, 3]


def test_who_runs_the_attempt_is_known_before_it_starts(store: Store) -> None:
    store.submit(job())
    lease = take_one(store).lease
    store.begin(lease, identity="boot:1:2:3", pid=77, log_path="/logs/1")
    store.set_containment(lease, containment="pidns", pid=78)
    (attempt,) = store.attempts("job-1")
    assert (attempt.state, attempt.identity, attempt.pid) == (AttemptState.RUNNING, "boot:1:2:3", 78)
    assert (attempt.containment, attempt.log_path) == ("pidns", "/logs/1")


def test_renewal_moves_the_end_of_every_lease_still_held(store: Store, clock: Clock) -> None:
    store.submit_many([job("a"), job("b"), job("c")])
    claims = take(store, limit=3)
    store.end(claims[1].lease, ending(State.FAILED, claims[1]))
    clock.advance(10)
    wrong = Lease("c", 7)
    held = store.renew("worker-1", [claims[0].lease, claims[1].lease, wrong, Lease("gone", 1)], ttl=TTL)
    assert [one.lease.job_id for one in held] == ["a"]
    assert held[0].expires_at == clock() + TTL
    renewed, untouched = store.get_many(["a", "c"])
    assert (renewed.lease_expires_at, renewed.heartbeat_at) == (clock() + TTL, clock())
    assert untouched.lease_expires_at == clock() + TTL - 10
    assert store.renew("worker-2", [claims[0].lease], ttl=TTL) == []
    assert store.renew("worker-1", [], ttl=TTL) == []


def test_a_lease_that_ran_out_is_not_renewed(store: Store, clock: Clock) -> None:
    """INV-ONCE: the guardian has ended the tree, somebody may be about to hand the job on."""
    store.submit(job())
    lease = take_one(store).lease
    clock.advance(TTL)
    assert store.renew("worker-1", [lease], ttl=TTL) == []
    assert [one.lease for one in store.expired()] == [lease]


def test_a_worker_hears_what_was_asked(store: Store) -> None:
    cancelled = bring(store, "cancelling", "a")
    paused = bring(store, "pausing", "b")
    bring(store, "running", "c")
    assert cancelled is not None
    assert paused is not None
    heard = {one.lease: one for one in store.requests("worker-1")}
    assert set(heard) == {cancelled, paused}
    assert heard[cancelled].requested is Request.CANCEL
    reason = heard[cancelled].request_reason
    assert reason is not None
    assert reason.message == "cancelled by ann"
    assert (heard[paused].requested, heard[paused].request_reason) == (Request.PAUSE, PAUSED)
    renewed = {one.lease: one.requested for one in store.renew("worker-1", [cancelled, paused], ttl=TTL)}
    assert renewed == {cancelled: Request.CANCEL, paused: Request.PAUSE}
    assert store.requests("worker-2") == []
    assert state_of(store, "a") is State.CANCELLING
