"""What each preset asks of ffmpeg for a given source: streams, filters, codecs. Pure: media in, argument
lists out."""

from __future__ import annotations

from dataclasses import dataclass

from unjam.errors import InputBad
from unjam.media import formats
from unjam.media.model import Audio, Media, Subtitle, Video
from unjam.pipelines.convert.params import ConvertParams

STEREO_KBPS = 160
CHANNEL_KBPS = 64
OPUS_LAYOUTS = "7.1|6.1|5.1|5.0|quad|3.0|stereo|mono"
"""What libopus takes: it refuses 5.1(side), which is what AC-3 and DTS carry."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one source becomes one output."""

    video: Video | None
    audio: tuple[Audio, ...]
    subtitles: tuple[int, ...]
    """Stream indices of the subtitles that go along."""
    filters: str
    """Video filters after those that pick the frames of a segment."""
    video_args: tuple[str, ...]
    audio_args: tuple[str, ...]
    subtitle_args: tuple[str, ...]
    mux_args: tuple[str, ...]
    """Muxer and its options."""
    copies: bool
    """Packets are copied, not encoded."""


def recipe(params: ConvertParams, media: Media, source: str) -> tuple[Recipe, list[str]]:
    """The recipe, and what the user should know of what it leaves out. Raises InputBad naming `source`."""
    if params.preset == "mp4":
        return _mp4(params, media, source)
    if params.preset == "remux":
        return _remux(params, media, source)
    return _audio_only(params, media, source)


def _mp4(params: ConvertParams, media: Media, source: str) -> tuple[Recipe, list[str]]:
    video = media.video
    if video is None:
        raise InputBad(f"{source}: has sound but no video; preset=audio makes a sound file of it")
    notes = []
    audio = main_audio(media)
    if len(media.audio) > 1 and audio is not None:
        notes.append(
            f"{len(media.audio)} audio tracks: keeping track {audio.index} ({audio.language or 'und'})"
        )
    texts = tuple(s.index for s in media.subtitles if s.codec in formats.TEXT_SUBTITLES)
    if len(texts) < len(media.subtitles):
        notes.append(
            f"{len(media.subtitles) - len(texts)} picture subtitle track(s) do not fit into mp4: left out"
        )
    return (
        Recipe(
            video=video,
            audio=(audio,) if audio else (),
            subtitles=texts,
            filters=",".join(_filters(params, video)),
            video_args=(
                *("-c:v", "libx264", "-preset", params.speed, "-crf", str(params.crf)),
                *("-pix_fmt", "yuv420p"),
            ),
            audio_args=_aac(params, audio) if audio else (),
            subtitle_args=("-c:s", "mov_text"),
            mux_args=("-movflags", "+faststart", "-f", "mp4"),
            copies=False,
        ),
        notes,
    )


def _filters(params: ConvertParams, video: Video) -> list[str]:
    chain = []
    if video.interlaced and params.deinterlace == "auto":
        chain.append("bwdif=mode=send_frame:deint=interlaced")
    width, height = video.width, video.height
    if params.max_height is not None and height > params.max_height:
        width, height = round(width * params.max_height / height), params.max_height
    # Always there: it costs nothing when the size fits, and holds the size when the source changes it on the
    # way.
    chain.append(f"scale={_even(width)}:{_even(height)}")
    return chain


def _even(pixels: int) -> int:
    """4:2:0 has one colour sample for two pixels each way."""
    return max(2, pixels - pixels % 2)


def _aac(params: ConvertParams, audio: Audio) -> tuple[str, ...]:
    return ("-c:a", "aac", "-b:a", f"{params.audio_bitrate or _kbps(audio.channels)}k")


def _kbps(channels: int) -> int:
    return STEREO_KBPS if channels <= 2 else CHANNEL_KBPS * channels


def main_audio(media: Media) -> Audio | None:
    """The first track marked as default, else the first."""
    return next((a for a in media.audio if a.default), next(iter(media.audio), None))


