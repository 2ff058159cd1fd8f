"""Reads a file's packets with PyAV. Runs only in the child that `probe` forks: a demuxer may hang or
crash."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import av.error
import av.logging
from av.container import InputContainer

from unjam.errors import InputBad
from unjam.media import formats
from unjam.media.model import Audio, Index, Media, Probe, Subtitle, Video

REPORT_EVERY = 256
"""Packets between two signs of life."""
UNSPECIFIED = 2
"""What ISO/IEC 23091-2 writes for a colour property that nobody stated."""
FIRST_FRAME_PACKETS = 300

OnPackets = Callable[[int, int], None]
"""Told (packets read, byte position)."""


@dataclass(slots=True)
class _Span:
    """What was seen of one stream, in its own ticks."""

    packets: int = 0
    start: int | None = None
    end: int | None = None

    def add(self, pts: int, duration: int) -> None:
        self.packets += 1
        self.start = pts if self.start is None else min(self.start, pts)
        self.end = pts + duration if self.end is None else max(self.end, pts + duration)


@dataclass(slots=True)
class _Frames:
    """The frames of the video stream while they are collected."""

    pts: list[int] = field(default_factory=list)
    keyframes: list[int] = field(default_factory=list)
    read: int = 0
    """All packets with bytes in them, shown or not."""
    unstamped: int = 0
    decodable: bool = False
    first_key: int | None = None


def read(path: str, on_packets: OnPackets) -> Probe:
    """Everything we want to know of a file. Raises InputBad with the demuxer's own words."""
    av.logging.set_level(av.logging.ERROR)  # else an error does not carry the words
    try:
        with av.open("file:" + path, options=_options()) as container:
            return _read(container, path, on_packets)
    except (av.error.FFmpegError, ValueError) as error:
        if "not on whitelist" in (words := _words(error)):
            raise InputBad("a playlist, or another kind of file that is not read as video") from error
        raise InputBad(f"not a video or audio file that can be read ({words})") from error


def _options() -> dict[str, str]:
    # A file must not make us open another file or an address.
    return {"protocol_whitelist": "file", "format_whitelist": formats.DEMUXERS}


def _read(container: InputContainer, path: str, on_packets: OnPackets) -> Probe:
    pictures = [v for v in container.streams.video if not v.disposition & av.stream.Disposition.attached_pic]
    video = next(
        (v for v in pictures if v.disposition & av.stream.Disposition.default), next(iter(pictures), None)
    )
    if video is None and not container.streams.audio:
        raise InputBad("holds neither video nor sound")
    spans = {s.index: _Span() for s in container.streams}
    frames = _Frames()
    _collect(container, video, spans, frames, on_packets)
    audio = tuple(_audio(a, spans[a.index]) for a in container.streams.audio if spans[a.index].packets)
    seen = (
        _video(container, path, video, spans[video.index], frames)
        if video is not None and frames.pts
        else None
    )
    if seen is None and not audio:
        raise InputBad("holds neither video nor sound")
    starts = [seen.start] if seen else []
    ends = [seen.end] if seen else []
    media = Media(
        container=formats.family(container.format.name),
        size_bytes=os.stat(path).st_size,
        duration=max([*ends, *(a.end for a in audio)]) - min([*starts, *(a.start for a in audio)]),
        declared_duration=container.duration / av.time_base if container.duration else None,
        start=(container.start_time or 0) / av.time_base,
        video=seen,
        audio=audio,
        subtitles=tuple(Subtitle(s.index, _codec(s), s.language) for s in container.streams.subtitles),
        chapters=len(container.chapters()),
    )
    pts = sorted(frames.pts)
    unique = all(a < b for a, b in itertools.pairwise(pts))
    return Probe(media, Index(pts, sorted(frames.keyframes), unique and not frames.unstamped))


def _collect(
    container: InputContainer, video: Any, spans: dict[int, _Span], frames: _Frames, on_packets: OnPackets
) -> None:
    count = 0
    codec = _codec(video) if video is not None else ""
    wanted = [s for s in container.streams if s.type in ("video", "audio", "subtitle")]
    for packet in _packets(container, wanted):
        count += 1
        if count % REPORT_EVERY == 0:
            on_packets(count, packet.pos or 0)
        if not packet.size:
            continue
        duration = packet.duration or 0
        if video is not None and packet.stream_index == video.index:
            frames.read += 1
            if packet.is_keyframe and not frames.decodable:
                # What comes before the first keyframe cannot be decoded. One that an edit list hides counts
                # too.
                frames.decodable, frames.first_key = True, packet.pts
                frames.pts.clear()
            if packet.is_discard or _is_hidden(codec, packet):
                continue
            if packet.pts is None:
                frames.unstamped += 1
                pts = packet.dts
            else:
                pts = packet.pts
            _frame(frames, pts, packet.is_keyframe)
        else:
            pts = packet.pts if packet.pts is not None else packet.dts
        if pts is not None:
            spans[packet.stream_index].add(pts, duration)
    on_packets(count, 0)


