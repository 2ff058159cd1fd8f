"""Progress bars on a terminal: one for each running job, one for all; what has ended scrolls away above."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from unjam.cli.display import Artifacts, end_line, progress_text, state_line
from unjam.cli.output import shortened
from unjam.jobs.lifecycle import ENDED, LIVE
from unjam.jobs.model import Job
from unjam.jobs.records import Event
from unjam.jobs.states import State
from unjam.measures import show_duration
from unjam.printable import one_line

MOST_BARS = 12


class BarDisplay:
    """Drawn on stderr, so that stdout can be piped away at the same time."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._shown: dict[str, State] = {}
        self._bars: dict[str, TaskID] = {}
        self._total: TaskID | None = None
        self._broken = False
        self._progress = Progress(
            TextColumn("{task.fields[label]}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(file=sys.stderr, highlight=False),
            refresh_per_second=5,
            transient=True,
        )
        self._draw(self._progress.start)

    def update(self, events: Sequence[Event], jobs: Mapping[str, Job], now: float) -> None:
        del events
        self._draw(lambda: self._update(jobs, now))

    def line(self, text: str) -> None:
        self._draw(lambda: self._print(one_line(text)))

    def close(self) -> None:
        self._draw(self._progress.stop)

    def _draw(self, what: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            what()
        except OSError:
            # The terminal is gone (SIGHUP): the jobs are paused all the same, nobody is there to see it.
            self._broken = True

    def _print(self, text: str) -> None:
        """`text` holds no control characters but our own colours."""
        self._progress.console.print(Text.from_ansi(text), soft_wrap=True)

    def _update(self, jobs: Mapping[str, Job], now: float) -> None:
        for job in jobs.values():
            if self._shown.get(job.id) is job.state:
                continue
            before, self._shown[job.id] = self._shown.get(job.id), job.state
            if job.state in ENDED:
                self._print(end_line(job, self._artifacts(job.id)))
            elif before is not None and job.state not in LIVE:
                self._print(state_line(job))
        self._draw_jobs(jobs, now)
        if len(jobs) > 1:
            self._draw_total(jobs, now)

    def _draw_jobs(self, jobs: Mapping[str, Job], now: float) -> None:
        running = [job for job in jobs.values() if job.state in LIVE][:MOST_BARS]
        for job_id in set(self._bars) - {job.id for job in running}:
            self._progress.remove_task(self._bars.pop(job_id))
        for job in running:
            if job.id not in self._bars:
                label = shortened(one_line(job.spec.name))
                self._bars[job.id] = self._progress.add_task("", total=1.0, label=label, text="")
            self._progress.update(self._bars[job.id], completed=job.progress, text=progress_text(job, now))

    def _draw_total(self, jobs: Mapping[str, Job], now: float) -> None:
        done = sum(job.state in ENDED for job in jobs.values())
        part = sum(1.0 if job.state in ENDED else job.progress for job in jobs.values()) / len(jobs)
        began = min((job.started_at for job in jobs.values() if job.started_at is not None), default=None)
        text = f"{done} of {len(jobs)} done"
        if began is not None and 0.01 < part < 1:
            text += f", {show_duration((now - began) * (1 - part) / part)} left"
        if self._total is None:
            self._total = self._progress.add_task("", total=1.0, label="all", text=text)
        self._progress.update(self._total, completed=part, text=text)
