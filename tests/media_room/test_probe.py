"""The probe on real files, and on readers that hang or crash in its child."""

import faulthandler
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import BROKEN, DEMO, container_files, process_alive
from tests.media_room.clips import clip, frames
from tests.processes import children_of
from unjam.errors import InputBad, UnjamError
from unjam.jobs.reasons import ReasonCode
from unjam.media.model import Probe
from unjam.media.probe import probe


def test_the_demo_clip() -> None:
    found = probe(DEMO)
    media, video = found.media, found.media.video
    assert video is not None
    assert (media.container, video.codec, video.width, video.height) == ("mov", "h264", 176, 144)
    assert (video.frames, len(found.index.keyframes), found.index.exact) == (1441, 19, True)
    assert [(a.codec, a.channels, a.sample_rate) for a in media.audio] == [("aac", 2, 22050)]
    assert media.duration == pytest.approx(60.14, abs=0.05)


def test_it_travels_as_json() -> None:
    found = probe(clip("ten-bit-hdr.mp4"))
    assert Probe.from_json(found.as_json()) == found
    video = found.media.video
    assert video is not None
    assert (video.codec, video.pix_fmt) == ("hevc", "yuv420p10le")
    assert video.color == {"primaries": 9, "transfer": 16, "matrix": 9}


@pytest.mark.parametrize("path", container_files(), ids=lambda p: p.name)
def test_promised_frames_are_the_frames_that_decode(path: Path) -> None:
    video = probe(path).media.video
    assert video is not None
    assert video.frames == len(frames(path))


@pytest.mark.parametrize(
    "name",
    [
        "edit-list.mp4",
        "open-gop.ts",
        "late.ts",
        "interlaced.ts",
        "uneven-rate.mp4",
        "hidden-frames.webm",
        "divx.avi",
    ],
)
def test_times_are_those_of_the_decoded_frames(name: str) -> None:
    found = probe(clip(name))
    decoded = [pts for pts, _ in frames(clip(name))]
    assert len(found.index.pts) == len(decoded)
    assert found.media.video is not None
    rate = found.media.video.rate
    assert rate is not None
    span = (found.index.pts[-1] - found.index.pts[0]) * found.media.video.base
    assert float(span) == pytest.approx((len(decoded) - 1) * rate[1] / rate[0], rel=0.02)


def test_rotation_and_interlacing_are_seen() -> None:
    turned = probe(clip("portrait.mp4")).media.video
    assert turned is not None
    assert (turned.width, turned.height, turned.rotation % 180) == (64, 96, 90)
    woven = probe(clip("interlaced.ts")).media.video
    assert woven is not None
    assert woven.interlaced
    plain = probe(clip("plain.mp4")).media.video
    assert plain is not None
    assert not plain.interlaced


def test_tracks_subtitles_and_chapters_are_listed() -> None:
    two = probe(clip("two-tracks.mkv")).media
    assert [(a.language, a.default) for a in two.audio] == [(None, False), ("fin", True)]
    rich = probe(clip("subtitled.mkv")).media
    assert ([s.codec for s in rich.subtitles], rich.chapters) == (["subrip"], 2)


def test_sound_without_picture() -> None:
    media = probe(clip("sound.m4a")).media
    assert media.video is None
    assert media.duration == pytest.approx(8.0, abs=0.1)


def test_the_broken_clip_can_be_probed() -> None:
    video = probe(BROKEN).media.video
    assert video is not None
    assert video.frames == 1440, "that most of them do not decode is the encoder's to find out"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "list.m3u8",
            "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{other}\n#EXT-X-ENDLIST\n",
            "a playlist",
        ),
        ("list.ffconcat", "ffconcat version 1.0\nfile {other}\n", "a playlist"),
        ("hidden.mp4", "#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n", "playlist|not a video"),
        ("text.mp4", "Dear all,\n" * 500, "not a video or audio file"),
    ],
)
def test_playlists_and_text_are_refused_and_open_nothing(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    path = tmp_path / name
    path.write_text(content.format(other=clip("stream.ts")))
    with pytest.raises(InputBad, match=said):
        probe(path)


def test_a_file_cut_short_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(DEMO.read_bytes()[:1_000_000])
    with pytest.raises(InputBad, match="moov atom not found"):
        probe(path)


# -- what happens in the child stays in the child ------------------------------------------------------------
def hang(path: str, on_packets: Callable[[int, int], None]) -> Probe:
    on_packets(1, 10)
    Path(path + ".pid").write_text(str(os.getpid()))
    while True:
        signal.pause()


def crash(_path: str, _on_packets: Callable[[int, int], None]) -> Probe:
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def killed(_path: str, _on_packets: Callable[[int, int], None]) -> Probe:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def bug(_path: str, _on_packets: Callable[[int, int], None]) -> Probe:
    raise KeyError("surprise")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "x.mp4"
    path.write_bytes(b"x" * 100)
    return path


def test_a_demuxer_that_hangs_is_killed_and_the_file_blamed(source: Path) -> None:
    """INV-STALL: at a limit of its own, whatever the attempt's may be."""
    told: list[tuple[float, str]] = []
    start = time.monotonic()
    with pytest.raises(InputBad, match=r"x\.mp4: the demuxer hangs on it"):
        probe(source, silence=0.5, reader=hang, on_progress=lambda *a: told.append(a))
    assert time.monotonic() - start < 5
    assert told == [(0.1, "1")]
    assert not process_alive(int(Path(f"{source}.pid").read_text()))


def test_a_demuxer_that_crashes_blames_the_file(source: Path) -> None:
    with pytest.raises(InputBad, match=r"x\.mp4: reading it crashed the demuxer \(SIGSEGV\)"):
        probe(source, reader=crash)


@pytest.mark.parametrize(("reader", "code"), [(killed, ReasonCode.CRASHED), (bug, ReasonCode.INTERNAL_ERROR)])
def test_a_kill_or_a_bug_does_not(source: Path, reader: Callable[..., Probe], code: ReasonCode) -> None:
    with pytest.raises(UnjamError) as caught:
        probe(source, reader=reader)
    assert caught.value.code is code


def test_an_exception_meanwhile_leaves_no_child(source: Path) -> None:
    class Stopped(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    others = children_of({os.getpid()})
    with pytest.raises(Stopped):
        probe(source, reader=hang, on_progress=stop)
    assert children_of({os.getpid()}) <= others
