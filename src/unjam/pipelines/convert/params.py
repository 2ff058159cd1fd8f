"""The parameters of convert."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from unjam.pipelines.params import Params

Speed = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]

_ONLY_FOR = {
    "segment_seconds": "mp4",
    "crf": "mp4",
    "speed": "mp4",
    "max_height": "mp4",
    "deinterlace": "mp4",
    "container": "remux",
    "format": "audio",
}


class ConvertParams(Params):
    """What to make of a video."""

    preset: Literal["mp4", "remux", "audio"] = Field(
        default="mp4",
        description="mp4: H.264 and AAC, plays everywhere; remux: other container, nothing encoded;"
        " audio: sound alone",
    )
    segment_seconds: float | None = Field(
        default=None,
        ge=1,
        le=3600,
        description="mp4: seconds between two points from which a killed encode goes on (1-3600); default: 60"
        " when the encode is likely to take more than two minutes, else one piece",
    )
    crf: int = Field(
        default=21,
        ge=0,
        le=51,
        description="mp4: x264 quality, 0 (lossless) to 51 (worst); +6 is about half the size",
    )
    speed: Speed = Field(default="medium", description="mp4: x264 preset; faster ones make larger files")
    max_height: int | None = Field(
        default=None,
        ge=16,
        le=8640,
        description="mp4: pixels, 16-8640; taller pictures are scaled down, none is scaled up",
    )
    deinterlace: Literal["auto", "off"] = Field(
        default="auto",
        description="mp4: auto: interlaced pictures become progressive (bwdif), frame rate kept",
    )
    audio_bitrate: int | None = Field(
        default=None,
        ge=16,
        le=1024,
        description="mp4, audio: kb/s, 16-1024; default: 160 up to stereo, 64 a channel above that",
    )
    container: Literal["mp4", "mkv"] = Field(default="mp4", description="remux: the new container")
    format: Literal["m4a", "mp3", "flac", "wav", "opus"] = Field(
        default="m4a", description="audio: the kind of file"
    )
    verify: Literal["basic", "full"] = Field(
        default="basic",
        description="before publishing: basic counts frames and compares times; full also decodes"
        " all of it strictly",
    )

    @model_validator(mode="after")
    def _fits_preset(self) -> Self:
        for name, preset in _ONLY_FOR.items():
            if (
                name in self.model_fields_set
                and preset != self.preset
                and getattr(self, name) != _default(name)
            ):
                raise ValueError(f"{name} belongs to preset={preset}, not to preset={self.preset}")
        return self


def _default(name: str) -> object:
    return ConvertParams.model_fields[name].default


def suffix(params: ConvertParams) -> str:
    """Suffix of the output file."""
    return {"mp4": ".mp4", "remux": f".{params.container}", "audio": f".{params.format}"}[params.preset]
