"""Killed anywhere, a conversion goes on and ends with the very frames of an uninterrupted one."""

import random
import shutil
from pathlib import Path

import pytest

from tests.helpers import DEMO
from tests.media_room.clips import clip, frames, sound_starts_and_ends, strictly_decodes
from tests.pipelines.rig import Job, Outcome, kill, kill_after_commits
from unjam.jobs.messages import Ack, Message, Progress, UnitCommitted

FAST = {"speed": "ultrafast", "segment_seconds": 2}


def counting(folder: Path, real: Path) -> tuple[Path, Path]:
    """An ffmpeg that writes down what it was asked to make. (wrapper, list)"""
    wrapper, calls = folder / "ffmpeg", folder / "calls"
    calls.touch()
    wrapper.write_text(
        f'#!/bin/sh\nfor last; do :; done\nprintf "%s\\n" "$last" >>{calls}\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper, calls


def made(calls: Path) -> list[str]:
    """Names of the segments and sound that were begun, in order."""
    return [Path(line).stem for line in calls.read_text().splitlines() if "/encode/" in line]


def same_result(a: Outcome, b: Outcome) -> None:
    assert frames(a.main) == frames(b.main)
    assert sound_starts_and_ends(a.main) == sound_starts_and_ends(b.main)


@pytest.mark.parametrize("build", ["ffmpeg", "system_ffmpeg"])
def test_killed_at_a_commit_and_resumed(build: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """INV-KEEP: no committed unit twice, by count of ffmpeg starts; frames as uninterrupted."""
    wrapper, calls = counting(tmp_path, request.getfixturevalue(build))
    whole = Job(tmp_path / "a", clip("plain.mp4"), params=FAST)
    broken = Job(tmp_path / "b", clip("plain.mp4"), params=FAST)
    for job in (whole, broken):
        job.folder.mkdir()
    reference = whole.attempt(ffmpeg=str(wrapper), cpus=2)
    names = made(calls)
    assert names == ["audio", "v00000", "v00001", "v00002", "v00003"]
    calls.write_text("")
    first = broken.attempt(ffmpeg=str(wrapper), cpus=2, on_message=kill_after_commits(2))
    assert first.status == -9
    second = broken.attempt(ffmpeg=str(wrapper), cpus=2)
    assert second.status == 0
    assert "3 unit(s) kept" not in second.log
    assert "encode: 2 unit(s) kept from earlier attempts" in second.log
    # v00001 was made and lost before its commit; nothing committed was made again.
    assert made(calls) == ["audio", "v00000", "v00001", "v00001", "v00002", "v00003"]
    same_result(reference, second)


@pytest.mark.slow
def test_killed_at_random_moments_until_it_is_done(tmp_path: Path, ffmpeg: Path) -> None:
    """INV-KEEP, with kills in the middle of ffmpeg's work too."""
    rng = random.Random(7)
    wrapper, calls = counting(tmp_path, ffmpeg)
    params = {"speed": "ultrafast", "segment_seconds": 5}
    reference = _job(tmp_path / "a", DEMO, params).attempt(ffmpeg=str(wrapper))
    calls.write_text("")
    job = _job(tmp_path / "b", DEMO, params)
    kills = patience = 0

    def watch(message: Message, pid: int) -> bool:
        nonlocal patience
        patience -= isinstance(message, Progress | UnitCommitted) and message.stage != "probe"
        if patience < 0:
            kill(pid)
        return patience < 0

    while True:
        patience = rng.randint(1, 5)

        last = job.attempt(ffmpeg=str(wrapper), on_message=watch if kills < 5 else None)
        if last.status == 0:
            break
        assert last.status == -9
        kills += 1
    assert kills >= 3
    before = set(job.store.units["encode"])
    assert before == {"audio", *(f"v{i:05d}" for i in range(9))}
    # A message of a commit may have been said and lost with the kill, but what the store has was committed
    # once.
    assert len(made(calls)) <= len(before) + kills
    same_result(reference, last)


def _job(folder: Path, source: Path, params: dict[str, object]) -> Job:
    folder.mkdir()
    return Job(folder, source, params=params)


def test_another_ffmpeg_between_two_attempts_voids_the_units(
    tmp_path: Path, ffmpeg: Path, system_ffmpeg: Path
) -> None:
    """Two builds never meet in one film."""
    link = tmp_path / "ffmpeg"
    link.symlink_to(ffmpeg)
    job = Job(tmp_path, clip("plain.mp4"), params=FAST)
    job.attempt(ffmpeg=str(link), on_message=kill_after_commits(3))
    link.unlink()
    link.symlink_to(system_ffmpeg)
    second = job.attempt(ffmpeg=str(link))
    assert second.status == 0
    assert "encode: the plan changed, 3 finished unit(s) are void" in second.log
    assert "probe: 1 unit(s) kept" in second.log, "the index does not depend on ffmpeg"
    alone = _job(tmp_path / "alone", clip("plain.mp4"), FAST)
    assert frames(second.main) == frames(alone.attempt(ffmpeg=str(system_ffmpeg)).main)


@pytest.mark.parametrize("change", [{"crf": 30}, {"segment_seconds": 3}])
def test_other_parameters_void_the_units(tmp_path: Path, change: dict[str, object]) -> None:
    job = Job(tmp_path, clip("plain.mp4"), params=FAST)
    job.attempt(on_message=kill_after_commits(3))
    job.params = {**FAST, **change}
    second = job.attempt()
    assert second.status == 0
    assert "3 finished unit(s) are void" in second.log


def test_pause_ends_at_the_next_commit_and_resume_goes_on(tmp_path: Path) -> None:
    job = Job(tmp_path, clip("plain.mp4"), params=FAST)

    def pausing(message: Message, where: Job) -> Message | None:
        if isinstance(message, UnitCommitted) and message.name == "v00001":
            where.store.ask(message)
            return Ack("pause")
        return None

    first = job.attempt(answer=pausing)
    assert (first.status, set(job.store.units["encode"])) == (75, {"audio", "v00000", "v00001"})
    assert "stopping: pause" in first.log
    second = job.attempt()
    assert second.status == 0
    assert "encode: 3 unit(s) kept" in second.log


def test_after_early_deaths_the_pieces_halve_and_stay_halved(tmp_path: Path) -> None:
    """No livelock; committed units keep their names, the revision outlives the attempt that made it."""
    job = Job(tmp_path, clip("plain.mp4"), params={"speed": "ultrafast", "segment_seconds": 4})
    job.attempt(on_message=kill_after_commits(2))
    assert set(job.store.units["encode"]) == {"audio", "v00000"}
    third = job.attempt(early_deaths=2, on_message=kill_after_commits(2))
    assert "smaller pieces, 3 in all" in third.log
    assert set(job.store.units["encode"]) == {"audio", "v00000", "cuts-1", "v00001a"}
    last = job.attempt()
    assert last.status == 0
    assert set(job.store.units["encode"]) == {"audio", "v00000", "cuts-1", "v00001a", "v00001b"}
    assert len(frames(last.main)) == 200
    assert strictly_decodes(last.main)


def test_one_piece_that_keeps_dying_is_cut_after_all(tmp_path: Path) -> None:
    job = Job(tmp_path, clip("plain.mp4"), params={"speed": "ultrafast"})
    last = job.attempt(early_deaths=2)
    assert last.status == 0
    assert set(job.store.units["encode"]) == {"cuts-1", "audio", "v00000a", "v00000b"}
    assert len(frames(last.main)) == 200


def test_a_unit_whose_file_is_gone_is_made_again(tmp_path: Path) -> None:
    job = Job(tmp_path, clip("plain.mp4"), params=FAST)
    job.attempt(on_message=kill_after_commits(3))
    uri = job.store.units["encode"]["v00000"].uri
    assert uri is not None
    Path(uri).unlink()
    second = job.attempt()
    assert second.status == 0
    assert "unit v00000 has lost its file" in second.log


def test_units_survive_a_move_of_nothing_but_the_job(tmp_path: Path) -> None:
    """Every attempt works in a folder of its own; the join takes units from all of them."""
    job = Job(tmp_path, clip("plain.mp4"), params=FAST)
    job.attempt(on_message=kill_after_commits(1))
    job.attempt(on_message=kill_after_commits(1))
    last = job.attempt()
    folders = {Path(u.uri).parent for u in job.store.units["encode"].values() if u.uri}
    assert len(folders) == 3
    assert len(frames(last.main)) == 200


def test_a_killed_join_or_verify_costs_no_unit(tmp_path: Path, ffmpeg: Path) -> None:
    """INV-KEEP: what is finished is not lost to a later stage's failure."""
    wrapper, calls = counting(tmp_path, ffmpeg)
    job = Job(tmp_path, clip("plain.mp4"), params=FAST)

    def at_verify(message: Message, pid: int) -> bool:
        reached = getattr(message, "stage", "") == "verify"
        if reached:
            kill(pid)
        return reached

    first = job.attempt(ffmpeg=str(wrapper), on_message=at_verify)
    assert first.status == -9
    calls.write_text("")
    second = job.attempt(ffmpeg=str(wrapper))
    assert second.status == 0
    assert made(calls) == []
    shutil.rmtree(tmp_path / "work")


def test_probing_is_not_done_twice(tmp_path: Path) -> None:
    job = Job(tmp_path, clip("plain.mp4"), params=FAST)
    job.attempt(on_message=kill_after_commits(1))
    second = job.attempt()
    assert not [m for m in second.said if isinstance(m, UnitCommitted) and m.stage == "probe"]
