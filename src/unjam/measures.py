"""Durations, sizes and signals as people write them: "90", "5m", "1h30m"; "512MiB", "4GB"; "SIGKILL"."""

from __future__ import annotations

import re
import signal

from unjam.errors import UsageError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_duration(text: str | float) -> float:
    """Seconds of "90", "90s", "5m", "1h30m", "250ms". Raises UsageError."""
    if isinstance(text, int | float):
        return float(text)
    compact = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        return float(compact)
    if not compact or _DURATION_PART.sub("", compact):
        raise UsageError(f"{text!r} is not a duration: write seconds or, for example, 90s, 5m, 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(compact))


def parse_size(text: str | int) -> int:
    """Bytes of "4096", "512MiB", "4GB"; a lone k, m, g or t counts in 1024s. Raises UsageError."""
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or match[2] not in _BYTES:
        raise UsageError(f"{text!r} is not a size: write bytes or, for example, 512MiB, 4GB")
    return int(float(match[1]) * _BYTES[match[2]])


def show_duration(seconds: float) -> str:
    """Short for people: "4.2 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def show_size(size: float) -> str:
    """Short for people, decimal units: "812 B", "2.2 MB", "7.9 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def show_signal(number: int) -> str:
    """ "SIGKILL"; the real-time signals have a number only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
