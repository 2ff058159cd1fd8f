"""What a conversion decides before its first unit: pieces or one go, and everything that a resume must find
unchanged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from unjam.media import formats
from unjam.media.ffmpeg import FFmpeg
from unjam.media.model import Media, Probe
from unjam.media.segments import Segment, cut
from unjam.pipelines.convert.params import ConvertParams
from unjam.pipelines.convert.presets import Recipe

VERSION = 1
"""Raised when the command lines change: units of an older release must not meet those of a newer one."""
LONG_SECONDS = 120.0
"""An encode that is likely to take longer is cut, so that a kill costs a piece and not the whole."""
PIECE_SECONDS = 60.0
"""Measured at 360p: no dearer than one piece (0.95 of its CPU at 60 s, 0.96 at 10 s)."""
MEGAPIXELS_PER_SECOND = {
    "ultrafast": 110.0,
    "superfast": 75.0,
    "veryfast": 50.0,
    "faster": 30.0,
    "fast": 20.0,
    "medium": 17.0,
    "slow": 9.0,
    "slower": 4.0,
    "veryslow": 2.5,
}
"""What one core encodes in a second, roughly ("fast" measured at 360p, the rest in the usual proportions):
only good for "minutes or not"."""


def stamp(stat: os.stat_result) -> dict[str, int]:
    """The identity of a source file: another size or time of change means another file."""
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def pieces(
    params: ConvertParams, probe: Probe, threads: int
) -> tuple[tuple[Segment, ...] | None, str | None]:
    """(segments, None), or (None, why it is done in one go); (None, None) when nobody would want it cut."""
    media = probe.media
    if params.preset != "mp4" or media.video is None:
        return None, None
    seconds = params.segment_seconds
    if seconds is None:
        if estimate(params, media, threads) <= LONG_SECONDS:
            return None, None
        seconds = PIECE_SECONDS
    if reason := why_not(probe):
        return None, f"cannot be cut safely ({reason}): encoding it in one piece"
    found = cut(probe.index, media.video.base, seconds)
    return (found, None) if len(found) > 1 else (None, None)


def why_not(probe: Probe) -> str | None:
    """What forbids cutting this source, if anything."""
    if probe.media.container not in formats.CUTTABLE:
        return f"seeking in {probe.media.container} is not exact"
    if not probe.index.exact:
        return "frames without timestamps"
    if not probe.index.keyframes:
        return "no keyframes"
    return None


def estimate(params: ConvertParams, media: Media, threads: int) -> float:
    """Seconds the encode may take."""
    video = media.video
    if video is None:
        return 0.0
    return video.width * video.height * video.frames / 1e6 / MEGAPIXELS_PER_SECOND[params.speed] / threads


def body(
    params: ConvertParams,
    recipe: Recipe,
    source: Mapping[str, int],
    tool: FFmpeg,
    threads: int,
    segments: tuple[Segment, ...] | None,
) -> dict[str, Any]:
    """The plan as it is stored: any difference voids the units, since half of each would be no film."""
    video = recipe.video
    return {
        "version": VERSION,
        "source": dict(source),
        "params": params.model_dump(exclude={"verify"}),
        "ffmpeg": {"version": tool.version, "build": tool.build_id},
        "threads": threads,
        "time_base": list(video.time_base) if video else None,
        "frames": video.frames if video else None,
        "segments": rows(segments) if segments else None,
    }


def rows(segments: tuple[Segment, ...]) -> list[list[Any]]:
    """Segments as JSON."""
    return [[s.name, s.first, s.frames, s.start, s.end] for s in segments]


def from_rows(found: list[list[Any]]) -> tuple[Segment, ...]:
    return tuple(Segment(*row) for row in found)
