"""What an attempt writes while it runs: plans, units, progress."""

import pytest

from tests.store.rig import (
    HOST,
    TTL,
    Clock,
    an_input,
    bring,
    ending,
    job,
    picture,
    state_of,
    take_one,
    unit,
)
from unjam.errors import Conflict
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import Claim, Lease, StageRecord
from unjam.jobs.states import Phase, StageState, State, UnitState
from unjam.store import Store


@pytest.fixture
def claim(store: Store) -> Claim:
    store.submit(job(inputs=(an_input(),)))
    return take_one(store)


def again(store: Store, claim: Claim) -> Claim:
    """The attempt is lost; the next one."""
    store.end(claim.lease, ending(State.QUEUED, claim))
    return take_one(store)


def kinds(store: Store) -> list[str]:
    return [event.kind for event in store.events_since(0)]


# -- plans -----------------------------------------------------------------------------------------------
def test_a_plan_is_stored_once_and_found_again(store: Store, claim: Claim) -> None:
    first = store.put_plan(claim.lease, "encode", "digest-1", {"cuts": [0, 60]}, host=HOST)
    assert (first.plan.revision, first.plan.body, first.committed, first.voided) == (
        1,
        {"cuts": [0, 60]},
        (),
        0,
    )
    store.commit_unit(claim.lease, unit("0001"))
    store.commit_unit(claim.lease, unit("0000"))
    next_one = again(store, claim)
    found = store.put_plan(next_one.lease, "encode", "digest-1", {"ignored": True}, host=HOST)
    assert found.plan == first.plan
    assert [unit.name for unit in found.committed] == ["0001", "0000"]
    assert (found.committed[0].sha256, found.committed[0].fence) == ("cd" * 32, 1)
    (_, attempt) = store.attempts("job-1")
    assert attempt.units_reused == 2
    assert "plan_changed" not in kinds(store)


def test_another_plan_voids_the_units_and_says_so(store: Store, claim: Claim) -> None:
    """INV-KEEP: only under the same plan."""
    store.put_plan(claim.lease, "encode", "digest-1", {}, host=HOST)
    store.put_plan(claim.lease, "audio", "digest-a", {}, host=HOST)
    store.commit_unit(claim.lease, unit("0000"))
    store.commit_unit(claim.lease, unit("0001"))
    outcome = store.put_plan(claim.lease, "encode", "digest-2", {"new": 1}, host=HOST)
    assert (outcome.plan.digest, outcome.plan.revision, outcome.committed) == ("digest-2", 2, ())
    assert outcome.voided == 2
    (event,) = [event for event in store.events_since(0) if event.kind == "plan_changed"]
    assert event.data == {"stage": "encode", "digest": "digest-2", "was": "digest-1", "voided": 2}
    store.commit_unit(claim.lease, unit("0000"))


def test_a_revision_keeps_what_is_committed_and_is_found_by_either_digest(store: Store, claim: Claim) -> None:
    store.put_plan(claim.lease, "encode", "digest-1", {"n": 1}, host=HOST)
    store.commit_unit(claim.lease, unit("0000"))
    revised = store.revise_plan(claim.lease, "encode", "digest-2", {"n": 2})
    assert (revised.plan.revision, revised.plan.body, revised.voided) == (2, {"n": 2}, 0)
    assert [unit.name for unit in revised.committed] == ["0000"]
    next_one = again(store, claim)
    for digest in ("digest-1", "digest-2"):
        found = store.put_plan(next_one.lease, "encode", digest, {"n": 1}, host=HOST)
        assert (found.plan, len(found.committed)) == (revised.plan, 1)
    with pytest.raises(Conflict):
        store.revise_plan(next_one.lease, "no-such-stage", "d", {})


# -- units -----------------------------------------------------------------------------------------------
def test_a_unit_is_committed_once(store: Store, claim: Claim) -> None:
    """INV-KEEP."""
    store.put_plan(claim.lease, "encode", "digest-1", {}, host=HOST)
    store.commit_unit(claim.lease, unit(result={"score": 0.5}))
    with pytest.raises(Conflict, match="committed already"):
        store.commit_unit(claim.lease, unit())
    next_one = again(store, claim)
    with pytest.raises(Conflict):
        store.commit_unit(next_one.lease, unit(sha256="ef" * 32))
    (kept,) = store.units("job-1")
    assert (kept.state, kept.fence, kept.sha256, kept.result) == (
        UnitState.COMMITTED,
        1,
        "cd" * 32,
        {"score": 0.5},
    )


def test_a_unit_on_another_host_does_not_hold_here(store: Store, claim: Claim, clock: Clock) -> None:
    store.put_plan(claim.lease, "encode", "digest-1", {}, host=HOST)
    store.commit_unit(claim.lease, unit("0000", host=HOST))
    store.commit_unit(claim.lease, unit("0001"))
    store.end(claim.lease, ending(State.QUEUED, claim))
    clock.advance(TTL)
    elsewhere = take_one(store, host="host-b")
    found = store.put_plan(elsewhere.lease, "encode", "digest-1", {}, host="host-b")
    assert [unit.name for unit in found.committed] == ["0001"]
    store.commit_unit(elsewhere.lease, unit("0000", host="host-b"))
    with pytest.raises(Conflict):
        store.commit_unit(elsewhere.lease, unit("0001", host="host-b"))