def _packets(container: InputContainer, streams: list[Any]) -> Any:
    """Packets to the end. Damage in the middle ends the file there: what is missing is judged by the
    counts."""
    with contextlib.suppress(av.error.InvalidDataError):
        yield from container.demux(*streams)


def _frame(frames: _Frames, pts: int | None, key: bool) -> None:
    if pts is None:
        pts = frames.pts[-1] + 1 if frames.pts else 0
    if key:
        frames.keyframes.append(pts)
    elif frames.first_key is not None and pts < frames.first_key:
        return  # leading frames of an open GOP whose other reference was never recorded
    frames.pts.append(pts)


def _is_hidden(codec: str, packet: Any) -> bool:
    """A VP8 packet that only updates references (show_frame = 0, RFC 6386 section 9.1) yields no frame."""
    return codec == "vp8" and not memoryview(packet)[0] & 0x10


def _video(container: InputContainer, path: str, stream: Any, span: _Span, frames: _Frames) -> Video:
    context = stream.codec_context
    base: Fraction = stream.time_base
    rotation, interlaced = _first_frame(path, stream.index)
    width, height = context.width, context.height
    if rotation % 180:
        width, height = height, width
    if not width or not height:
        raise InputBad("the size of its video is unknown")
    colors = {
        "primaries": context.color_primaries,
        "transfer": context.color_trc,
        "matrix": context.colorspace,
    }
    rate = stream.average_rate
    first, last = min(frames.pts), max(frames.pts)
    return Video(
        index=stream.index,
        codec=_codec(stream),
        width=width,
        height=height,
        rotation=rotation,
        pix_fmt=context.pix_fmt,
        interlaced=interlaced,
        time_base=(base.numerator, base.denominator),
        rate=(rate.numerator, rate.denominator) if rate else None,
        frames=len(frames.pts),
        declared_frames=_declared(container, stream, frames),
        start=float(first * base),
        end=float(max(last, span.end or last) * base),
        color={k: int(v) for k, v in colors.items() if v is not None and int(v) != UNSPECIFIED},
    )


def _declared(container: InputContainer, stream: Any, frames: _Frames) -> int:
    """What the container promises, less what it promises and hides."""
    if formats.family(container.format.name) not in formats.DECLARES_FRAMES or not stream.frames:
        return 0
    return max(0, int(stream.frames) - (frames.read - len(frames.pts)))


def _audio(stream: Any, span: _Span) -> Audio:
    context = stream.codec_context
    base: Fraction = stream.time_base
    return Audio(
        index=stream.index,
        codec=_codec(stream),
        channels=context.channels,
        layout=context.layout.name,
        sample_rate=context.sample_rate,
        language=stream.language,
        default=bool(stream.disposition & av.stream.Disposition.default),
        # Not the first packet: an encoder's priming comes before the sound that is heard, at a negative time.
        start=float((stream.start_time if stream.start_time is not None else span.start or 0) * base),
        end=float((span.end or 0) * base),
        packets=span.packets,
    )


def _first_frame(path: str, index: int) -> tuple[int, bool]:
    """(rotation, interlaced) of the first frame that decodes: containers say neither reliably."""
    with av.open("file:" + path, options=_options()) as container:
        stream = container.streams[index]
        for number, packet in enumerate(container.demux(stream)):
            try:
                for frame in packet.decode():
                    return int(getattr(frame, "rotation", 0)) % 360, bool(
                        getattr(frame, "interlaced_frame", False)
                    )
            except av.error.FFmpegError:
                continue  # a broken first frame is no reason to refuse the rest: the count is the judge
            if number > FIRST_FRAME_PACKETS:
                break
    return 0, False


def _codec(stream: Any) -> str:
    """The codec, not the decoder that PyAV happens to use for it (av1, not libdav1d)."""
    context = stream.codec_context
    return str(context.codec.canonical_name) if context is not None else "unknown"


def _words(error: Exception) -> str:
    """What libav said last ("moov atom not found"), which tells more than its error code."""
    logged = getattr(error, "log", None)
    return str(logged[2]).strip() if logged else str(getattr(error, "strerror", None) or error)
