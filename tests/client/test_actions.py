"""Acting on jobs where no worker is left to act, or where a word was mistyped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.client.world import World
from unjam.client import actions, submit
from unjam.client.submit import DuplicatePolicy
from unjam.errors import Conflict, Duplicate, NotFound
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.records import UnitRecord
from unjam.jobs.states import State, UnitState


def test_a_job_of_a_dead_worker_is_cancelled_at_once(world: World) -> None:
    """INV-LOST: with no worker left it would be `cancelling` for ever, and `cancel --wait` with it."""
    world.file("a.mov")
    job = world.submit_one(world.ask("a.mov", output_dir="out"))
    world.claim(world.worker(alive=False))
    [outcome] = actions.cancel(world.store, world.settings, [job.id], by="a test")
    assert (outcome.state, outcome.changed) == (State.CANCELLED, True)
    cancelled = world.job(job.id)
    assert cancelled.state is State.CANCELLED
    assert cancelled.reason is not None
    assert cancelled.reason.code is ReasonCode.CANCELLED_BY_USER


def test_a_job_of_a_living_worker_is_its_business(world: World) -> None:
    world.file("a.mov")
    job = world.submit_one(world.ask("a.mov", output_dir="out"))
    world.claim(world.worker())
    [outcome] = actions.cancel(world.store, world.settings, [job.id], by="a test")
    assert outcome.state is world.job(job.id).state is State.CANCELLING


def test_a_mistyped_unit_costs_no_finished_one(world: World) -> None:
    """INV-KEEP."""
    world.file("a.mov")
    world.submit(world.ask("a.mov", output_dir="out"))
    claim = world.claim(world.worker())
    world.store.put_plan(claim.lease, "encode", "digest", {}, host="here")
    world.store.commit_unit(claim.lease, UnitRecord("encode", "s0", UnitState.COMMITTED, 1.0))
    world.end(claim, State.FAILED, ReasonCode.CRASHED)
    with pytest.raises(NotFound, match="no finished unit s1"):
        actions.retry(world.store, [claim.job.id], by="a test", units=["s0", "s1"])
    assert [unit.name for unit in world.store.units(claim.job.id)] == ["s0"]
    actions.retry(world.store, [claim.job.id], by="a test", units=["s0"])
    assert world.store.units(claim.job.id) == []


@pytest.mark.parametrize("how", [{"fresh": True}, {"units": ["s0"]}], ids=["fresh", "unit"])
def test_a_retry_that_is_refused_keeps_units_and_files(world: World, how: dict[str, Any]) -> None:
    """INV-KEEP."""
    made = failed_with_a_unit(world, uri := world.root / "s0.mkv")
    uri.write_bytes(b"made in hours")
    rival = world.submit_one(world.ask("a.mov", output_dir="out", force=True))
    with pytest.raises(Duplicate) as told:
        actions.retry(world.store, [made], by="a test", **how)
    assert told.value.job_id == rival.id
    assert [unit.name for unit in world.store.units(made)] == ["s0"]
    assert uri.read_bytes() == b"made in hours"
    world.store.request_cancel([rival.id], by="a test")
    actions.retry(world.store, [made], by="a test", **how)
    assert world.job(made).state is State.QUEUED
    assert world.store.units(made) == []
    assert not uri.exists()


def test_a_file_that_cannot_be_removed_holds_no_retry(world: World) -> None:
    made = failed_with_a_unit(world, uri := world.root / "a folder, which unlink refuses")
    uri.mkdir()
    actions.retry(world.store, [made], by="a test", fresh=True)
    assert world.job(made).state is State.QUEUED
    assert world.store.units(made) == []


def failed_with_a_unit(world: World, uri: Path) -> str:
    world.file("a.mov")
    world.submit(world.ask("a.mov", output_dir="out"))
    claim = world.claim(world.worker())
    world.store.put_plan(claim.lease, "encode", "digest", {}, host="here")
    world.store.commit_unit(claim.lease, UnitRecord("encode", "s0", UnitState.COMMITTED, 1.0, uri=str(uri)))
    world.end(claim, State.FAILED, ReasonCode.CRASHED)
    return claim.job.id


def test_a_job_that_does_not_end_is_not_superseded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "SUPERSEDE_LIMIT", 0.1)
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out", force=True, on_duplicate=DuplicatePolicy.SUPERSEDE)
    first = world.submit_one(replace(asked, force=False))
    world.claim(world.worker())
    with pytest.raises(Conflict, match=f"{first.id} was asked to end and did not"):
        world.submit(asked)
