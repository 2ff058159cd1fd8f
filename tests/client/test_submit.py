"""Attacks on submission: doubles, what is continued, what is refused, what is left untouched when refused."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.client.world import World
from unjam.client.submit import DuplicatePolicy, Fate, plan
from unjam.errors import Duplicate, InputBad, InputMissing, NotFound, NotPermitted, UsageError
from unjam.jobs.model import JobLimits
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.states import State


def test_a_file_becomes_one_job_without_a_batch(world: World) -> None:
    source = world.file("in/a.mov")
    outcome = world.submit(world.ask("in/a.mov", output_dir="out"))
    assert outcome.batch_id is None
    job = world.job(outcome.job_ids[0])
    assert job.state is State.QUEUED
    assert job.spec.inputs[0].uri == str(source)
    assert job.spec.output_path == str(world.root / "out/a.mp4")
    assert (world.root / "out").is_dir()


def test_a_folder_becomes_a_batch_and_the_bad_ones_become_jobs_that_will_say_so(world: World) -> None:
    world.file("in/a.mov")
    world.file("in/empty.mov", "")
    outcome = world.submit(world.ask("in", output_dir="out"))
    assert outcome.batch_id is not None
    assert world.store.batch_jobs(outcome.batch_id) == outcome.job_ids
    assert [world.job(i).spec.name for i in outcome.job_ids] == ["a.mov", "empty.mov"]


def test_a_single_bad_input_is_refused_and_leaves_nothing_behind(world: World) -> None:
    world.file("empty.mov", "")
    os.mkfifo(world.root / "pipe.mov")
    for name, error in (("empty.mov", InputBad), ("pipe.mov", InputBad), ("gone.mov", InputMissing)):
        with pytest.raises(error):
            world.submit(world.ask(name, output_dir="out"))
    assert world.store.newest() is None
    assert not (world.root / "out").exists()


def test_a_dry_look_writes_nothing(world: World) -> None:
    world.file("a.mov")
    planned = plan(world.store, world.settings, world.ask("a.mov", output_dir="out"))
    assert [item.fate for item in planned.items] == [Fate.NEW]
    assert world.store.newest() is None
    assert not (world.root / "out").exists()


def test_unknown_pipeline_parameter_and_value(world: World) -> None:
    world.file("a.mov")
    with pytest.raises(NotFound, match="did you mean convert"):
        world.submit(world.ask("a.mov", pipeline="convrt"))
    with pytest.raises(UsageError, match="preset"):
        world.submit(world.ask("a.mov", params={"preset": "mp5"}, output_dir="out"))
    with pytest.raises(UsageError, match="did you mean preset"):
        world.submit(world.ask("a.mov", params={"presett": "mp4"}, output_dir="out"))
    with pytest.raises(UsageError, match="segment_seconds"):
        world.submit(world.ask("a.mov", params={"segment_seconds": "-1"}, output_dir="out"))
    assert world.store.newest() is None


def test_an_input_for_a_pipeline_that_takes_none_and_none_for_one_that_needs_it(world: World) -> None:
    with pytest.raises(UsageError, match="needs an input"):
        world.submit(world.ask())
    with pytest.raises(UsageError, match="takes no input"):
        world.submit(world.ask("a.mov", pipeline="exec", params={"argv": ["true"]}))


def test_an_output_folder_that_cannot_be_made(world: World) -> None:
    world.file("a.mov")
    world.file("file")
    with pytest.raises(NotPermitted, match="cannot be made"):
        world.submit(world.ask("a.mov", output_dir="file/out"))
    assert world.store.newest() is None


def test_the_same_command_while_it_runs_is_refused_with_the_jobs_id(world: World) -> None:
    """INV-DUP"""
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    first = world.submit_one(asked)
    world.claim(world.worker())
    with pytest.raises(Duplicate, match=first.id) as caught:
        world.submit(asked)
    assert caught.value.job_id == first.id
    returned = world.submit(replace(asked, on_duplicate=DuplicatePolicy.RETURN))
    assert returned.jobs == ((first.id, Fate.RUNNING),)


def test_one_running_of_many_refuses_the_whole_command_before_anything_is_written(world: World) -> None:
    """INV-DUP"""
    world.file("in/a.mov")
    world.submit(world.ask("in/a.mov", output_dir="out"))
    world.claim(world.worker())
    world.file("in/b.mov")
    with pytest.raises(Duplicate):
        world.submit(world.ask("in", output_dir="out"))
    assert [job.spec.name for job in world.store.get_many(world.store.resolve("j"))] == ["a.mov"]


def test_the_same_command_goes_on_with_what_nobody_runs(world: World) -> None:
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    first = world.submit_one(asked)
    again = world.submit(asked)
    assert again.jobs == ((first.id, Fate.CONTINUED),)
    assert "continuing " + first.id in again.notes[0]


@pytest.mark.parametrize("state", [State.FAILED, State.PAUSED, State.CANCELLED, State.PARTIAL])
def test_an_unfinished_end_is_continued_as_the_same_job(world: World, state: State) -> None:
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    first = world.submit_one(asked)
    if state is State.CANCELLED:
        world.store.request_cancel([first.id], by="tester")
    else:
        claim = world.claim(world.worker())
        if state is State.PAUSED:
            world.store.request_pause(
                [first.id], by="tester", reason=Reason(ReasonCode.INTERRUPTED, "paused")
            )
        world.end(claim, state, ReasonCode.CRASHED)
    assert world.job(first.id).state is state
    assert world.submit(asked).job_ids == [first.id]
    assert world.job(first.id).state is State.QUEUED


def test_a_changed_source_is_seen_when_a_job_is_continued(world: World) -> None:
    source = world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    first = world.submit_one(asked)
    world.end(world.claim(world.worker()), State.FAILED, ReasonCode.CRASHED)
    source.write_text("another and longer film")
    world.submit(asked)
    assert world.job(first.id).spec.inputs[0].size_bytes == source.stat().st_size


def test_a_job_of_a_dead_worker_is_followed_and_not_refused(world: World) -> None:
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    first = world.submit_one(asked)
    world.claim(world.worker(alive=False))
    assert world.submit(asked).jobs == ((first.id, Fate.CONTINUED),)


def test_a_worker_that_may_live_on_another_host_is_believed(world: World) -> None:
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    world.submit_one(asked)
    world.claim(world.worker(alive=False, host="elsewhere"))
    with pytest.raises(Duplicate):
        world.submit(asked)


def test_finished_work_is_submitted_anew_for_the_worker_to_skip(world: World) -> None:
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    first = world.submit_one(asked)
    world.end(world.claim(world.worker()), State.SUCCEEDED, ReasonCode.OK)
    assert world.submit_one(asked).id != first.id


def test_a_failed_job_goes_on_with_the_limits_now_asked_for(world: World) -> None:
    """INV-KEEP: a longer limit must not cost the units that the shorter one left."""
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out", limits=JobLimits(timeout=5))
    first = world.submit_one(asked)
    world.end(world.claim(world.worker()), State.FAILED, ReasonCode.TIMEOUT)
    longer = world.submit_one(replace(asked, limits=JobLimits(timeout=50), priority=3))
    assert (longer.id, longer.spec.limits.timeout, longer.spec.priority) == (first.id, 50, 3)


def test_force_is_never_over_an_active_job(world: World) -> None:
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    first = world.submit_one(asked)
    with pytest.raises(Duplicate, match="cancel it first"):
        world.submit(replace(asked, force=True))
    world.store.request_cancel([first.id], by="tester")
    forced = world.submit_one(replace(asked, force=True))
    assert forced.id != first.id
    assert forced.spec.force


def test_supersede_with_force_takes_the_place_of_an_active_job(world: World) -> None:
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    first = world.submit_one(asked)
    second = world.submit_one(replace(asked, force=True, on_duplicate=DuplicatePolicy.SUPERSEDE))
    assert world.job(first.id).state is State.CANCELLED
    assert second.id != first.id


def test_supersede_without_force_spares_a_job_that_is_not_stalled(world: World) -> None:
    world.file("a.mov")
    asked = world.ask("a.mov", output_dir="out")
    world.submit_one(asked)
    world.claim(world.worker())
    with pytest.raises(Duplicate):
        world.submit(replace(asked, on_duplicate=DuplicatePolicy.SUPERSEDE))


def test_the_output_name_of_another_active_job_is_refused_with_its_id(world: World) -> None:
    """INV-DUP"""
    world.file("x/a.mov")
    world.file("y/a.mov")
    first = world.submit_one(world.ask("x/a.mov", output_dir="out"))
    with pytest.raises(Duplicate, match=first.id):
        world.submit(world.ask("y/a.mov", output_dir="out"))


def test_of_many_only_those_whose_name_is_taken_are_refused(world: World) -> None:
    world.file("x/a.mov")
    first = world.submit_one(world.ask("x/a.mov", output_dir="out"))
    world.file("y/a.mov")
    world.file("y/b.mov")
    outcome = world.submit(world.ask("y", output_dir="out"))
    assert [name for name, _ in outcome.refused] == ["a.mov"]
    assert first.id in outcome.refused[0][1].message
    assert [world.job(i).spec.name for i in outcome.job_ids] == ["b.mov"]


def test_the_result_of_a_job_as_input_waits_for_that_job(world: World) -> None:
    world.file("a.mov")
    first = world.submit_one(world.ask("a.mov", output_dir="out"))
    second = world.submit_one(world.ask(f"job:{first.id}", output_dir="out2"))
    assert second.spec.inputs[0].uri == str(world.root / "out/a.mp4")
    assert second.spec.after == (first.id,)
    assert second.state is State.WAITING
    world.store.request_cancel([first.id], by="tester")
    with pytest.raises(InputMissing):
        world.submit(world.ask(f"job:{first.id}/a.mp4", output_dir="out3"))


@pytest.mark.parametrize("name", ["-x.mov", 'it\'s "a".mov', "two\nlines.mov", "été 🎬.mov"])
def test_odd_names_reach_the_store_and_come_back(world: World, name: str) -> None:
    source = world.file(f"in/{name}")
    (job_id,) = world.submit(world.ask("in", output_dir="out")).job_ids
    assert world.job(job_id).spec.inputs[0].uri == str(source)
    assert Path(world.job(job_id).spec.output_path or "").name == Path(name).stem + ".mp4"


def test_a_name_that_is_not_utf8_reaches_the_store_and_comes_back(world: World) -> None:
    raw = os.fsencode(world.root) + b"/caf\xe9.mov"
    with open(raw, "wb") as file:
        file.write(b"x")
    job = world.submit_one(world.ask(os.fsdecode(raw), output_dir="out"))
    assert os.fsencode(job.spec.inputs[0].uri) == raw
    assert job.spec.name == "caf%E9.mov"
