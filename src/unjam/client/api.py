"""The public Python API: submit work, follow it, act on it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from unjam.client import actions
from unjam.client.actions import Changes
from unjam.client.follow import Follower, paces, wait_for
from unjam.client.ids import Target, resolve
from unjam.client.submit import DuplicatePolicy, Submission, carry_out, plan
from unjam.client.view import job_view
from unjam.errors import Duplicate, NotFound
from unjam.jobs.lifecycle import ENDED
from unjam.jobs.model import Job, JobLimits
from unjam.jobs.reasons import Reason
from unjam.jobs.records import Artifact, Event
from unjam.jobs.states import OnExists, State
from unjam.measures import parse_duration, parse_size
from unjam.settings import Settings, load, sqlite_url
from unjam.store import open_store
from unjam.store.port import JobFilter, Store


class NewTerms(TypedDict, total=False):
    """Other terms for jobs that go on: seconds or "5m", bytes or "4GB", and the higher the sooner."""

    timeout: float | str
    stall_after: float | str
    memory: int | str
    priority: int


class Unjam:
    """A store and what can be asked of it. Use it in one thread; `close` it, or use `with`.

    `settings`: default those of the environment and the configuration files (see `unjam config show`).
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load()
        in_home = self.settings.store == sqlite_url(self.settings.home / "unjam.db")
        self.store: Store = open_store(self.settings.store, make_parents=in_home)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.store.close()

    def submit(
        self,
        pipeline: str,
        *inputs: str | os.PathLike[str],
        output_dir: str | os.PathLike[str] | None = None,
        queue: str = "default",
        priority: int = 0,
        tags: dict[str, str] | None = None,
        after: Sequence[str] = (),
        timeout: float | str | None = None,
        stall_after: float | str | None = None,
        memory: int | str | None = None,
        on_exists: OnExists | str = OnExists.FAIL,
        on_duplicate: DuplicatePolicy | str = DuplicatePolicy.REFUSE,
        name_template: str | None = None,
        force: bool = False,
        **params: Any,
    ) -> JobHandle | Batch:
        """Submit and return at once: a job for one input, a batch for several (a folder, a pattern).

        The same work again continues the unfinished job. `timeout` and `stall_after` in seconds or as "5m",
        per attempt; `memory` in bytes or as "4GB". Raises UsageError, InputMissing, InputBad, NotPermitted,
        or Duplicate when a live worker does the same work. Without any worker the jobs wait, and their
        `view()["next"]` says so.
        """
        asked = Submission(
            pipeline=pipeline,
            inputs=tuple(os.fspath(name) for name in inputs),
            params=params,
            output_dir=None if output_dir is None else os.fspath(output_dir),
            name_template=name_template,
            queue=queue,
            priority=priority,
            tags=tags or {},
            after=tuple(after),
            limits=JobLimits(
                timeout=None if timeout is None else parse_duration(timeout),
                stall_after=None if stall_after is None else parse_duration(stall_after),
                memory_bytes=None if memory is None else parse_size(memory),
            ),
            on_exists=OnExists(on_exists),
            on_duplicate=DuplicatePolicy(on_duplicate),
            force=force,
        )
        outcome = carry_out(
            self.store, self.settings, plan(self.store, self.settings, asked), asked, by=who()
        )
        if not outcome.jobs:
            name, reason = outcome.refused[0]
            raise Duplicate(f"{name}: {reason.message}", "")
        if len(outcome.jobs) == 1:
            return JobHandle(self, outcome.jobs[0][0])
        return Batch(self, tuple(outcome.job_ids), outcome.batch_id)

    def get(self, text: str) -> JobHandle | Batch:
        """The job or batch of an id, its beginning, or `@last`. Raises NotFound."""
        target: Target = resolve(self.store, text)
        if target.batch_id is None:
            return JobHandle(self, target.job_ids[0])
        return Batch(self, target.job_ids, target.batch_id)

    def list(
        self, where: JobFilter | None = None, *, limit: int = 50, before_seq: int | None = None
    ) -> list[Job]:
        """Newest first; the next page begins at `before_seq` = the last row's `seq`."""
        return self.store.list_jobs(where or JobFilter(), limit=limit, before_seq=before_seq)

    def follow(self, job_ids: Sequence[str], *, timeout: float | None = None) -> Iterator[Event]:
        """Events of these jobs from now on, until all have ended. Raises TimeoutError."""
        follower = Follower(self.store, job_ids)
        deadline = None if timeout is None else monotonic() + timeout
        for pace in paces():
            yield from follower.poll()
            if not follower.unfinished():
                return
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError(f"{len(follower.unfinished())} jobs not ended after {timeout:g} s")
            sleep(pace)


