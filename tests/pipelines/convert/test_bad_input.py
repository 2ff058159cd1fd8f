"""Bad input ends once, with its own clear sentence, nothing published and nothing half left behind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import BROKEN
from tests.media_room.clips import clip
from tests.pipelines.rig import Job, Outcome
from unjam.jobs.messages import Message, UnitCommitted
from unjam.pipelines.runner import EXIT_FAILED


def fails(job: Job, **how: object) -> tuple[str, str]:
    """(code, sentence) of an attempt that must fail and leave nothing staged."""
    outcome: Outcome = job.attempt(**how)  # type: ignore[arg-type]
    assert outcome.status == EXIT_FAILED, outcome.log[-2000:]
    assert list((job.folder / "out").glob("*")) == []
    assert list((job.folder / "out").glob(".*")) == []
    return outcome.failed.code, outcome.failed.message


def head(name: str, share: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = clip(name).read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return make


def flipped(path: Path) -> None:
    data = bytearray(clip("index-first.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = os.urandom(20_000)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("x.mp4", lambda p: p.touch(), "the file is empty"),
        ("x.mp4", lambda p: p.write_text("hello\n" * 100), "not a video or audio file"),
        ("x.mp4", head("plain.mp4", 0.6), "moov atom not found"),
        ("x.mp4", head("index-first.mp4", 0.6), "the file is cut short"),
        ("x.mkv", head("plain.mkv", 0.6), "the file is cut short: it ends at"),
        ("x.webm", head("vp9.webm", 0.6), "the file is cut short: it ends at"),
        ("x.avi", head("divx.avi", 0.6), "the file is cut short"),
        ("x.mp4", os.mkfifo, "is a named pipe, not a file"),
        ("x.mp4", Path.mkdir, "is a folder, not a file"),
        ("x.mp4", flipped, "frames could be decoded: the file is damaged"),
        ("x.ogv", lambda p: p.write_bytes(BROKEN.read_bytes()), "Decode error rate"),
    ],
)
@pytest.mark.parametrize("segment_seconds", [None, 2])
def test_bad_files(
    name: str, make: Callable[[Path], None], said: str, segment_seconds: int | None, tmp_path: Path
) -> None:
    source = tmp_path / name
    make(source)
    more = {"segment_seconds": segment_seconds} if segment_seconds else {}
    code, message = fails(Job(tmp_path, source, params={"speed": "ultrafast", **more}))
    assert (code, said in message, name in message) == ("input_bad", True, True), message


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("sound.m4a", {}, "no video; preset=audio"),
        ("silent.mp4", {"preset": "audio"}, "has no sound"),
        ("hidden-frames.webm", {"preset": "remux"}, "is vp8, which mp4 cannot hold; use container=mkv"),
    ],
)
def test_files_that_do_not_fit(name: str, params: dict[str, object], said: str, tmp_path: Path) -> None:
    code, message = fails(Job(tmp_path, clip(name), params=params))
    assert (code, said in message) == ("input_bad", True), message


def test_a_missing_file(tmp_path: Path) -> None:
    source = tmp_path / "x.mp4"
    source.write_bytes(clip("plain.mp4").read_bytes())
    job = Job(tmp_path, source)
    job.stat = source.stat()
    source.unlink()
    assert fails(job)[0] == "input_missing"


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda p: os.utime(p, (1, 1)), "input_bad", "changed while the job was running"),
        (lambda p: p.write_bytes(b"other"), "input_bad", "changed while the job was running"),
        (Path.unlink, "input_missing", "not there any more"),
    ],
)
def test_a_source_replaced_or_deleted_while_it_runs(
    change: Callable[[Path], None], code: str, said: str, tmp_path: Path
) -> None:
    """Half of one film and half of another must never be joined."""
    source = tmp_path / "x.mp4"
    source.write_bytes(clip("plain.mp4").read_bytes())

    def meddle(message: Message, _pid: int) -> None:
        if isinstance(message, UnitCommitted) and message.name == "v00000":
            change(source)

    job = Job(tmp_path, source, params={"speed": "ultrafast", "segment_seconds": 2})
    found, message = fails(job, on_message=meddle)
    assert (found, said in message) == (code, True), message
    assert "v00001" not in job.store.units["encode"]


def test_a_source_replaced_between_submission_and_start(tmp_path: Path) -> None:
    source = tmp_path / "x.mp4"
    source.write_bytes(clip("plain.mp4").read_bytes())
    job = Job(tmp_path, source)
    job.stat = source.stat()
    source.write_bytes(clip("silent.mp4").read_bytes())
    assert fails(job) == ("input_bad", f"{source}: changed since the job was submitted; submit it again")


def test_a_missing_ffmpeg(tmp_path: Path) -> None:
    code, message = fails(Job(tmp_path, clip("plain.mp4")), ffmpeg=str(tmp_path / "none"))
    assert (code, "UNJAM_FFMPEG" in message) == ("tool_missing", True)


def test_a_killed_ffmpeg_is_a_crash_that_may_be_tried_again(tmp_path: Path, ffmpeg: Path) -> None:
    wrapper = tmp_path / "ffmpeg"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *-version*) exec {ffmpeg} "$@";; esac\nkill -9 $$\n')
    wrapper.chmod(0o755)
    ended = fails(Job(tmp_path, clip("plain.mp4")), ffmpeg=str(wrapper))
    assert ended == ("crashed", "ffmpeg was killed by SIGKILL")


@pytest.mark.parametrize("segment_seconds", [None, 2])
def test_a_full_disk_ends_cleanly(segment_seconds: int | None, tmp_path: Path, ffmpeg: Path) -> None:
    """A file-size limit stands in for the disk: ffmpeg is told that there is no room in the same words."""
    wrapper = tmp_path / "ffmpeg"
    # /dev/full answers every write with ENOSPC.
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *-version*) exec {ffmpeg} "$@";; esac\n'
        f'for last; do :; done\nexec {ffmpeg} "$@" -f mp4 /dev/full\n'
    )
    wrapper.chmod(0o755)
    more = {"segment_seconds": segment_seconds} if segment_seconds else {}
    code, message = fails(
        Job(tmp_path, clip("plain.mp4"), params={"speed": "ultrafast", **more}), ffmpeg=str(wrapper)
    )
    assert (code, "free some room" in message) == ("disk_full", True), message
    assert [p for p in (tmp_path / "work").rglob("*") if p.is_file() and p.suffix != ".json"] == []
