"""What ffmpeg's last words mean: bad input, full disk, missing encoder, or a crash of its own."""

from __future__ import annotations

import re
from pathlib import Path

from unjam.errors import DiskFull, InputBad, InputMissing, NotPermitted, ToolMissing, UnjamError
from unjam.jobs.reasons import ReasonCode

_PREFIX = re.compile(r"^(\[[^\]]*\]\s*)+")
_BAD_INPUT = (  # the most telling first
    "Decode error rate",
    "moov atom not found",
    "Invalid data found when processing input",
    "could not find codec parameters",
    "Could not find codec parameters",
    "Format not on whitelist",
    "EBML header parsing failed",
    "codec not currently supported in container",
    "Could not find tag for codec",
    "Could not write header",
    "does not contain any stream",
    "matches no streams",
    "Cannot determine format of input",
    "Decoder not found",
    "Error while decoding",
    "Error submitting packet to decoder",
    "partial file",
)
_NO_ENCODER = (
    "Unknown encoder",
    "Encoder not found",
    "No such filter",
    "Unrecognized option",
    "Requested output format",
)


def explain(source: Path, returncode: int, tail: str) -> UnjamError | None:
    """The error that a person should read, or None when ffmpeg simply failed (killed by a signal, unknown
    words)."""
    for words in ("No space left on device", "Disk quota exceeded"):
        if words in tail:
            return DiskFull(f"{words.lower()} while working on {source.name}; free some room, then resume")
    if returncode < 0:
        return None
    if "Cannot allocate memory" in tail:
        return UnjamError(
            f"ffmpeg could not get the memory it needs for {source.name}", code=ReasonCode.MEMORY
        )
    if line := _line_with(tail, _NO_ENCODER):
        return ToolMissing(f"this ffmpeg cannot do it: {line}; unset UNJAM_FFMPEG to use the pinned one")
    if f"{source}: No such file" in tail:
        return InputMissing(f"{source}: not there any more")
    if f"{source}: Permission denied" in tail:
        return NotPermitted(f"{source}: no permission to read it")
    if line := _line_with(tail, _BAD_INPUT):
        return InputBad(f"{source}: {line}")
    return None


def _line_with(tail: str, words: tuple[str, ...]) -> str | None:
    lines = tail.splitlines()
    for word in words:
        for line in lines:
            if word in line:
                return _PREFIX.sub("", line).strip()
    return None
