"""How attempts end, and that nothing stale has any effect."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.store.rig import (
    HOST,
    PAUSED,
    TTL,
    Backend,
    Clock,
    an_input,
    artifact,
    bring,
    changes,
    ending,
    job,
    picture,
    staged,
    state_of,
    take,
    take_one,
    unit,
    worker,
)
from unjam.errors import Conflict, LeaseLost, PastReturn
from unjam.jobs.model import Counters
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import Lease, StageRecord
from unjam.jobs.states import ENDED, AttemptState, StageState, State
from unjam.store import Store


# -- both ends -------------------------------------------------------------------------------------------
def test_a_sentence_about_a_name_that_is_no_text_keeps_no_job_from_its_end(store: Store) -> None:
    store.submit(job())
    claim = take_one(store)
    bad = Reason(ReasonCode.INPUT_BAD, "cannot read caf\udce9.mov")
    stages = (
        StageRecord("probe", StageState.SUCCEEDED, 1, 1.0),
        StageRecord("encode", StageState.FAILED, 2, 0.5, "reads caf\udce9.mov", reason=bad),
        StageRecord("verify", StageState.PENDING, 3),
    )
    for update in (picture(claim.lease, stages=stages), picture(claim.lease, stages=stages, message="on")):
        assert store.save_progress([update]) == []
    store.end(claim.lease, ending(State.FAILED, claim, job_reason=bad, stages=stages))
    told = store.stages("job-1")
    assert [(one.name, one.message) for one in told] == [
        ("probe", ""),
        ("encode", "reads caf\\udce9.mov"),
        ("verify", ""),
    ]
    assert told[1].reason == Reason(ReasonCode.INPUT_BAD, "cannot read caf\\udce9.mov")


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_end_is_written_whole(store: Store, clock: Clock, state: State) -> None:
    store.submit(job())
    claim = take_one(store)
    clock.advance(7)
    counters = Counters(attempts=1, failures=1)
    stage = StageRecord("encode", StageState.SUCCEEDED, 1, 1.0, "done", 3, 3, 1.0, 2.0)
    end = ending(
        state,
        claim,
        counters=counters,
        artifacts=(artifact(), artifact("poster")),
        peak_rss_bytes=11,
        cpu_seconds=2.5,
        stages=(stage,),
    )
    store.end(claim.lease, end)
    ended = store.get("job-1")
    assert ended is not None
    assert (ended.state, ended.reason, ended.finished_at) == (state, end.job_reason, clock())
    assert (ended.phase, ended.worker_id, ended.lease_expires_at, ended.counters) == (
        None,
        None,
        None,
        counters,
    )
    assert ended.progress == (1.0 if state in (State.SUCCEEDED, State.PARTIAL, State.SKIPPED) else 0.0)
    (attempt,) = store.attempts("job-1")
    assert (attempt.state, attempt.reason, attempt.ended_at) == (
        end.attempt_state,
        end.attempt_reason,
        clock(),
    )
    assert (attempt.peak_rss_bytes, attempt.cpu_seconds) == (11, 2.5)
    assert store.artifacts("job-1") == [artifact(), artifact("poster")]
    assert store.stages("job-1") == [stage]
    assert changes(store)[-1] == (State.RUNNING, state)
    assert store.live_jobs() == []


def test_a_retry_waits_for_its_moment_and_says_why(store: Store) -> None:
    store.submit(job())
    claim = take_one(store)
    end = ending(State.QUEUED, claim, run_at=store.now() + 4, counters=Counters(attempts=1, crashes=1))
    store.end(claim.lease, end)
    queued = store.get("job-1")
    assert queued is not None
    assert (queued.state, queued.run_at, queued.reason) == (State.QUEUED, store.now() + 4, end.job_reason)
    assert queued.counters.crashes == 1
    assert (queued.finished_at, queued.lease_expires_at) == (None, None)


def test_a_second_end_is_refused(store: Store) -> None:
    """INV-FENCE: an attempt ends once."""
    store.submit(job())
    claim = take_one(store)
    store.end(claim.lease, ending(State.SUCCEEDED, claim))
    with pytest.raises(LeaseLost):
        store.end(claim.lease, ending(State.FAILED, claim))
    assert state_of(store) is State.SUCCEEDED


def test_a_claim_that_never_started_is_given_back(store: Store) -> None:
    store.submit(job())
    claim = take_one(store)
    store.unlease(claim.lease, ending(State.SKIPPED, claim))
    assert state_of(store) is State.SKIPPED
    (attempt,) = store.attempts("job-1")
    assert attempt.state is AttemptState.SUCCEEDED


def test_an_end_cannot_be_a_live_state(store: Store) -> None:
    store.submit(job())
    claim = take_one(store)
    end = ending(State.FAILED, claim)
    with pytest.raises(Conflict):
        store.end(
            claim.lease, type(end)(end.attempt_state, end.attempt_reason, State.WAITING, None, end.counters)
        )
    assert state_of(store) is State.RUNNING


# -- requests that come too late for the worker ----------------------------------------------------------
@pytest.mark.parametrize(
    ("wanted", "after"),
    [
        (State.QUEUED, State.CANCELLED),
        (State.PAUSED, State.CANCELLED),
        (State.SUCCEEDED, State.CANCELLED),
        (State.CANCELLED, State.CANCELLED),
        (State.FAILED, State.FAILED),
    ],
)
def test_a_cancel_that_the_worker_missed_stands(store: Store, wanted: State, after: State) -> None:
    lease = bring(store, "cancelling")
    assert lease is not None
    store.end(lease, ending(wanted))
    done = store.get("job-1")
    assert done is not None
    assert done.state is after
    assert done.requested is None
    assert done.reason is not None
    if after is State.CANCELLED:
        assert done.reason.code is ReasonCode.CANCELLED_BY_USER
    assert changes(store)[-2:] == [(State.RUNNING, State.CANCELLING), (State.CANCELLING, after)]


def test_a_pause_that_the_worker_missed_stands(store: Store) -> None:
    lease = bring(store, "pausing")
    assert lease is not None
    store.end(lease, ending(State.QUEUED))
    paused = store.get("job-1")
    assert paused is not None
    assert (paused.state, paused.reason, paused.requested) == (State.PAUSED, PAUSED, None)


# -- the point of no return ------------------------------------------------------------------------------
def test_publishing_tells_any_worker_how_to_roll_forward(store: Store) -> None:
    store.submit(job())
    claim = take_one(store)
    end = ending(
        State.PARTIAL, claim, artifacts=(artifact(),), stages=(StageRecord("e", StageState.SUCCEEDED, 1),)
    )
    assert store.begin_publish(claim.lease, [staged(), staged("poster")], end)
    (left,) = store.publishing(HOST)
    assert (left.lease, left.attempt, left.end) == (claim.lease, 1, end)
    assert left.outputs == (staged(), staged("poster"))
    assert store.publishing("host-b") == []
    (live,) = store.live_jobs(HOST)
    assert live.publishing
    store.end(left.lease, left.end)
    assert store.publishing(HOST) == []
    assert state_of(store) is State.PARTIAL


def test_no_publication_once_a_cancel_was_asked(store: Store) -> None:
    """INV-TORN, INV-TRUTH: `cancelled` never stands beside a new output."""
    lease = bring(store, "cancelling")
    assert lease is not None
    assert not store.begin_publish(lease, [staged()], ending(State.SUCCEEDED))
    assert store.publishing(HOST) == []


def test_a_pause_does_not_hold_back_finished_work(store: Store) -> None:
    lease = bring(store, "pausing")
    assert lease is not None
    assert store.begin_publish(lease, [staged()], ending(State.SUCCEEDED))
    store.end(lease, ending(State.SUCCEEDED))
    assert state_of(store) is State.SUCCEEDED


def test_past_the_point_of_no_return_nothing_can_be_asked(store: Store) -> None:
    lease = bring(store, "publishing")
    assert lease is not None
    assert [one.changed for one in store.request_cancel(["job-1"], by="ann")] == [False]
    assert [one.changed for one in store.request_pause(["job-1"], by="ann", reason=PAUSED)] == [False]
    store.end(lease, ending(State.SUCCEEDED))
    assert state_of(store) is State.SUCCEEDED


def test_a_publication_that_failed_may_start_again(store: Store) -> None:
    lease = bring(store, "publishing")
    assert lease is not None
    store.end(lease, ending(State.QUEUED))
    claim = take_one(store)
    assert store.publishing(HOST) == []
    assert store.begin_publish(claim.lease, [staged()], ending(State.SUCCEEDED, claim))


# -- who is left behind ----------------------------------------------------------------------------------
def test_expired_leases_are_found_with_all_that_proves_life_or_death(store: Store, clock: Clock) -> None:
    store.check_in(worker(), ttl=TTL)
    store.submit_many([job("a"), job("b"), job("c")])
    first, second = take(store, limit=2)
    store.begin(first.lease, identity="boot:1:2:3", pid=5, log_path="/l")
    store.commit_unit(first.lease, unit())
    clock.advance(TTL - 1)
    take_one(store, by="worker-2", host="host-b")
    assert store.expired() == []
    clock.advance(1)
    gone = {one.lease.job_id: one for one in store.expired()}
    assert set(gone) == {"a", "b"}
    assert (gone["a"].worker, gone["a"].attempt_identity) == (store.workers()[0], "boot:1:2:3")
    assert (gone["a"].units_committed, gone["b"].units_committed) == (True, False)
    assert (gone["b"].attempt_identity, gone["b"].publishing, gone["b"].attempt) == (None, False, 1)
    assert gone["b"].lease_expires_at == clock()
    assert gone["a"].job.id == "a"
    assert {one.lease.job_id for one in store.live_jobs()} == {"a", "b", "c"}
    (elsewhere,) = store.live_jobs("host-b")
    assert (elsewhere.lease.job_id, elsewhere.worker) == ("c", None)
    store.unlease(second.lease, ending(State.QUEUED, second))
    assert [one.lease.job_id for one in store.expired()] == ["a"]


def test_units_of_earlier_attempts_forgive_nothing(store: Store, clock: Clock) -> None:
    store.submit(job())
    claim = take_one(store)
    store.commit_unit(claim.lease, unit())
    store.end(claim.lease, ending(State.QUEUED, claim))
    take_one(store)
    clock.advance(TTL)
    (gone,) = store.expired()
    assert not gone.units_committed


# -- fences ----------------------------------------------------------------------------------------------
WRITES: dict[str, Callable[[Store, Lease], Any]] = {
    "begin": lambda store, lease: store.begin(lease, identity="i", pid=1, log_path="/l"),
    "set_containment": lambda store, lease: store.set_containment(lease, containment="tree", pid=1),
    "put_plan": lambda store, lease: store.put_plan(lease, "encode", "other", {}, host=HOST),
    "revise_plan": lambda store, lease: store.revise_plan(lease, "encode", "other", {}),
    "commit_unit": lambda store, lease: store.commit_unit(lease, unit("stale")),
    "void_units": lambda store, lease: store.void_units(lease, "encode", ["0001"]),
    "set_input_media": lambda store, lease: store.set_input_media(lease, [an_input("stale")]),
    "begin_publish": lambda store, lease: store.begin_publish(lease, [staged()], ending(State.SUCCEEDED)),
    "end": lambda store, lease: store.end(lease, ending(State.SUCCEEDED)),
    "unlease": lambda store, lease: store.unlease(lease, ending(State.QUEUED)),
    "save_progress": lambda store, lease: store.save_progress([picture(lease)]),
    "renew": lambda store, lease: store.renew("worker-1", [lease], ttl=TTL),
}


def stale_leases(store: Store) -> dict[str, Lease]:
    """An old fence, one that was never given, and those of jobs that ended, wait again, or are gone."""
    leases = {}
    for id in ("reclaimed", "ended", "requeued", "removed"):
        store.submit(job(id))
        claim = take_one(store)
        store.put_plan(claim.lease, "encode", "digest", {}, host=HOST)
        store.commit_unit(claim.lease, unit())
        state = State.QUEUED if id in ("reclaimed", "requeued") else State.FAILED
        run_at = store.now() + (1000 if id == "requeued" else 0)
        store.end(claim.lease, ending(state, claim, run_at=run_at))
        leases[id] = claim.lease
        if id == "reclaimed":
            leases["future"] = Lease(id, take_one(store).lease.fence + 1)
    store.remove(["removed"])
    return leases


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_fence_changes_nothing(store: Store, backend: Backend, write: str) -> None:
    """INV-FENCE."""
    for why, lease in stale_leases(store).items():
        before = backend.dump()
        if write == "save_progress":
            assert WRITES[write](store, lease) == [lease]
        elif write == "renew":
            assert WRITES[write](store, lease) == []
        else:
            with pytest.raises(LeaseLost, match=lease.job_id):
                WRITES[write](store, lease)
        assert backend.dump() == before, why


def test_what_is_publishing_is_not_taken_back(store: Store, backend: Backend) -> None:
    """INV-TORN: queued again it would find its own outputs in its way."""
    lease = bring(store, "publishing")
    assert lease is not None
    before = backend.dump()
    for state in (State.QUEUED, State.FAILED, State.SKIPPED):
        with pytest.raises(PastReturn, match="rolled forward"):
            store.unlease(lease, ending(state))
    assert backend.dump() == before
    store.end(lease, ending(State.SUCCEEDED))
