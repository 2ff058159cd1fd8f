"""Small clips of every awkward kind, made by ffmpeg when a test first asks for them."""

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg

Recipe = list[str]
SECONDS = 8
PICTURE = ["-f", "lavfi", "-i", f"testsrc2=s=96x64:r=25:d={SECONDS}"]
TONE = ["-f", "lavfi", "-i", f"sine=f=440:d={SECONDS}"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "25"]
AAC = ["-c:a", "aac", "-b:a", "64k"]
FIVE_ONE = [
    "-filter_complex",
    "[1]pan=5.1|" + "|".join(f"c{i}=c0" for i in range(6)) + "[a]",
    "-map",
    "0",
    "-map",
    "[a]",
]
SUBTITLES = "1\n00:00:01,000 --> 00:00:03,000\nHello\n\n2\n00:00:04,000 --> 00:00:06,000\nBye\n"
CHAPTERS = (
    ";FFMETADATA1\ntitle=A title\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=4000\ntitle=one\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=4000\nEND=8000\ntitle=two\n"
)
ARGUMENTS: dict[str, Recipe] = {
    "plain.mp4": [*PICTURE, *TONE, *X264, *AAC],
    "silent.mp4": [*PICTURE, *X264],
    "surround.mkv": [*PICTURE, *TONE, *FIVE_ONE, *X264, "-c:a", "ac3"],
    "odd-size.mkv": [*PICTURE, *TONE, "-vf", "scale=97:63", "-c:v", "ffv1", "-g", "25", "-c:a", "flac"],
    "ntsc.mp4": [
        *["-f", "lavfi", "-i", f"testsrc2=s=96x64:r=30000/1001:d={SECONDS}"],
        *[*TONE, *X264, *AAC],
    ],
    "uneven-rate.mp4": [
        *["-f", "lavfi", "-i", f"testsrc2=s=96x64:r=30:d={SECONDS}", *TONE],
        *["-vf", "select='not(mod(n,3))+lt(random(1),0.5)'", "-fps_mode", "vfr", "-enc_time_base", "1/30000"],
        *["-video_track_timescale", "30000", *X264, *AAC],
    ],
    "ten-bit-hdr.mp4": [
        *PICTURE,
        *[
            "-vf",
            "format=yuv420p10le,setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc",
        ],
        *["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=25"],
    ],
    "interlaced.ts": [
        *["-f", "lavfi", "-i", f"testsrc2=s=96x64:r=50:d={SECONDS}", *TONE, "-vf", "interlace"],
        *["-flags", "+ildct+ilme", "-c:v", "mpeg2video", "-g", "12", "-c:a", "mp2"],
    ],
    "open-gop.ts": [*PICTURE, *TONE, *X264, "-x264-params", "open-gop=1", *AAC],
    "intra-refresh.mp4": [*PICTURE, *X264, "-x264-params", "intra-refresh=1"],
    "vp9.webm": [
        *PICTURE,
        *TONE,
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "25",
        "-c:a",
        "libopus",
    ],
    "hidden-frames.webm": [
        *PICTURE,
        *["-c:v", "libvpx", "-deadline", "good", "-cpu-used", "5", "-g", "50", "-b:v", "100k"],
        *["-auto-alt-ref", "1", "-lag-in-frames", "16"],
    ],
    "divx.avi": [*PICTURE, *TONE, "-c:v", "mpeg4", "-bf", "2", "-g", "25", "-c:a", "mp3"],
}
DERIVED: dict[str, tuple[str, Callable[[Path], Recipe]]] = {
    "portrait.mp4": ("plain.mp4", lambda p: ["-display_rotation", "90", "-i", str(p), "-c", "copy"]),
    "two-tracks.mkv": (
        "plain.mp4",
        lambda p: [
            *["-i", str(p), "-i", str(p), "-map", "0", "-map", "1:a", "-c", "copy"],
            *["-disposition:a:0", "0", "-disposition:a:1", "default", "-metadata:s:a:1", "language=fin"],
        ],
    ),
    "late.ts": ("plain.mp4", lambda p: ["-i", str(p), "-c", "copy", "-output_ts_offset", "9000"]),
    "late.mkv": ("plain.mp4", lambda p: ["-copyts", "-i", str(p), "-c", "copy", "-output_ts_offset", "9000"]),
    "edit-list.mp4": ("plain.mp4", lambda p: ["-ss", "1.3", "-i", str(p), "-c", "copy"]),
    "late-sound.mp4": (
        "plain.mp4",
        lambda p: [
            "-itsoffset",
            "0.5",
            "-i",
            str(p),
            "-i",
            str(p),
            "-map",
            "1:v",
            "-map",
            "0:a",
            "-c",
            "copy",
        ],
    ),
    "late-picture.mp4": (
        "plain.mp4",
        lambda p: [
            "-itsoffset",
            "0.5",
            "-i",
            str(p),
            "-i",
            str(p),
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-c",
            "copy",
        ],
    ),
    "stream.ts": ("plain.mp4", lambda p: ["-i", str(p), "-c", "copy"]),
    "index-first.mp4": ("plain.mp4", lambda p: ["-i", str(p), "-c", "copy", "-movflags", "+faststart"]),
    "plain.mkv": ("plain.mp4", lambda p: ["-i", str(p), "-c", "copy"]),
    "sound.m4a": ("plain.mp4", lambda p: ["-i", str(p), "-vn", "-c", "copy"]),
}


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="unjam-clips-"))
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def clip(name: str) -> Path:
    """The clip of this name; see ARGUMENTS and DERIVED."""
    out = _folder() / name
    if name in DERIVED:
        source, arguments = DERIVED[name]
        ffmpeg([*arguments(clip(source)), str(out)])
    elif name == "subtitled.mkv":
        texts = _folder() / "texts.srt"
        texts.write_text(SUBTITLES)
        chapters = _folder() / "chapters.txt"
        chapters.write_text(CHAPTERS)
        inputs = ["-i", str(clip("plain.mp4")), "-i", str(texts), "-i", str(chapters)]
        ffmpeg(
            [*inputs, "-map", "0", "-map", "1", "-map_metadata", "2", "-c", "copy", "-c:s", "srt", str(out)]
        )
    else:
        ffmpeg([*ARGUMENTS[name], str(out)])
    return out


