"""The ffmpeg command lines of convert. Pure: they are the same whoever runs them, so a plan can be
repeated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from unjam.media import formats
from unjam.media.ffmpeg import FFmpeg
from unjam.media.model import Media, Video
from unjam.media.segments import Segment
from unjam.pipelines.convert.presets import Recipe

FINE_TIMESCALE = 10_000
"""Ticks a second that an mp4 track has at least: with 24 of them the edit list could not shift by a part of a
frame."""
SEEK_EARLIER = Fraction(1, 200)
"""Seconds before the keyframe to seek to: rounding must never land behind it. What comes too early is
trimmed."""
STEADY = "sync-lookahead=0"
"""x264's lookahead in a thread of its own now and then makes another film of the same frames: 8 of 60 encodes
with 2 threads on a busy machine (measured, pinned build), none of 115 without it, for the same CPU time. Only
pieces need this: several attempts make one film of them, which must be the one of an undisturbed run."""
QUEUE = "4096"
"""Packets that may wait for a stream which starts late; 5.1 gives up at 128."""

Arguments = list[str | Path]


def base(tool: FFmpeg) -> Arguments:
    """ffmpeg, silent but for errors, talking on stdout, never reading stdin."""
    quiet = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "error"]
    return [tool.path, *quiet, "-progress", "pipe:1", "-stats_period", "0.5", "-y"]


def source(path: Path, threads: int) -> Arguments:
    """The input: this file and nothing that it may name. `file:` because a name may look like a protocol."""
    guard = ["-protocol_whitelist", "file", "-format_whitelist", formats.DEMUXERS]
    return [*guard, "-threads", str(threads), "-i", f"file:{path}"]


def timescale(tick: Fraction) -> int:
    """Ticks a second for an mp4 track that holds times of this time base exactly."""
    scale = tick.denominator
    while scale < FINE_TIMESCALE:
        scale *= 2
    return scale


def _timing(video: Video, mode: str) -> list[str]:
    # The source's own time base as a rational: the only form that 5.1 and 9.0 both take (`demux`: no 5.1,
    # `-1`: no 9.0).
    tick = video.base
    exact = ["-fps_mode", mode, "-enc_time_base", f"{tick.numerator}/{tick.denominator}"]
    return [*exact, "-video_track_timescale", str(timescale(tick))]


def segment(
    tool: FFmpeg, path: Path, media: Media, recipe: Recipe, piece: Segment, threads: int, out: Path
) -> Arguments:
    """The frames of one segment, the first at time 0, each at its distance from it.

    The seek only has to land somewhere before the keyframe: which frames are taken is decided by `trim` on
    the source's own timestamps, which `-copyts` keeps. (Relying on ffmpeg's accurate seek costs half a frame
    here and there.)
    """
    video = _video(recipe)
    seek: list[str] = []
    if piece.first:
        at = piece.start * video.base - SEEK_EARLIER
        seek = ["-noaccurate_seek", "-ss", f"{float(at) - media.start:.6f}"]
    end = f":end_pts={piece.end}" if piece.end is not None else ""
    chain = f"trim=start_pts={piece.start}{end},setpts=PTS-({piece.start})"
    return [
        *base(tool),
        *seek,
        "-copyts",
        *source(path, threads),
        *("-map", f"0:{video.index}", "-an", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"),
        *("-vf", ",".join(filter(None, (chain, recipe.filters)))),
        *("-frames:v", str(piece.frames)),
        *_timing(video, "passthrough"),
        *recipe.video_args,
        *("-x264-params", STEADY),
        *("-threads", str(threads), "-f", "mp4"),
        f"file:{out}",
    ]


def sound(tool: FFmpeg, path: Path, media: Media, recipe: Recipe, threads: int, out: Path) -> Arguments:
    """The sound of the whole source in one piece (pieces would drift by their priming: 56 ms a joint,
    measured), and the subtitles with it. Times count from where the file begins."""
    streams = [*(a.index for a in recipe.audio), *recipe.subtitles]
    return [
        *base(tool),
        *_from_zero(media),
        *source(path, threads),
        *_maps(0, streams),
        *("-vn", "-map_chapters", "-1"),
        *(recipe.audio_args if recipe.audio else ()),
        *(recipe.subtitle_args if recipe.subtitles else ()),
        *("-max_muxing_queue_size", QUEUE, "-f", "mp4"),
        f"file:{out}",
    ]


def whole(tool: FFmpeg, path: Path, recipe: Recipe, threads: int, out: Path) -> Arguments:
    """Everything in one go."""
    streams = [
        *([recipe.video.index] if recipe.video else ()),
        *(a.index for a in recipe.audio),
        *recipe.subtitles,
    ]
    picture: list[str] = []
    if recipe.video is None:
        picture = ["-vn"]
    elif recipe.copies:
        picture = [*recipe.video_args]
    else:
        # vfr: every frame at its own time, and none twice at the same.
        picture = [*_timing(recipe.video, "vfr"), *recipe.video_args, "-threads", str(threads)]
        picture = ["-vf", recipe.filters, *picture]
    return [
        *base(tool),
        *(("-fflags", "+genpts") if recipe.copies else ()),
        *source(path, threads),
        *_maps(0, streams),
        *("-dn", "-map_metadata", "0"),
        *picture,
        *(recipe.audio_args if recipe.audio else ("-an",)),
        *(recipe.subtitle_args if recipe.subtitles else ("-sn",)),
        *("-max_muxing_queue_size", QUEUE),
        *recipe.mux_args,
        f"file:{out}",
    ]


def join(
    tool: FFmpeg,
    listing: Path,
    audio: Path | None,
    path: Path,
    media: Media,
    recipe: Recipe,
    threads: int,
    out: Path,
) -> Arguments:
    """The segments in a row, the sound beside them, chapters and tags from the source.

    `-copyts`: else ffmpeg moves each input to its own time 0, priming of the sound included (23 ms off,
    measured).
    """
    video = _video(recipe)
    offset = f"{video.start - media.start:.6f}"
    inputs: Arguments = ["-copyts", "-itsoffset", offset, "-f", "concat", "-i", listing]
    maps = ["-map", "0:v:0"]
    if audio is not None:
        inputs += ["-i", f"file:{audio}"]
        maps += ["-map", "1:a?", "-map", "1:s?"]
    tags = str(2 if audio is not None else 1)
    return [
        *base(tool),
        *inputs,
        *_from_zero(media),
        *source(path, threads),
        *maps,
        *("-map_metadata", tags, "-map_chapters", tags, "-c", "copy"),
        *("-video_track_timescale", str(timescale(video.base)), "-max_muxing_queue_size", QUEUE),
        *recipe.mux_args,
        f"file:{out}",
    ]


def concat_list(names: Sequence[str], durations_us: Sequence[int]) -> str:
    """An ffconcat file. `names` are relative and plain: the format has no way to write a newline."""
    lines = ["ffconcat version 1.0"]
    for name, micros in zip(names, durations_us, strict=True):
        lines += [f"file {name}", f"duration {micros // 1_000_000}.{micros % 1_000_000:06d}"]
    return "\n".join(lines) + "\n"


def _maps(number: int, streams: Iterable[int]) -> list[str]:
    return [word for index in streams for word in ("-map", f"{number}:{index}")]


def _from_zero(media: Media) -> list[str]:
    """Options of an input whose times shall count from where the file begins, by our own reckoning of that
    moment."""
    return ["-copyts", "-itsoffset", f"{-media.start:.6f}"]


def _video(recipe: Recipe) -> Video:
    if recipe.video is None:
        raise ValueError("a recipe without video has no segments")
    return recipe.video
