"""What a file holds, as plain values that travel as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True, slots=True)
class Video:
    """The video stream that counts. Sizes in pixels as shown, that is after rotation; pts in ticks of the
    time base."""

    index: int
    codec: str
    width: int
    height: int
    rotation: int
    """Degrees the picture must be turned, as the decoder reports it."""
    pix_fmt: str | None
    interlaced: bool
    time_base: tuple[int, int]
    rate: tuple[int, int] | None
    """Average frames a second."""
    frames: int
    """Frames that a player shows: packets from the first keyframe on, without those an edit list hides."""
    declared_frames: int
    """What the container claims; 0 when it says nothing."""
    start: float
    """Seconds, on the container's clock."""
    end: float
    color: Mapping[str, int]
    """Numbers of ISO/IEC 23091-2 for primaries, transfer and matrix, as far as stated."""

    @property
    def base(self) -> Fraction:
        """Seconds a tick."""
        return Fraction(*self.time_base)


@dataclass(frozen=True, slots=True)
class Audio:
    """One audio stream. Times in seconds on the container's clock."""

    index: int
    codec: str
    channels: int
    layout: str
    sample_rate: int
    language: str | None
    default: bool
    start: float
    end: float
    packets: int


@dataclass(frozen=True, slots=True)
class Subtitle:
    index: int
    codec: str
    language: str | None


@dataclass(frozen=True, slots=True)
class Media:
    """What a probe found."""

    container: str
    size_bytes: int
    duration: float
    """Seconds from the first to the last moment of any video or audio stream, by packets, not by header."""
    declared_duration: float | None
    start: float
    """Seconds where ffmpeg sees the file begin: what its `-ss` is counted from."""
    video: Video | None
    audio: tuple[Audio, ...]
    subtitles: tuple[Subtitle, ...]
    chapters: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Media:
        video = body["video"]
        return cls(
            **{
                **body,
                "video": Video(**{**video, **_pairs(video, "time_base", "rate")}) if video else None,
                "audio": tuple(Audio(**a) for a in body["audio"]),
                "subtitles": tuple(Subtitle(**s) for s in body["subtitles"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Index:
    """Every shown frame of the video stream, in order of presentation, in ticks."""

    pts: Sequence[int]
    keyframes: Sequence[int]
    exact: bool
    """Every packet has a timestamp of its own; otherwise the source cannot be cut."""


@dataclass(frozen=True, slots=True)
class Probe:
    media: Media
    index: Index

    def as_json(self) -> dict[str, Any]:
        index = {
            "pts": list(self.index.pts),
            "keyframes": list(self.index.keyframes),
            "exact": self.index.exact,
        }
        return {"media": self.media.as_json(), "index": index}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Probe:
        return cls(Media.from_json(body["media"]), Index(**body["index"]))


def _pairs(body: Mapping[str, Any], *names: str) -> dict[str, tuple[int, int] | None]:
    return {n: (body[n][0], body[n][1]) if body[n] else None for n in names}
