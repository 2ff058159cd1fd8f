"""Is a result whole? Frames, timestamps and lengths of what was made against what was promised. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from unjam.media.ffmpeg import FFmpeg
from unjam.media.formats import DECLARES_DURATION
from unjam.media.model import Audio, Media, Video

LOST_SHARE = 200
"""One frame in this many may be missing (and at least two): containers count a frame or two that no decoder
shows."""
AUDIO_SLACK = 0.5
"""Seconds of sound that may be missing at the end: priming, padding, a last packet cut in two."""
CUT_SHORT_SHARE = 0.02
CUT_SHORT_SECONDS = 1.0


def cut_short(media: Media) -> str | None:
    """The sentence that says so when a file promises more than it holds: it was not copied or recorded to its
    end."""
    video = media.video
    if video is not None and _too_few(video, media.container):
        return f"the file is cut short: {video.frames} of {video.declared_frames} frames are there"
    declared = media.declared_duration
    if declared is not None and media.container in DECLARES_DURATION:
        end = max([video.end] if video else [], default=0.0)
        end = max([end, *(a.end for a in media.audio)])
        if declared - end > max(CUT_SHORT_SECONDS, CUT_SHORT_SHARE * declared):
            return f"the file is cut short: it ends at {end:.1f} s of {declared:.1f} s"
    return None


def _too_few(video: Video, container: str) -> bool:
    # An mp4's sample table is exact; AVI writers count frames that they then drop.
    slack = 0 if container == "mov" else max(5, int(CUT_SHORT_SHARE * video.declared_frames))
    return video.frames < video.declared_frames - slack


def missing_frames(expected: int, got: int) -> str | None:
    """None when at most the odd frame is missing, else how much."""
    lost = expected - got
    if lost > max(2, expected // LOST_SHARE):
        return f"only {got} of {expected} frames could be decoded: the file is damaged"
    return None


def missing_sound(source: Audio, made: Audio) -> str | None:
    """None when the sound is as long as the source's, else how much is missing."""
    want, got = source.end - source.start, made.end - made.start
    if want - got > max(AUDIO_SLACK, want / LOST_SHARE):
        return f"only {got:.1f} of {want:.1f} s of sound could be decoded: the file is damaged"
    return None


def first_difference(
    expected: Sequence[int], base: Fraction, got: Sequence[int], got_base: Fraction
) -> str | None:
    """None when both lists tell the same times, counted from their first frame, within a tick; else where
    they part."""
    if len(expected) != len(got):
        return f"{len(got)} frames, {len(expected)} expected"
    tolerance = max(base, got_base, Fraction(1, 1_000_000))
    for number, (a, b) in enumerate(zip(expected, got, strict=True)):
        off = (b - got[0]) * got_base - (a - expected[0]) * base
        if abs(off) > tolerance:
            return f"frame {number} is {float(off):+.6f} s off"
    return None


def strict_decode(tool: FFmpeg, path: Path) -> list[str | Path]:
    """The command that decodes every packet and fails on the first error (`verify=full`).

    Measured: plain decoding ends with 0 on a file cut to two thirds and on one with 4 kB flipped; this
    catches both.
    """
    strict = ["-v", "error", "-xerror", "-err_detect", "explode"]
    progress = ["-nostats", "-progress", "pipe:1", "-stats_period", "0.5"]
    return [
        str(tool.path),
        "-nostdin",
        "-hide_banner",
        *strict,
        *progress,
        "-i",
        f"file:{path}",
        "-map",
        "0",
        "-f",
        "null",
        "-",
    ]
