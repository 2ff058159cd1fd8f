"""Where a video is cut into the pieces that survive a kill. Pure: timestamps in, segments out."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Container, Sequence
from dataclasses import dataclass
from fractions import Fraction

from unjam.media.model import Index

TAIL = Fraction(1, 3)
"""A last piece shorter than this share of a segment joins the one before: its start-up would cost more than
its work."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames `first` .. `first + frames - 1` in order of presentation; begins with a keyframe. pts in source
    ticks."""

    name: str
    first: int
    frames: int
    start: int
    end: int | None
    """pts of the first frame after it; None for the last segment."""

    def pts(self, index: Index) -> Sequence[int]:
        """The timestamps of its frames."""
        return index.pts[self.first : self.first + self.frames]


def cut(index: Index, base: Fraction, seconds: float | None) -> tuple[Segment, ...]:
    """Segments of at least `seconds`, each beginning with a keyframe; one segment when `seconds` is None.

    A keyframe begins a segment by its timestamp: the frames of an open GOP that are decoded after it and
    shown before it stay with the segment before, which decodes on until it has them.
    """
    pts = index.pts
    starts = [0]
    if seconds is not None:
        target = Fraction(seconds).limit_denominator(1000) / base
        for key in index.keyframes:
            if key - pts[starts[-1]] >= target:
                starts.append(bisect.bisect_left(pts, key))
        if len(starts) > 1 and pts[-1] - pts[starts[-1]] < target * TAIL:
            starts.pop()
    return _between(index, starts, [f"v{i:05d}" for i in range(len(starts))], len(pts))


def halve(segments: Sequence[Segment], committed: Container[str], index: Index) -> tuple[Segment, ...]:
    """The same segments, those not committed cut in two at the keyframe nearest to their middle.

    Committed ones keep their names, new ones get names never used before (INV-KEEP); never below one GOP.
    Equal to `segments` when nothing can be cut any more.
    """
    out: list[Segment] = []
    for s in segments:
        middle = None if s.name in committed else _middle(s, index)
        if middle is None:
            out.append(s)
        else:
            out += _between(index, [s.first, middle], [s.name + "a", s.name + "b"], s.first + s.frames)
    return tuple(out)


def _middle(segment: Segment, index: Index) -> int | None:
    low = bisect.bisect_right(index.keyframes, segment.start)
    high = len(index.keyframes) if segment.end is None else bisect.bisect_left(index.keyframes, segment.end)
    inside = [bisect.bisect_left(index.pts, key) for key in index.keyframes[low:high]]
    wanted = segment.first + segment.frames / 2
    return min(inside, key=lambda i: abs(i - wanted), default=None)


def _between(index: Index, starts: Sequence[int], names: Sequence[str], stop: int) -> tuple[Segment, ...]:
    stops = [*starts[1:], stop]
    return tuple(
        Segment(
            name=name,
            first=first,
            frames=after - first,
            start=index.pts[first],
            end=index.pts[after] if after < len(index.pts) else None,
        )
        for name, first, after in zip(names, starts, stops, strict=True)
    )


def durations_us(segments: Sequence[Segment], index: Index, base: Fraction) -> list[int]:
    """Microseconds from each segment's start to the next one's, for a concat list.

    Differences of rounded positions, not rounded differences: those would add up over a long film.
    """
    origin = segments[0].start
    last = index.pts[-1] + (index.pts[-1] - index.pts[-2] if len(index.pts) > 1 else 1)
    at = [round((s.start - origin) * base * 1_000_000) for s in segments]
    at.append(round((last - origin) * base * 1_000_000))
    return [b - a for a, b in itertools.pairwise(at)]