def ffmpeg(arguments: list[str], binary: str | Path | None = None) -> str:
    """Run ffmpeg quietly; its stdout."""
    tool = str(binary or imageio_ffmpeg.get_ffmpeg_exe())
    said = subprocess.run(
        [tool, "-nostdin", "-v", "error", "-y", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert said.returncode == 0, said.stderr[-2000:]
    return said.stdout


def frames(path: Path, binary: str | Path | None = None) -> list[tuple[int, str]]:
    """(pts, digest) of every decoded frame of the video, pts in the stream's own ticks."""
    out = ffmpeg(
        ["-i", f"file:{path}", "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"], binary
    )
    rows = [line.split(",") for line in out.splitlines() if line and not line.startswith("#")]
    return [(int(row[2]), row[5].strip()) for row in rows]


def sound_starts_and_ends(path: Path) -> tuple[float, float]:
    """Seconds at which sound is first heard, and the end of the track, as a player sees them."""
    raw = subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *["-nostdin", "-v", "error", "-i", f"file:{path}", "-map", "0:a:0"],
            *["-af", "aresample=8000:async=1:first_pts=0", "-ac", "1", "-f", "u8", "-"],
        ],
        capture_output=True,
        check=True,
        timeout=50,
    ).stdout
    first = next((i for i, sample in enumerate(raw) if abs(sample - 128) > 2), len(raw))
    return first / 8000, len(raw) / 8000


def strictly_decodes(path: Path) -> bool:
    """No error at all from start to end."""
    tool = imageio_ffmpeg.get_ffmpeg_exe()
    strict = ["-v", "error", "-xerror", "-err_detect", "explode"]
    said = subprocess.run(
        [tool, "-nostdin", *strict, "-i", f"file:{path}", "-map", "0:v?", "-map", "0:a?", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    # 9.0 writes no chapter track beside copied subtitles and misses it when it reads; the chapters are there.
    lines = [line for line in said.stderr.splitlines() if "QT chapter track" not in line]
    return (said.returncode, lines) == (0, [])
