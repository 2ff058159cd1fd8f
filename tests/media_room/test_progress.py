"""The parser of `-progress` against what two ffmpeg builds really wrote."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media_room.clips import clip, ffmpeg
from unjam.media.progress import Parser

REAL = (
    b"frame=50\nfps=0.00\nstream_0_0_q=-1.0\nbitrate= 217.2kbits/s\ntotal_size=54300\nout_time_us=2000000\n"
    b"out_time_ms=2000000\nout_time=00:00:02.000000\ndup_frames=0\ndrop_frames=0\nspeed=29.5x\nprogress=continue\n"
    b"frame=51\nfps=0.00\ntotal_size=N/A\nout_time_us=N/A\nout_time_ms=2040000\nspeed=N/A\nprogress=end\n"
)


@given(st.lists(st.integers(0, len(REAL)), max_size=8))
def test_a_block_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    parser = Parser()
    at = [0, *sorted(cuts), len(REAL)]
    reports = [r for a, b in itertools.pairwise(at) for r in parser.feed(REAL[a:b])]
    first, last = reports
    assert (first.frame, first.total_size, first.seconds, first.speed, first.done) == (
        50,
        54300,
        2.0,
        29.5,
        False,
    )
    assert (last.frame, last.total_size, last.speed, last.done) == (51, None, None, True)
    assert last.seconds == 2.04, "out_time_ms is microseconds too"


@pytest.mark.parametrize("build", ["ffmpeg", "system_ffmpeg"])
def test_both_builds_are_understood(build: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tool = request.getfixturevalue(build)
    out = ffmpeg(
        ["-nostats", "-progress", "pipe:1", "-i", str(clip("plain.mp4")), str(tmp_path / "o.mp4")], tool
    )
    last = Parser().feed(out.encode())[-1]
    assert last.done
    assert last.frame == 200
    assert last.seconds == pytest.approx(8.0, abs=0.1)
    assert last.total_size is not None
    assert last.total_size > 10_000


def test_evidence_stays_while_nothing_advances() -> None:
    """INV-STALL: ffmpeg goes on talking while it waits for a dead input."""
    one, two = Parser().feed(REAL[: REAL.index(b"frame=51")] * 2)
    assert one.evidence == two.evidence
