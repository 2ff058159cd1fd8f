"""Awkward sources, cut into segments and in one piece, with both ffmpeg builds: frames, times, sound,
picture."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import container_files
from tests.media_room.clips import clip, frames, sound_starts_and_ends, strictly_decodes
from tests.pipelines.rig import Job, Outcome
from unjam.media.probe import probe

AUDIO_FRAME = 1024 / 44100
AWKWARD = [
    "plain.mp4",
    "silent.mp4",
    "surround.mkv",
    "odd-size.mkv",
    "ntsc.mp4",
    "uneven-rate.mp4",
    "ten-bit-hdr.mp4",
    "interlaced.ts",
    "open-gop.ts",
    "vp9.webm",
    "hidden-frames.webm",
    "divx.avi",
    "portrait.mp4",
    "two-tracks.mkv",
    "late.ts",
    "late.mkv",
    "edit-list.mp4",
    "late-sound.mp4",
    "late-picture.mp4",
    "subtitled.mkv",
]
AWKWARD_FOR_BOTH = [
    "uneven-rate.mp4",
    "interlaced.ts",
    "vp9.webm",
    "late.ts",
    "late.mkv",
    "edit-list.mp4",
    "late-sound.mp4",
    "subtitled.mkv",
]


def converted(
    folder: Path, source: Path, *, suffix: str = ".mp4", tool: Path | str = "pinned", **params: Any
) -> Outcome:
    folder.mkdir(exist_ok=True)
    values = {"speed": "ultrafast", **params} if params.get("preset", "mp4") == "mp4" else params
    outcome = Job(folder, source, params=values, suffix=suffix).attempt(ffmpeg=str(tool))
    assert outcome.status == 0, outcome.log[-3000:]
    return outcome


def times(path: Path) -> list[float]:
    """Seconds of every frame from the first."""
    found = probe(path)
    assert found.media.video is not None
    return [float((p - found.index.pts[0]) * found.media.video.base) for p in found.index.pts]


@pytest.mark.parametrize(
    ("build", "name"),
    [("ffmpeg", n) for n in AWKWARD] + [("system_ffmpeg", n) for n in AWKWARD_FOR_BOTH],
)
def test_cut_into_segments(name: str, build: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every frame of the source, each at its time; sound begins and ends where it did, within one audio
    frame."""
    source = clip(name)
    outcome = converted(tmp_path, source, tool=request.getfixturevalue(build), segment_seconds=3, crf=0)
    assert "one piece" not in outcome.log
    assert times(outcome.main) == pytest.approx(times(source), abs=0.0012)
    assert strictly_decodes(outcome.main)
    video = probe(outcome.main).media.video
    assert video is not None
    assert (video.codec, video.pix_fmt, video.rotation) == ("h264", "yuv420p", 0)
    media = probe(source).media
    if media.audio and media.video is not None:
        before, after = sound_starts_and_ends(source), sound_starts_and_ends(outcome.main)
        shift = _picture_start(outcome.main) - _picture_start(source)
        assert after[0] - shift == pytest.approx(before[0], abs=AUDIO_FRAME)
        assert after[1] - shift == pytest.approx(before[1], abs=AUDIO_FRAME)


def _picture_start(path: Path) -> float:
    """Seconds from where a player begins to the first picture."""
    media = probe(path).media
    assert media.video is not None
    return media.video.start - media.start


@pytest.mark.parametrize(
    "name", ["plain.mp4", "open-gop.ts", "edit-list.mp4", "late.ts", "vp9.webm", "uneven-rate.mp4"]
)
def test_segments_hold_the_very_pictures_of_the_source(name: str, tmp_path: Path) -> None:
    """Lossless, so that any frame taken twice, left out or decoded from half its references would show."""
    outcome = converted(tmp_path, clip(name), segment_seconds=2, crf=0)
    assert [digest for _, digest in frames(outcome.main)] == [digest for _, digest in frames(clip(name))]


@pytest.mark.parametrize("path", container_files(), ids=lambda p: p.name)
def test_every_container_in_one_piece(path: Path, tmp_path: Path) -> None:
    outcome = converted(tmp_path, path)
    assert len(frames(outcome.main)) == len(frames(path))
    assert strictly_decodes(outcome.main)


def test_what_cannot_be_cut_is_done_in_one_piece_and_said(tmp_path: Path) -> None:
    outcome = converted(tmp_path, clip("intra-refresh.mp4"), segment_seconds=2)
    assert "cannot be cut safely" in outcome.log
    assert len(frames(outcome.main)) == 200


def test_a_program_stream_is_not_cut(tmp_path: Path) -> None:
    path = next(p for p in container_files() if p.suffix == ".mpg")
    outcome = converted(tmp_path, path, segment_seconds=2)
    assert "cannot be cut safely (seeking in mpeg is not exact): encoding it in one piece" in outcome.log


