"""What the jobs write about their own work, and the verdict from that alone: the store is not asked."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

FILE = "ledger"
BY_JOBS = ("begin", "kept", "work", "seal", "commit", "publish")
BY_HARNESS = ("held", "seen")
"""held: the store has committed this unit, though the attempt was not told (its worker was held right there);
seen: the output of this job was found in place."""


def pid_namespace() -> str:
    """The kernel's word on how this process is held."""
    return str(os.stat("/proc/self/ns/pid").st_ino)


class Pen:
    """Appends lines to the ledger. One write each: no line is ever mixed with another's."""

    def __init__(self, folder: str | Path, job: str, attempt: int) -> None:
        self._fd = os.open(Path(folder) / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._who = f"{job} {attempt}"

    def write(self, kind: str, unit: str = "-") -> None:
        os.write(self._fd, f"{kind} {self._who} {unit} {time.monotonic():.6f}\n".encode())

    def close(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Line:
    """`at`: CLOCK_MONOTONIC seconds. `unit` of a `begin`: the PID namespace that the attempt found itself
    in."""

    kind: str
    job: str
    attempt: int
    unit: str
    at: float


def parse(text: str) -> Line:
    kind, job, attempt, unit, at = text.split()
    if kind not in BY_JOBS + BY_HARNESS:
        raise ValueError(f"not a line of a ledger: {text!r}")
    return Line(kind, job, int(attempt), unit, float(at))


class Reader:
    """Reads what was added since the last call."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._offset = 0
        self.lines: list[Line] = []

    def read(self) -> list[Line]:
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        fresh = [parse(text) for text in whole.decode().splitlines()]
        self.lines += fresh
        return fresh


@dataclass(slots=True)
class Verdict:
    """Sentences, one for each thing that must not be."""

    doubled: list[str] = field(default_factory=list)
    """A unit committed twice, or work begun on a job whose output was in place."""
    redone: list[str] = field(default_factory=list)
    """Work on a unit that had been committed (INV-KEEP)."""
    overlaps: list[str] = field(default_factory=list)
    """An older attempt that wrote after a newer one had begun (INV-ONCE)."""


def judge(lines: Iterable[Line]) -> Verdict:
    """Read the ledger in the order in which it was written."""
    verdict = Verdict()
    commits: dict[tuple[str, str], int] = {}
    done: set[tuple[str, str]] = set()
    newest: dict[str, int] = defaultdict(int)
    published: set[str] = set()
    for line in lines:
        key, who = (line.job, line.unit), f"{line.job} attempt {line.attempt}"
        if line.kind == "held":
            done.add(key)
            continue
        if line.kind == "seen":
            published.add(line.job)
            continue
        if line.attempt < newest[line.job]:
            verdict.overlaps.append(f"{who}: {line.kind} {line.unit} after attempt {newest[line.job]} began")
        newest[line.job] = max(newest[line.job], line.attempt)
        if line.kind == "begin" and line.job in published:
            verdict.doubled.append(f"{who}: began though the output was in place")
        elif line.kind == "work" and key in done:
            verdict.redone.append(f"{who}: {line.unit} done again")
        elif line.kind == "commit":
            if key in commits:
                verdict.doubled.append(f"{who}: {line.unit} committed, as by attempt {commits[key]}")
            commits[key] = line.attempt
            done.add(key)
    return verdict
