"""The comparisons that decide whether a result may be published."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest

from tests.media_room.clips import clip
from unjam.media import verify
from unjam.media.ffmpeg import find
from unjam.media.probe import probe

MS, FINE = Fraction(1, 1000), Fraction(1, 90000)


def test_the_same_times_in_two_time_bases_are_equal() -> None:
    millis = [100, 140, 180, 220]
    ticks = [9000 * i // 9000 * 3600 for i in range(4)]
    assert verify.first_difference(millis, MS, ticks, FINE) is None


@pytest.mark.parametrize(
    ("got", "said"),
    [([0, 40, 80], "3 frames, 4 expected"), ([0, 40, 85, 120], "frame 2 is +0.005000 s off")],
)
def test_a_lost_or_moved_frame_is_told(got: list[int], said: str) -> None:
    assert verify.first_difference([100, 140, 180, 220], MS, got, MS) == said


@pytest.mark.parametrize(
    ("expected", "got", "fine"), [(1440, 366, False), (500, 498, True), (500, 496, False), (2, 0, True)]
)
def test_an_odd_frame_may_be_missing_but_not_many(expected: int, got: int, fine: bool) -> None:
    assert (verify.missing_frames(expected, got) is None) is fine


def test_a_file_that_promises_more_than_it_holds_is_cut_short() -> None:
    media = probe(clip("plain.mp4")).media
    assert verify.cut_short(media) is None
    assert media.video is not None
    less = dataclasses.replace(media.video, frames=media.video.frames - 1)
    assert (
        verify.cut_short(dataclasses.replace(media, video=less))
        == "the file is cut short: 199 of 200 frames are there"
    )
    mkv = probe(clip("plain.mkv")).media
    assert verify.cut_short(mkv) is None
    longer = dataclasses.replace(mkv, declared_duration=20.0)
    assert "ends at 8.0 s of 20.0 s" in (verify.cut_short(longer) or "")


def test_missing_sound_is_told() -> None:
    audio = probe(clip("plain.mp4")).media.audio[0]
    assert verify.missing_sound(audio, dataclasses.replace(audio, end=audio.end - 0.1)) is None
    assert verify.missing_sound(audio, dataclasses.replace(audio, end=audio.end - 2)) is not None


def test_strict_decode_reads_this_file_and_writes_none(tmp_path: Path) -> None:
    argv = verify.strict_decode(find("pinned"), tmp_path / "-x.mp4")
    assert f"file:{tmp_path}/-x.mp4" in argv
    assert argv[-2:] == ["null", "-"]
