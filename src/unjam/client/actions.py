"""What can be done to jobs that exist: cancel, pause, resume, retry, remove."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unjam.client.handover import free_lost
from unjam.errors import Conflict, NotFound
from unjam.jobs.lifecycle import ACTIVE, LIVE, RESUMABLE
from unjam.jobs.model import InputFile, Job, JobLimits, Terms, Watcher
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import AttemptRecord, UnitRecord
from unjam.jobs.states import State
from unjam.settings import Settings
from unjam.storage.inputs import inspect
from unjam.store.port import RequestOutcome, Store
from unjam.supervise.identity import Identity, open_if_same
from unjam.worker.garbage import forget_files


def cancel(store: Store, settings: Settings, job_ids: Sequence[str], *, by: str) -> list[RequestOutcome]:
    """Ask for an end; jobs that nobody runs, or only a dead worker, are cancelled when this returns."""
    outcomes = store.request_cancel(job_ids, by=by)
    asked = store.get_many([o.job_id for o in outcomes if o.state in LIVE])
    if asked and free_lost(store, settings, asked):
        states = {job.id: job.state for job in store.get_many(job_ids)}
        outcomes = [replace(o, state=states.get(o.job_id, o.state)) for o in outcomes]
    return outcomes


def kill_now(store: Store, job_ids: Sequence[str]) -> list[str]:
    """Spare the grace of cancelled jobs that run on this machine; returns those whose processes were killed.

    The guardian is killed, and with it goes its tree: INV-ORPHAN is what makes this safe, and its stored
    identity is what makes it hit nobody else (INV-STRANGER).
    """
    killed = []
    for job_id in job_ids:
        for attempt in store.attempts(job_id)[-1:]:
            if attempt.ended_at is not None or attempt.identity is None:
                continue
            try:
                pidfd = open_if_same(Identity.from_json(attempt.identity))
            except OSError:
                continue  # of another machine, or cannot be looked at: its worker ends it after the grace
            if pidfd is None:
                continue
            try:
                if _serves(attempt):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    killed.append(job_id)
            finally:
                os.close(pidfd)
    return killed


def _serves(attempt: AttemptRecord) -> bool:
    """Does its guardian still have this attempt? While the end of one is being written its guardian may have
    the next already, of another job; the log it writes to tells."""
    try:
        writes_to = os.stat(f"/proc/{attempt.pid}/fd/1")
        return os.path.samestat(writes_to, os.stat(attempt.log_path or ""))
    except OSError:
        return False  # its tree is gone, or another user's: the worker ends it after the grace


def pause(store: Store, job_ids: Sequence[str], *, by: str) -> list[RequestOutcome]:
    """Ask to stop at the next finished unit and to wait for `resume`."""
    return store.request_pause(job_ids, by=by, reason=Reason(ReasonCode.INTERRUPTED, f"paused by {by}"))


@dataclass(frozen=True, slots=True)
class Changes:
    """Other limits and priority for jobs that go on. None: as they were."""

    timeout: float | None = None
    stall_after: float | None = None
    memory_bytes: int | None = None
    priority: int | None = None

    def limits(self, now: JobLimits) -> JobLimits:
        """The limits with these changes."""
        asked = {
            "timeout": self.timeout,
            "stall_after": self.stall_after,
            "memory_bytes": self.memory_bytes,
        }
        return replace(now, **{name: value for name, value in asked.items() if value is not None})  # type: ignore[arg-type]


def resume(
    store: Store,
    job_ids: Sequence[str],
    *,
    by: str,
    fresh_budgets: bool = False,
    changes: Changes | None = None,
    watcher: Watcher | None = None,
) -> list[RequestOutcome]:
    """Paused, failed and cancelled jobs become queued again and go on from their finished units; of a running
    one a pause that was asked for is withdrawn. They belong to `watcher` from then on, or to nobody.

    `changes` hold for all that does not run: an attempt keeps what it began with.
    """
    terms = _terms(store, job_ids, changes)
    return store.resume(job_ids, by=by, fresh_budgets=fresh_budgets, terms=terms, watcher=watcher)


def retry(
    store: Store,
    job_ids: Sequence[str],
    *,
    by: str,
    only_failed: bool = False,
    fresh: bool = False,
    units: Sequence[str] | None = None,
    changes: Changes | None = None,
    watcher: Watcher | None = None,
) -> list[RequestOutcome]:
    """Like resume, with fresh budgets. `fresh` forgets all finished units, `units` only these.

    Raises Conflict when none of the jobs is in a state that can be tried again, or when a unit is unknown.
    """
    wanted = RESUMABLE - {State.PAUSED, State.CANCELLED} if only_failed else RESUMABLE
    jobs = [job for job in store.get_many(job_ids) if job.state in wanted]
    if not jobs:
        states = ", ".join(sorted({job.state for job in store.get_many(job_ids)})) or "gone"
        raise Conflict(f"nothing to try again: {states}; finished work is done anew by `unjam run --force`")
    if units is not None:
        for job in jobs:
            _refuse_unknown(store, job, units)
    ids = [job.id for job in jobs]
    terms = {
        job_id: replace(new, fresh=fresh, redo=tuple(units or ()))
        for job_id, new in _terms(store, ids, changes).items()
    }
    outcomes = store.resume(ids, by=by, fresh_budgets=True, terms=terms, watcher=watcher)
    # Only now: a resume that is refused keeps the units, and they need their files (INV-KEEP).
    for outcome in outcomes:
        _unlink(outcome.dropped)
    return outcomes


def remove(store: Store, settings: Settings, job_ids: Sequence[str]) -> list[str]:
    """Forget ended jobs with their logs and unfinished work; outputs stay. Raises Conflict for active."""
    jobs = store.get_many(job_ids)
    active = [job for job in jobs if job.state in ACTIVE]
    if active:
        raise Conflict(f"{active[0].id} is {active[0].state}; cancel it first: `unjam cancel {active[0].id}`")
    removed = store.remove([job.id for job in jobs])
    forget_files(settings, removed)
    return removed


def fresh_inputs(job: Job) -> tuple[InputFile, ...]:
    """The inputs as they are now: another size or time makes another plan, and the manifest compares them."""
    return tuple(
        source
        # The worker looks up the results of other jobs itself, and compares what it has taken down of them.
        if source.source or "://" in source.uri or not os.path.exists(source.uri)
        else inspect(source.uri).file
        for source in job.spec.inputs
    )


def _refuse_unknown(store: Store, job: Job, units: Sequence[str]) -> None:
    if unknown := set(units) - {unit.name for unit in store.units(job.id)}:
        raise NotFound(
            f"{job.id} has no finished unit {', '.join(sorted(unknown))}; see `unjam show {job.id} --units`"
        )


def _terms(store: Store, job_ids: Sequence[str], changes: Changes | None) -> dict[str, Terms]:
    return {
        job.id: Terms(
            inputs=fresh_inputs(job) if job.state in RESUMABLE else None,
            limits=None if changes is None else changes.limits(job.spec.limits),
            priority=None if changes is None else changes.priority,
        )
        for job in store.get_many(job_ids)
    }


def _unlink(dropped: Sequence[UnitRecord]) -> None:
    for unit in dropped:
        if unit.uri is not None and "://" not in unit.uri:
            try:
                os.unlink(unit.uri)
            except OSError:
                continue  # nothing counts on it any more: `unjam gc` removes a file without a row
