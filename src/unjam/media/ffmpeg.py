"""Which ffmpeg works here, and the identity that a plan pins so that two builds never meet in one result."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from unjam.errors import ToolMissing, UnjamError
from unjam.jobs.reasons import ReasonCode
from unjam.measures import show_signal

OLDEST = (5, 1)
"""`-fps_mode` and `-enc_time_base N/D` are unknown before."""
START_SECONDS = 20.0
SAMPLE_BYTES = 1 << 16
_WAY_OUT = "set UNJAM_FFMPEG to 'pinned', 'system' or a path"
_VERSION = re.compile(r"^ffmpeg version (\S+)")
_NUMBERS = re.compile(r"^n?(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class FFmpeg:
    """A working binary. `build_id` changes whenever the binary does, and not when the same one is installed
    again."""

    path: Path
    version: str
    build_id: str


def find(choice: str = "pinned") -> FFmpeg:
    """The ffmpeg that was chosen: "pinned" (the wheel's), "system" (on PATH) or a path. Raises
    ToolMissing."""
    if choice == "pinned":
        path = _pinned()
    elif choice == "system":
        path = _on_path()
    else:
        path = Path(choice)
    try:
        stat = os.stat(path)
    except OSError as error:
        raise ToolMissing(f"ffmpeg: {path}: {error.strerror}; {_WAY_OUT}") from error
    return _examine(path, stat.st_size, stat.st_mtime_ns)


def _pinned() -> Path:
    # find_spec does not import the package: the import alone costs more than the whole search.
    spec = importlib.util.find_spec("imageio_ffmpeg")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(folder, "binaries").glob("ffmpeg-*"))
        if found:
            return found[-1]
    raise ToolMissing(
        "the pinned ffmpeg is missing: install imageio-ffmpeg (./run setup), or set UNJAM_FFMPEG=system"
    )


def _on_path() -> Path:
    found = shutil.which("ffmpeg")
    if found is None:
        raise ToolMissing("no ffmpeg on PATH: install it, or leave UNJAM_FFMPEG unset to use the pinned one")
    return Path(found)


@functools.lru_cache(maxsize=8)
def _examine(path: Path, size: int, _mtime_ns: int) -> FFmpeg:
    try:
        said = subprocess.run(
            [path, "-hide_banner", "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_SECONDS,
            check=False,
        )
    except OSError as error:
        raise ToolMissing(f"ffmpeg: {path} does not start: {error.strerror}; {_WAY_OUT}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolMissing(
            f"ffmpeg: {path} said nothing for {START_SECONDS:g} s when asked for its version; {_WAY_OUT}"
        ) from error
    if said.returncode < 0:
        # Killed, by the kernel for memory perhaps: that says nothing about the program, another try may.
        name = show_signal(-said.returncode)
        raise UnjamError(f"{path} was killed by {name} when asked for its version", code=ReasonCode.CRASHED)
    match = _VERSION.match(said.stdout.decode("utf-8", "replace"))
    if said.returncode != 0 or match is None:
        raise ToolMissing(f"{path} is not an ffmpeg that works (exit code {said.returncode}); {_WAY_OUT}")
    version = match[1]
    numbers = _NUMBERS.match(version)
    # A build from git ("N-118000-g...") has no number: taken as new.
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise ToolMissing(
            f"{path} is ffmpeg {version}: {OLDEST[0]}.{OLDEST[1]} or later is needed; unset UNJAM_FFMPEG"
            " to use the pinned one"
        )
    digest = hashlib.sha256(said.stdout)
    digest.update(f"{size}".encode())
    # Both ends instead of all 170 MB: a rebuild of the same version differs there (build id, section
    # headers).
    with open(path, "rb") as file:
        digest.update(file.read(SAMPLE_BYTES))
        file.seek(max(0, size - SAMPLE_BYTES))
        digest.update(file.read(SAMPLE_BYTES))
    return FFmpeg(path, version, digest.hexdigest()[:32])