@pytest.mark.slow
@pytest.mark.parametrize("segment_seconds", [None, 4])
def test_the_picture_is_as_it_should_be(segment_seconds: int | None, tmp_path: Path) -> None:
    def video(name: str, **params: Any) -> Any:
        more: dict[str, Any] = {"segment_seconds": segment_seconds} if segment_seconds else {}
        outcome = converted(tmp_path / name, clip(name), **params, **more)
        return probe(outcome.main).media

    portrait = video("portrait.mp4").video
    assert (portrait.width, portrait.height) == (64, 96)
    odd = video("odd-size.mkv").video
    assert (odd.width, odd.height) == (96, 62)
    small = video("ntsc.mp4", max_height=32).video
    assert (small.width, small.height, small.rate) == (48, 32, (30000, 1001))
    assert video("ten-bit-hdr.mp4").video.color == {"primaries": 9, "transfer": 16, "matrix": 9}
    assert not video("interlaced.ts").video.interlaced
    assert video("surround.mkv").audio[0].channels == 6
    rich = video("subtitled.mkv")
    assert ([s.codec for s in rich.subtitles], rich.chapters) == (["mov_text"], 2)


def test_the_default_track_is_kept_and_the_choice_said(tmp_path: Path) -> None:
    outcome = converted(tmp_path, clip("two-tracks.mkv"))
    assert "2 audio tracks: keeping track 2 (fin)" in outcome.log
    assert len(probe(outcome.main).media.audio) == 1


def test_full_verification_decodes_strictly(tmp_path: Path) -> None:
    outcome = converted(tmp_path, clip("plain.mp4"), verify="full")
    assert outcome.progress("verify")[-1].evidence.startswith("200,")


# -- the other presets
# ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["m4a", "mp3", "flac", "wav", "opus"])
@pytest.mark.parametrize("build", ["ffmpeg", "system_ffmpeg"])
def test_sound_alone(kind: str, build: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tool = request.getfixturevalue(build)
    source, suffix = clip("surround.mkv"), f".{kind}"
    outcome = converted(tmp_path, source, preset="audio", format=kind, suffix=suffix, tool=tool)
    media = probe(outcome.main).media
    assert media.video is None
    assert media.duration == pytest.approx(8.0, abs=0.1)
    assert media.audio[0].channels == (2 if kind == "mp3" else 6)


def test_a_sound_file_is_a_fine_source_for_sound(tmp_path: Path) -> None:
    outcome = converted(tmp_path, clip("sound.m4a"), preset="audio", format="mp3", suffix=".mp3")
    assert probe(outcome.main).media.duration == pytest.approx(8.0, abs=0.1)


@pytest.mark.parametrize(
    ("name", "container"),
    [("plain.mkv", "mp4"), ("stream.ts", "mp4"), ("divx.avi", "mkv"), ("vp9.webm", "mkv")],
)
def test_remux_changes_no_picture(name: str, container: str, tmp_path: Path) -> None:
    outcome = converted(tmp_path, clip(name), preset="remux", container=container, suffix=f".{container}")
    assert [d for _, d in frames(outcome.main)] == [d for _, d in frames(clip(name))]


def test_remux_keeps_all_tracks_and_subtitles(tmp_path: Path) -> None:
    two = converted(tmp_path / "a", clip("two-tracks.mkv"), preset="remux")
    assert len(probe(two.main).media.audio) == 2
    rich = converted(tmp_path / "b", clip("subtitled.mkv"), preset="remux", container="mkv", suffix=".mkv")
    media = probe(rich.main).media
    assert ([s.codec for s in media.subtitles], media.chapters) == (["subrip"], 2)


@pytest.mark.parametrize(
    "name",
    [
        "a b.mp4",
        "quo'te\"s.mp4",
        "new\nline.mp4",
        "-leading.mp4",
        "ünïcödé 映画.mp4",
        "http:x.mp4",
        "p%03d.mp4",
        b"\xff\xfe.mp4",
    ],
)
def test_any_name_will_do(name: str | bytes, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(name)
    source.write_bytes(clip("plain.mp4").read_bytes())
    work = tmp_path / "o'dd\nfolder"
    outcome = converted(work, source, segment_seconds=4)
    assert len(probe(outcome.main).index.pts) == 200


def test_the_result_starts_at_once_in_a_browser(tmp_path: Path) -> None:
    """faststart: the index stands before the media, also after a join."""
    cases: list[tuple[str, dict[str, Any]]] = [("a", {}), ("b", {"segment_seconds": 2})]
    for folder, params in cases:
        data = converted(tmp_path / folder, clip("plain.mp4"), **params).main.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")
