"""Reads what ffmpeg tells with `-progress pipe:1`: blocks of KEY=VALUE that end with `progress=`."""

from __future__ import annotations

from dataclasses import dataclass

FASTEST = 1e5
"""Times real time; what claims to be faster has not measured anything."""


@dataclass(frozen=True, slots=True)
class Report:
    """One block. None where ffmpeg said N/A or nothing."""

    frame: int | None
    fps: float | None
    out_time_us: int | None
    total_size: int | None
    speed: float | None
    done: bool

    @property
    def evidence(self) -> str:
        """Changes when, and only when, ffmpeg got on (INV-STALL): it goes on talking while it hangs."""
        return f"{self.frame},{self.out_time_us},{self.total_size}"

    @property
    def seconds(self) -> float:
        """Seconds of output so far."""
        return max(0, self.out_time_us or 0) / 1e6


class Parser:
    """Bytes in, blocks out; a block may arrive in any number of pieces."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Report]:
        """The blocks that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        reports = []
        for line in lines:
            key, separator, value = line.decode("utf-8", "replace").partition("=")
            if not separator:
                continue
            self._fields[key.strip()] = value.strip()
            if key.strip() == "progress":
                reports.append(_report(self._fields))
                self._fields = {}
        return reports


def _report(fields: dict[str, str]) -> Report:
    # out_time_ms is microseconds too, in every version (a bug that became the interface).
    micros = _whole(fields.get("out_time_us"))
    if micros is None:
        micros = _whole(fields.get("out_time_ms"))
    return Report(
        frame=_whole(fields.get("frame")),
        fps=_number(fields.get("fps")),
        out_time_us=micros,
        total_size=_whole(fields.get("total_size")),
        speed=_speed(fields.get("speed")),
        done=fields["progress"] == "end",
    )


def _speed(text: str | None) -> float | None:
    # Before the first frame of a seek with -copyts it says 9.22e+12x: the clock of the output is not set yet.
    speed = _number((text or "").removesuffix("x"))
    return speed if speed is not None and 0 < speed < FASTEST else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None  # "N/A"