def _remux(params: ConvertParams, media: Media, source: str) -> tuple[Recipe, list[str]]:
    mp4 = params.container == "mp4"
    _check_fit(params.container, media, source)
    notes = []
    kept = [s for s in media.subtitles if s.codec in formats.TEXT_SUBTITLES] if mp4 else list(media.subtitles)
    if len(kept) < len(media.subtitles):
        notes.append(
            f"{len(media.subtitles) - len(kept)} picture subtitle track(s) do not fit into mp4: left out"
        )
    mux = ("-movflags", "+faststart", "-f", "mp4") if mp4 else ("-f", "matroska")
    return (
        Recipe(
            video=media.video,
            audio=media.audio,
            subtitles=tuple(s.index for s in kept),
            filters="",
            video_args=("-c:v", "copy", *(("-tag:v", "hvc1") if mp4 and _is_hevc(media) else ())),
            audio_args=("-c:a", "copy"),
            subtitle_args=tuple(
                word for i, s in enumerate(kept) for word in (f"-c:s:{i}", _subtitle_codec(s, mp4))
            ),
            mux_args=mux,
            copies=True,
        ),
        notes,
    )


def _subtitle_codec(subtitle: Subtitle, mp4: bool) -> str:
    if mp4:
        return "mov_text"
    return "subrip" if subtitle.codec == "mov_text" else "copy"


def _is_hevc(media: Media) -> bool:
    return media.video is not None and media.video.codec == "hevc"


def _check_fit(container: str, media: Media, source: str) -> None:
    other = "container=mkv, or preset=mp4 to encode it" if container == "mp4" else "preset=mp4 to encode it"
    if media.video is not None:
        codec = media.video.codec
        fits = codec in formats.VIDEO_IN_MP4 if container == "mp4" else codec not in formats.VIDEO_NOT_IN_MKV
        if not fits:
            raise InputBad(f"{source}: its video is {codec}, which {container} cannot hold; use {other}")
    for a in media.audio:
        fits = (
            a.codec in formats.AUDIO_IN_MP4 if container == "mp4" else a.codec not in formats.AUDIO_NOT_IN_MKV
        )
        if not fits:
            raise InputBad(
                f"{source}: its audio track {a.index} is {a.codec}, which {container} cannot hold;"
                f" use {other}"
            )


def _audio_only(params: ConvertParams, media: Media, source: str) -> tuple[Recipe, list[str]]:
    audio = main_audio(media)
    if audio is None:
        raise InputBad(f"{source}: has no sound")
    notes = [f"{len(media.audio)} audio tracks: keeping track {audio.index}"] if len(media.audio) > 1 else []
    codec, mux = _sound(params, audio)
    return (
        Recipe(
            video=None,
            audio=(audio,),
            subtitles=(),
            filters="",
            video_args=(),
            audio_args=codec,
            subtitle_args=(),
            mux_args=mux,
            copies=False,
        ),
        notes,
    )


def _sound(params: ConvertParams, audio: Audio) -> tuple[tuple[str, ...], tuple[str, ...]]:
    rate = f"{params.audio_bitrate or _kbps(audio.channels)}k"
    match params.format:
        case "m4a":
            return ("-c:a", "aac", "-b:a", rate), ("-movflags", "+faststart", "-f", "ipod")
        case "mp3":
            # mp3 holds two channels and 320 kb/s at most.
            kbps = min(320, params.audio_bitrate or STEREO_KBPS)
            down = ("-ac", "2") if audio.channels > 2 else ()
            return ("-c:a", "libmp3lame", "-b:a", f"{kbps}k", *down), ("-f", "mp3")
        case "flac":
            return ("-c:a", "flac"), ("-f", "flac")
        case "wav":
            return ("-c:a", "pcm_s16le"), ("-rf64", "auto", "-f", "wav")
        case "opus":
            layout = ("-af", f"aformat=channel_layouts={OPUS_LAYOUTS}") if audio.channels > 2 else ()
            return ("-c:a", "libopus", "-b:a", rate, *layout), ("-f", "opus")
