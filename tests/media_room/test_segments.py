"""Cutting and halving hold their promises for any timestamps."""

import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from unjam.media.model import Index
from unjam.media.segments import Segment, cut, durations_us, halve

BASES = st.sampled_from([Fraction(1, 90000), Fraction(1, 1000), Fraction(1, 12800), Fraction(1001, 30000)])


@st.composite
def indexes(draw: st.DrawFn) -> Index:
    steps = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=120))
    start = draw(st.integers(-100_000, 10_000_000))
    pts = [start]
    for step in steps:
        pts.append(pts[-1] + step)
    keys = draw(st.lists(st.sampled_from(pts), unique=True, max_size=20))
    return Index(pts, sorted({pts[0], *keys}), True)


def covers(segments: tuple[Segment, ...], index: Index) -> None:
    """Every frame in exactly one segment, in order, each from a keyframe to the next one's start."""
    assert [p for s in segments for p in s.pts(index)] == list(index.pts)
    for one, after in itertools.pairwise(segments):
        assert one.end == after.start
        assert after.first == one.first + one.frames
    assert segments[-1].end is None
    assert all(s.start in index.keyframes and s.frames > 0 for s in segments)
    assert len({s.name for s in segments}) == len(segments)


@given(indexes(), BASES, st.one_of(st.none(), st.floats(0.001, 100)))
def test_cut_takes_each_frame_once_and_begins_at_keyframes(
    index: Index, base: Fraction, seconds: float | None
) -> None:
    segments = cut(index, base, seconds)
    covers(segments, index)
    for one in segments[:-1]:
        assert one.end is not None
        assert seconds is not None
        assert (one.end - one.start) * base >= Fraction(seconds).limit_denominator(1000)


@given(indexes(), BASES, st.data())
def test_halving_keeps_what_is_committed(index: Index, base: Fraction, data: st.DataObject) -> None:
    """INV-KEEP: committed pieces keep name and frames; nothing gets a name that was ever used."""
    segments = cut(index, base, 0.5)
    used = {s.name for s in segments}
    for _ in range(4):
        committed = set(data.draw(st.lists(st.sampled_from([s.name for s in segments]), unique=True)))
        after = halve(segments, committed, index)
        covers(after, index)
        assert {s for s in segments if s.name in committed} <= set(after)
        fresh = {s.name for s in after} - {s.name for s in segments}
        assert not fresh & used
        used |= fresh
        segments = after


def test_halving_ends_at_one_gop() -> None:
    index = Index(list(range(100)), list(range(0, 100, 10)), True)
    segments = cut(index, Fraction(1, 10), None)
    counts = []
    while (after := halve(segments, (), index)) != segments:
        segments = after
        counts.append(len(segments))
    assert counts == [2, 4, 8, 10]
    assert {s.frames for s in segments} == {10}


def test_a_short_tail_joins_the_last_piece() -> None:
    index = Index(list(range(110)), list(range(0, 110, 10)), True)
    assert [s.frames for s in cut(index, Fraction(1, 10), 5)] == [50, 60]
    index = Index(list(range(130)), list(range(0, 130, 10)), True)
    assert [s.frames for s in cut(index, Fraction(1, 10), 5)] == [50, 50, 30]


@given(indexes(), BASES)
def test_positions_in_the_concat_list_never_drift(index: Index, base: Fraction) -> None:
    segments = cut(index, base, 0.01)
    at = 0
    for piece, micros in zip(segments, durations_us(segments, index, base), strict=True):
        exact = (piece.start - segments[0].start) * base * 1_000_000
        assert abs(at - exact) <= Fraction(1, 2)
        at += micros
