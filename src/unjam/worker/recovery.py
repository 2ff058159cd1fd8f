"""Recovery: jobs of dead owners, or whose lease ran out, are finished or queued again (INV-LOST)."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unjam.errors import Conflict, LeaseLost, NotPermitted, PastReturn, UnjamError
from unjam.jobs.machines import WorkerInfo
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import AttemptEnd
from unjam.jobs.retry import Blame, Ending, decide
from unjam.jobs.states import AttemptState, State
from unjam.settings import Settings
from unjam.storage import publish as files
from unjam.store.port import Expired, Store
from unjam.supervise import cgroup
from unjam.supervise.faults import FaultPoints
from unjam.supervise.identity import Identity, is_alive, of_this_boot
from unjam.supervise.sweep import living_marks, sweep
from unjam.worker.ending import attempt_state_of
from unjam.worker.paths import drop_parts, drop_work
from unjam.worker.publish import may_replace

GUARDIAN_PATIENCE = 3.0
"""Seconds to wait for the guardians of a dead worker: they see its pidfd and need milliseconds."""


@dataclass(slots=True)
class Recovery:
    """What one recovery did, for the log and for `unjam recover`."""

    requeued: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    """Published by roll-forward."""
    set_aside: list[str] = field(default_factory=list)
    still_owned: list[str] = field(default_factory=list)
    """Left alone: their owner lives, or its death is not proven."""
    left: list[str] = field(default_factory=list)
    """Sentences about files that could not be removed; `unjam gc` tries again."""
    killed: int = 0
    """Leftover processes of dead workers that the sweep ended."""

    def __bool__(self) -> bool:
        return bool(self.requeued or self.finished or self.set_aside or self.killed)

    def add(self, other: Recovery) -> None:
        """Count what another round did as well."""
        for name in ("requeued", "finished", "set_aside", "still_owned", "left"):
            getattr(self, name).extend(getattr(other, name))
        self.killed += other.killed

    def sentence(self) -> str:
        parts = [
            f"{len(jobs)} {what}"
            for jobs, what in (
                (self.requeued, "queued again"),
                (self.finished, "published"),
                (self.set_aside, "set aside or paused"),
            )
            if jobs
        ]
        if self.killed:
            parts.append(f"{self.killed} leftover process(es) ended")
        return ", ".join(parts) or "nothing to recover"


def alive(identity: str | None) -> bool:
    """May the process of this stored identity be alive? Nobody is never alive."""
    return identity is not None and is_alive(Identity.from_json(identity))


def is_gone(worker: WorkerInfo, host: str, now: float) -> bool:
    """Is this worker of this machine proven dead, or was it of another boot and silent for a whole lease?

    Another boot id alone proves nothing: a machine that was cloned runs under our id too (INV-ONCE). What it
    holds ends with its leases, and until then its row is left alone.
    """
    if worker.host != host:
        return False
    identity = _identity(worker)
    return not is_alive(identity) or (not of_this_boot(identity) and worker.expires_at <= now)


def _identity(worker: WorkerInfo) -> Identity:
    return Identity.from_json(worker.identity)


def recover(
    store: Store, settings: Settings, host: str, *, force: bool = False, patience: float = GUARDIAN_PATIENCE
) -> Recovery:
    """Free what dead owners of this host hold; with `force` what living ones hold too (they are fenced)."""
    done = Recovery()
    now = store.now()  # first: a store that freezes behind it makes nobody look silent
    dead = [w for w in store.workers() if is_gone(w, host, now)]
    done.killed = _sweep_dead([w for w in dead if not alive(w.identity)])
    gone: dict[str, bool] = {}
    for found in store.live_jobs(host):
        worker = found.worker
        owner_dead = worker is None or (worker.host == host and not alive(worker.identity))
        if not (owner_dead or force):
            done.still_owned.append(found.job.id)
            continue
        if owner_dead and not _tree_gone(found, gone, patience):
            done.still_owned.append(found.job.id)
            continue
        free(store, settings, host, found, done)
    held = living_marks(w.mark for w in dead)
    for worker in dead:
        if worker.mark in held:
            # INV-ORPHAN: its keeper is ending these, and may be killed before it has: by the mark in this row
            # whoever comes next finds them.
            continue
        if worker.wake_path and not _ours(Path(worker.wake_path)) and of_this_boot(_identity(worker)):
            # We may neither see nor end what it left: the next start of its own user does.
            continue
        try:
            store.forget_worker(worker.id)
        except Conflict:
            continue  # it holds a job whose tree is not gone yet: its row is what proves its death next time
        if worker.wake_path:
            try:
                Path(worker.wake_path).unlink(missing_ok=True)
            except OSError as error:
                done.left.append(f"{worker.wake_path}: {error.strerror}")
    return done


def reap_expired(store: Store, settings: Settings, host: str, *, now: float | None = None) -> Recovery:
    """Free the jobs whose lease ran out, whoever held them: a guardian ends its tree before that moment.

    While the store was away nobody could renew, so a lease that ran out then says nothing about its owner.
    One TTL after it came back every living owner has renewed, or told how its attempt ended; only then the
    others count as lost. Leases are judged by `now`, a time that was asked before: were it asked again, the
    store could have been frozen in between.
    """
    done = Recovery()
    now = store.now() if now is None else now
    if now - store.steady_since() < settings.lease_ttl:
        return done
    for found in store.expired(by=now):
        worker = found.worker
        if worker is not None and worker.host == host and not alive(worker.identity):
            done.killed += _sweep_dead([worker], even_with_keeper=True)
        free(store, settings, host, found, done)
    return done


def free(store: Store, settings: Settings, host: str, found: Expired, done: Recovery) -> None:
    """Take one job from an owner that is gone: roll its publishing forward, or decide where it goes."""
    try:
        if found.publishing:
            _roll_forward(store, settings, host, found, done)
        else:
            _unlease(store, found, done)
    except (LeaseLost, PastReturn):
        # Somebody else was faster, or its owner was (`--force`): the next round sees how far it got.
        done.still_owned.append(found.job.id)


def _unlease(store: Store, found: Expired, done: Recovery) -> None:
    job = found.job
    owner = f"worker {found.worker.id}" if found.worker else "its worker"
    ending = Ending(
        ReasonCode.WORKER_LOST,
        f"{owner} was lost",
        Blame.LOST,
        advanced=found.units_committed,
        request=job.requested,
    )
    decision = decide(job.counters, job.spec.budgets, ending, jitter=random.random())
    end = AttemptEnd(
        attempt_state=attempt_state_of(ending),
        attempt_reason=Reason(ending.code, ending.message),
        job_state=decision.state,
        job_reason=decision.reason,
        counters=decision.counters,
    )
    store.unlease(found.lease, end)
    # Only now: until the store said so somebody else might publish them.
    if (left := drop_parts(job, found.lease.fence)) is not None:
        done.left.append(left)
    (done.requeued if decision.state is State.QUEUED else done.set_aside).append(job.id)


def _roll_forward(store: Store, settings: Settings, host: str, found: Expired, done: Recovery) -> None:
    job = found.job
    rows = [row for row in store.publishing(host) if row.lease == found.lease]
    faults = FaultPoints.from_environment()  # a worker may be killed while it rolls forward, too
    if not rows:
        done.still_owned.append(job.id)  # another host has its staged files
    for row in rows:
        try:
            files.publish(
                row.outputs, replace=may_replace(job), passed=lambda point: faults.pass_by(point, job.id)
            )
            faults.pass_by("dir_synced", job.id)
        except (UnjamError, OSError) as error:
            if isinstance(error, PermissionError | NotPermitted) and not all(
                _ours(Path(o.staged_path)) for o in row.outputs
            ):
                # Two users of this machine may share a store: the owner of the files is able to publish them.
                done.still_owned.append(job.id)
                done.left.append(
                    f"{job.id}: its files belong to another user, whose worker (or `unjam recover`) "
                    f"publishes them: {error}"
                )
                continue
            code = error.code if isinstance(error, UnjamError) else ReasonCode.PERMISSION
            reason = Reason(code, f"could not be published: {error}")
            failed = AttemptEnd(AttemptState.FAILED, reason, State.FAILED, reason, job.counters)
            store.end(found.lease, failed)
            done.set_aside.append(job.id)
        else:
            store.end(found.lease, row.end)
            drop_work(settings, job.id)
            done.finished.append(job.id)


def _ours(path: Path) -> bool:
    """May this user be expected to deal with it? Told by the owner of the file, or of the nearest folder that
    can be looked at."""
    for place in (path, *path.parents):
        try:
            return os.geteuid() in (0, place.stat().st_uid)
        except OSError:
            continue
    return True


def _sweep_dead(workers: Sequence[WorkerInfo], *, even_with_keeper: bool = False) -> int:
    """INV-STRANGER: only marks whose worker is proven dead, and whose keeper is too (a living keeper
    cleans up by itself, and what it started since carries another mark)."""
    marks = [w.mark for w in workers if even_with_keeper or not alive(w.keeper_identity)]
    killed = sweep(marks).killed if marks else 0
    # A living keeper ends processes, but knows nothing of groups.
    cgroup.remove_left(w.mark for w in workers)
    return killed


def _tree_gone(found: Expired, known: dict[str, bool], patience: float) -> bool:
    """Is the guardian of this attempt gone? It outlives its tree, so then all of it is."""
    identity = found.attempt_identity
    if identity is None:
        return True
    if identity not in known:
        known[identity] = wait_for(lambda: not alive(identity), patience)
    return known[identity]


def wait_for(happened: Callable[[], bool], patience: float) -> bool:
    """Poll for something that takes milliseconds; False when it did not happen in `patience` seconds."""
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() >= end:
            return False
        time.sleep(0.005)
    return True
