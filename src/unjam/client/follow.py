"""Following jobs: their events in order, their newest picture, and the wait for their end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from unjam.jobs.lifecycle import ENDED, LIVE
from unjam.jobs.model import Job
from unjam.jobs.records import Event
from unjam.jobs.states import State
from unjam.store.port import Store

POLL_FIRST = 0.05
POLL_LONGEST = 0.5
"""Seconds between looks: short at first, so that a short job is not slowed down by being watched."""
_NAMED = 500
"""More ids than this are filtered here instead of in the statement."""


class Follower:
    """The newest picture of some jobs; every `poll` brings it up to date and returns what happened since."""

    def __init__(self, store: Store, job_ids: Sequence[str], *, cursor: int | None = None) -> None:
        self._store = store
        self._ids = frozenset(job_ids)
        # The cursor first, then the picture: what happens between them is seen twice, not never.
        self.cursor = store.last_event_id() if cursor is None else cursor
        self.jobs: dict[str, Job] = {}
        for start in range(0, len(job_ids), _NAMED):
            self.jobs |= {job.id: job for job in store.get_many(job_ids[start : start + _NAMED])}

    def poll(self) -> list[Event]:
        """What happened since the last call, oldest first."""
        fresh: list[Event] = []
        while True:
            page = self._store.events_since(
                self.cursor, job_ids=list(self._ids) if len(self._ids) <= _NAMED else None, limit=_NAMED
            )
            if not page:
                break
            self.cursor = page[-1].id
            fresh += [event for event in page if event.job_id in self._ids]
            if len(page) < _NAMED:
                break
        self._refresh(
            {e.job_id for e in fresh if e.job_id} | {j.id for j in self.jobs.values() if j.state in LIVE}
        )
        return fresh

    def _refresh(self, changed: set[str]) -> None:
        names = sorted(changed)
        for start in range(0, len(names), _NAMED):
            part = names[start : start + _NAMED]
            found = {job.id: job for job in self._store.get_many(part)}
            self.jobs |= found
            for gone in set(part) - set(found):
                self.jobs.pop(gone, None)

    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state not in ENDED]

    def all_paused(self) -> bool:
        """Nothing will happen to any of them until somebody resumes one."""
        open_jobs = self.unfinished()
        return bool(open_jobs) and all(job.state is State.PAUSED for job in open_jobs)


def paces() -> Iterator[float]:
    """How long to wait before each next look, in seconds."""
    pace = POLL_FIRST
    while True:
        yield pace
        pace = min(POLL_LONGEST, pace * 1.5)


def wait_for(store: Store, job_ids: Sequence[str], *, timeout: float | None = None) -> list[Job]:
    """Block until every job has ended. Raises TimeoutError."""
    deadline = None if timeout is None else time.monotonic() + timeout
    follower = Follower(store, job_ids)
    for pace in paces():
        follower.poll()
        if not (left := follower.unfinished()):
            break
        if deadline is not None and time.monotonic() >= deadline:
            names = ", ".join(job.id for job in left[:5])
            raise TimeoutError(f"{names}: not ended after {timeout:g} s")
        time.sleep(pace)
    return [follower.jobs[job_id] for job_id in job_ids if job_id in follower.jobs]
