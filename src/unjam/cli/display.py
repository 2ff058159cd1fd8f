"""How the progress of jobs looks: plain lines in a pipe, bars on a terminal, JSON lines for programs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from unjam.cli.output import json_line, paint, say
from unjam.jobs.lifecycle import ENDED, LIVE
from unjam.jobs.model import Job
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.records import Artifact, Event
from unjam.jobs.states import State
from unjam.measures import show_duration, show_size
from unjam.printable import one_line

SAY_EVERY = 10.0
"""Seconds between two plain lines about the same running job."""

Artifacts = Callable[[str], Sequence[Artifact]]


class Display(Protocol):
    """Shown to whoever waits for jobs."""

    def update(self, events: Sequence[Event], jobs: Mapping[str, Job], now: float) -> None:
        """What happened since the last call, and the newest picture. `now` is the store's clock."""

    def line(self, text: str) -> None:
        """One line in between."""

    def close(self) -> None: ...


class PlainDisplay:
    """Lines on stderr: changes of state at once, progress every few seconds."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._shown: dict[str, State] = {}
        self._told: dict[str, float] = {}

    def update(self, events: Sequence[Event], jobs: Mapping[str, Job], now: float) -> None:
        del events
        clock = time.monotonic()
        for job in jobs.values():
            before = self._shown.get(job.id)
            if before is not job.state:
                self._shown[job.id] = job.state
                self._told[job.id] = clock
                if job.state in ENDED:
                    self.line(end_line(job, self._artifacts(job.id)))
                elif before is not None or job.state in LIVE or job.state is State.PAUSED:
                    self.line(state_line(job))
            elif job.state in LIVE and clock - self._told[job.id] >= SAY_EVERY:
                self._told[job.id] = clock
                self.line(f"{job.id}  {progress_text(job, now)}  {one_line(job.spec.name)}")

    def line(self, text: str) -> None:
        say(text)

    def close(self) -> None:
        return


class JsonDisplay:
    """Events on stdout, one a line; the progress of running jobs once a second in between."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, float]] = {}

    def update(self, events: Sequence[Event], jobs: Mapping[str, Job], now: float) -> None:
        from unjam.client.view import event_view, progress_view

        for event in events:
            json_line(event_view(event))
        clock = time.monotonic()
        for job in jobs.values():
            at, progress = self._told.get(job.id, (0.0, -1.0))
            if job.state in LIVE and clock - at >= 1 and job.progress != progress:
                self._told[job.id] = (clock, job.progress)
                json_line(progress_view(job, now))

    def line(self, text: str) -> None:
        say(text)

    def close(self) -> None:
        return


class QuietDisplay:
    """Only what would be missed: how to go on, why it waits."""

    def update(self, events: Sequence[Event], jobs: Mapping[str, Job], now: float) -> None:
        del events, jobs, now

    def line(self, text: str) -> None:
        say(text)

    def close(self) -> None:
        return


def make_display(artifacts: Artifacts, *, as_json: bool, quiet: bool = False) -> Display:
    """JSON when asked for, bars on a terminal, else lines."""
    if as_json:
        return JsonDisplay()
    if quiet:
        return QuietDisplay()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from unjam.cli.bars import BarDisplay

        return BarDisplay(artifacts)
    return PlainDisplay(artifacts)


def end_line(job: Job, artifacts: Sequence[Artifact]) -> str:
    """How a job ended, in one line."""
    colour = {"succeeded": "green", "skipped": "green", "failed": "red"}.get(job.state, "yellow")
    word = paint(f"{job.state:<10}", colour, sys.stderr)
    text = f"{word}{one_line(job.spec.name)}"
    if (made := outputs(artifacts)) and job.state is not State.SKIPPED:
        size = sum(artifact.size_bytes for artifact in made)
        more = f" and {len(made) - 1} more" if len(made) > 1 else ""
        text += f" -> {one_line(made[0].path)}{more} ({show_size(size)}{_took(job)})"
    elif job.state is State.SUCCEEDED:
        text += f" ({_took(job).removeprefix(', ')})" if _took(job) else ""
    if job.reason is not None and job.state is not State.SUCCEEDED:
        code = "" if job.reason.code is ReasonCode.OK else f"{job.reason.code}: "
        text += f": {code}{one_line(job.reason.message)}"
    if job.state is State.FAILED:
        text += f" (unjam logs {job.id})"
    return text


def outputs(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """What was asked for, without our own manifest beside it."""
    return [artifact for artifact in artifacts if artifact.kind != "manifest"]


def state_line(job: Job) -> str:
    """A job that goes on, in one line."""
    reason = f": {one_line(job.reason.message)}" if job.reason and job.state is not State.RUNNING else ""
    return f"{job.state:<10}{one_line(job.spec.name)} ({job.id}){reason}"


def progress_text(job: Job, now: float) -> str:
    """ "running 42 %, 3 min left, encode 5/12" with what was last seen of it."""
    if job.progress <= 0 and job.started_at is not None:
        # Nobody knows how far a stranger's command is: how long it runs is all there is to tell.
        parts = [f"{job.state} for {show_duration(max(0.0, now - job.started_at))}"]
    else:
        parts = [f"{job.state} {job.progress * 100:.0f} %"]
    if job.eta_seconds is not None:
        parts.append(f"{show_duration(job.eta_seconds)} left")
    if job.message:
        parts.append(one_line(job.message))
    if job.stalled:
        parts.append(f"STALLED: {one_line(job.stalled)}")
    elif job.heartbeat_at is not None and now - job.heartbeat_at > 15:
        # INV-TRUTH: no "running" without the age of its proof.
        parts.append(f"last heard of {show_duration(now - job.heartbeat_at)} ago")
    return ", ".join(parts)


def _took(job: Job) -> str:
    if job.started_at is None or job.finished_at is None:
        return ""
    return f", {show_duration(max(0.0, job.finished_at - job.started_at))}"