def test_a_unit_whose_file_is_gone_can_be_done_again(store: Store, claim: Claim) -> None:
    store.put_plan(claim.lease, "encode", "digest-1", {}, host=HOST)
    for name in ("0000", "0001"):
        store.commit_unit(claim.lease, unit(name))
    assert store.void_units(claim.lease, "encode", ["0000", "no-such-unit"]) == 1
    assert [unit.name for unit in store.units("job-1")] == ["0001"]
    assert "units_voided" in kinds(store)
    store.commit_unit(claim.lease, unit("0000"))
    assert store.void_units(claim.lease, "encode", []) == 0


# -- progress --------------------------------------------------------------------------------------------
def test_the_picture_of_a_job_is_the_newest(store: Store, claim: Claim) -> None:
    stage = StageRecord("encode", StageState.RUNNING, 1, 0.4, "frame 7", 2, 5, started_at=3.0)
    running = unit("0007")
    running = type(running)("encode", "0007", UnitState.RUNNING, 0.25)
    stale = store.save_progress(
        [picture(claim.lease, stages=(stage,), units=(running,), stalled="no new frame for 120 s, CPU 0 %")]
    )
    assert stale == []
    seen = store.get("job-1")
    assert seen is not None
    assert (seen.phase, seen.progress, seen.eta_seconds, seen.message) == (Phase.WORKING, 0.5, 60.0, "half")
    assert (seen.usage, seen.stalled) == ({"rss_bytes": 1}, "no new frame for 120 s, CPU 0 %")
    assert store.stages("job-1") == [stage]
    (shown,) = store.units("job-1")
    assert (shown.name, shown.state, shown.progress) == ("0007", UnitState.RUNNING, 0.25)
    store.save_progress([picture(claim.lease, phase=Phase.VERIFYING, progress=0.9, usage=None)])
    seen = store.get("job-1")
    assert seen is not None
    assert (seen.phase, seen.progress, seen.stalled, seen.usage) == (Phase.VERIFYING, 0.9, None, None)


def test_stale_pictures_are_told_and_change_nothing(store: Store, claim: Claim) -> None:
    """INV-FENCE, for each of many written together."""
    store.submit(job("job-2"))
    other = take_one(store)
    next_one = again(store, claim)
    gone = Lease("gone", 1)
    stale = store.save_progress([picture(claim.lease), picture(other.lease), picture(gone)])
    assert stale == [claim.lease, gone]
    first, second = store.get_many(["job-1", "job-2"])
    assert (first.progress, second.progress) == (0.0, 0.5)
    assert first.fence == next_one.lease.fence
    assert store.save_progress([]) == []


def test_a_failed_unit_is_shown_with_its_reason_and_a_committed_one_is_left_alone(
    store: Store, claim: Claim
) -> None:
    store.commit_unit(claim.lease, unit("0001"))
    reason = Reason(ReasonCode.INPUT_BAD, "no audio")
    reports = tuple(
        type(unit())("encode", name, UnitState.FAILED, 0.5, reason=reason) for name in ("0001", "0002")
    )
    store.save_progress([picture(claim.lease, units=reports)])
    kept, failed = store.units("job-1")
    assert (kept.state, kept.progress) == (UnitState.COMMITTED, 1.0)
    assert (failed.state, failed.reason) == (UnitState.FAILED, reason)


@pytest.mark.parametrize(("state", "phase"), [("publishing", Phase.PUBLISHING), ("cancelling", None)])
def test_a_late_picture_brings_no_job_back(store: Store, state: str, phase: Phase | None) -> None:
    """INV-TORN: out of the point of no return; INV-TRUTH: nor out of cancelling."""
    lease = bring(store, state)
    assert lease is not None
    assert store.save_progress([picture(lease)]) == []
    late = store.get("job-1")
    assert late is not None
    assert (late.phase, late.progress) == (phase, 0.5)


def test_nothing_is_shown_as_running_when_the_tree_is_gone(store: Store, claim: Claim) -> None:
    """INV-TRUTH."""
    running = type(unit())("encode", "0001", UnitState.RUNNING, 0.5)
    stage = StageRecord("encode", StageState.RUNNING, 1, 0.4)
    store.save_progress([picture(claim.lease, stages=(stage,), units=(running,), stalled="no frame")])
    store.end(claim.lease, ending(State.PAUSED, claim))
    (unit_after,), (stage_after,) = store.units("job-1"), store.stages("job-1")
    assert (unit_after.state, stage_after.state) == (UnitState.PENDING, StageState.INTERRUPTED)
    paused = store.get("job-1")
    assert paused is not None
    assert (paused.stalled, paused.usage, paused.eta_seconds, paused.progress) == (None, None, None, 0.5)


def test_what_a_probe_found_is_kept(store: Store, claim: Claim, clock: Clock) -> None:
    probed = an_input()
    media = {"duration": 60.14, "streams": [{"codec": "h264"}]}
    with_media = type(probed)(probed.name, probed.uri, probed.size_bytes, probed.mtime_ns, media)
    store.set_input_media(claim.lease, [with_media])
    seen = store.get("job-1")
    assert seen is not None
    assert seen.spec.inputs == (with_media,)
    assert seen.spec.params == claim.job.spec.params
    assert state_of(store) is State.RUNNING