class JobHandle:
    """One job. Attributes are read from the store each time: they are never older than the call."""

    def __init__(self, owner: Unjam, job_id: str) -> None:
        self._owner = owner
        self.id = job_id

    def __repr__(self) -> str:
        return f"<job {self.id}>"

    @property
    def job(self) -> Job:
        """The job as the store holds it now. Raises NotFound when it was removed."""
        job = self._owner.store.get(self.id)
        if job is None:
            raise NotFound(f"{self.id}: no such job any more")
        return job

    @property
    def state(self) -> State:
        return self.job.state

    @property
    def reason(self) -> Reason | None:
        """Why it ended as it did, or why it waits."""
        return self.job.reason

    @property
    def progress(self) -> float:
        """0 to 1; 1 only when the outputs are in place."""
        return self.job.progress

    @property
    def artifacts(self) -> list[Artifact]:
        """Published outputs: whole and verified."""
        return self._owner.store.artifacts(self.id)

    @property
    def done(self) -> bool:
        return self.state in ENDED

    def view(self, *, units: bool = False) -> dict[str, Any]:
        """Everything as JSON, also what happens next and why it waits."""
        return job_view(self._owner.store, self.id, units=units)

    def wait(self, timeout: float | None = None) -> Self:
        """Block until it has ended, however it ended. Raises TimeoutError."""
        wait_for(self._owner.store, [self.id], timeout=timeout)
        return self

    def follow(self, *, timeout: float | None = None) -> Iterator[Event]:
        return self._owner.follow([self.id], timeout=timeout)

    def cancel(self) -> None:
        actions.cancel(self._owner.store, self._owner.settings, [self.id], by=who())

    def pause(self) -> None:
        actions.pause(self._owner.store, [self.id], by=who())

    def resume(self, **terms: Unpack[NewTerms]) -> None:
        """Go on, or withdraw a pause; with other limits or priority for the attempts to come."""
        actions.resume(self._owner.store, [self.id], by=who(), changes=_changes(terms))

    def retry(
        self,
        *,
        fresh: bool = False,
        units: Sequence[str] | None = None,
        **terms: Unpack[NewTerms],
    ) -> None:
        """Like resume, with fresh budgets. Raises Conflict when there is nothing to try again."""
        changes = _changes(terms)
        actions.retry(self._owner.store, [self.id], by=who(), fresh=fresh, units=units, changes=changes)


class Batch:
    """The jobs of one submission."""

    def __init__(self, owner: Unjam, job_ids: tuple[str, ...], batch_id: str | None) -> None:
        self._owner = owner
        self.id = batch_id
        """None when every piece of work belonged to jobs that were there already."""
        self.jobs = [JobHandle(owner, job_id) for job_id in job_ids]

    def __repr__(self) -> str:
        return f"<batch {self.id} of {len(self.jobs)} jobs>"

    def _ids(self) -> list[str]:
        return [job.id for job in self.jobs]

    @property
    def states(self) -> dict[State, int]:
        """How many jobs are in each state."""
        counts: dict[State, int] = {}
        for job in self._owner.store.get_many(self._ids()):
            counts[job.state] = counts.get(job.state, 0) + 1
        return counts

    @property
    def artifacts(self) -> list[Artifact]:
        return [artifact for job in self.jobs for artifact in job.artifacts]

    def wait(self, timeout: float | None = None) -> Self:
        """Block until every job has ended. Raises TimeoutError."""
        wait_for(self._owner.store, self._ids(), timeout=timeout)
        return self

    def follow(self, *, timeout: float | None = None) -> Iterator[Event]:
        return self._owner.follow(self._ids(), timeout=timeout)

    def cancel(self) -> None:
        actions.cancel(self._owner.store, self._owner.settings, self._ids(), by=who())

    def pause(self) -> None:
        actions.pause(self._owner.store, self._ids(), by=who())

    def resume(self, **terms: Unpack[NewTerms]) -> None:
        actions.resume(self._owner.store, self._ids(), by=who(), changes=_changes(terms))

    def retry(self, *, only_failed: bool = True, **terms: Unpack[NewTerms]) -> None:
        changes = _changes(terms)
        actions.retry(self._owner.store, self._ids(), by=who(), only_failed=only_failed, changes=changes)


def _changes(terms: NewTerms) -> Changes:
    timeout, stall_after, memory = terms.get("timeout"), terms.get("stall_after"), terms.get("memory")
    return Changes(
        timeout=None if timeout is None else parse_duration(timeout),
        stall_after=None if stall_after is None else parse_duration(stall_after),
        memory_bytes=None if memory is None else parse_size(memory),
        priority=terms.get("priority"),
    )


def who() -> str:
    """Who asks: stands in the history of a job."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user need not have a name.
        return f"uid {os.getuid()}"
