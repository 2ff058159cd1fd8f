"""How attempts end: the point of no return, both ends in one transaction, and who left work behind."""

from __future__ import annotations

from collections.abc import Sequence

from unjam.errors import Conflict, PastReturn
from unjam.jobs.lifecycle import can, settle
from unjam.jobs.machines import WorkerInfo
from unjam.jobs.model import Job
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import AttemptEnd, Lease, Publishing, StagedOutput
from unjam.jobs.states import ENDED, Phase, Request, State
from unjam.store.base import Base, reason_data
from unjam.store.database import Row
from unjam.store.port import Expired
from unjam.store.rows import (
    artifact_params,
    end_json,
    end_of,
    outputs_json,
    outputs_of,
    reason_params,
    stage_params,
    worker_of,
)

DELIVERED = (State.SUCCEEDED, State.PARTIAL, State.SKIPPED)


class Finishing(Base):
    """Part of the store."""

    def begin_publish(self, lease: Lease, outputs: Sequence[StagedOutput], end: AttemptEnd) -> bool:
        with self._db.write():
            hot = self._held(lease)
            if hot["requested"] == Request.CANCEL:
                return False
            job_seq = hot["seq"]
            self._db.later("start_publishing", {"seq": job_seq})
            row = {
                "job_seq": job_seq,
                "fence": lease.fence,
                "outputs": outputs_json(outputs),
                "outcome": end_json(end),
            }
            self._db.later("put_publish", row)
            data = {"outputs": [output.final_path for output in outputs]}
            self._event(job_seq, "publishing", self.now(), attempt=lease.fence, data=data)
            return True

    def end(self, lease: Lease, end: AttemptEnd) -> None:
        self._finish(lease, end, "ended")

    def unlease(self, lease: Lease, end: AttemptEnd) -> None:
        self._finish(lease, end, "unleased")

    def _finish(self, lease: Lease, end: AttemptEnd, kind: str) -> None:
        with self._db.write():
            # Whoever begins to wait for this job locks its row first: those who wait are seen.
            hot, [awaiting] = self._held_with(lease, ("find_awaiting", {"after_id": lease.job_id}))
            if kind == "unleased" and hot["phase"] == Phase.PUBLISHING:
                # INV-TORN: its files may have their names already; queued again it would find them taken.
                raise PastReturn(f"job {lease.job_id} is publishing: it is rolled forward, not taken back")
            now = self.now()
            state, reason = _outcome(hot, end)
            self._end_attempt(hot["seq"], lease.fence, end, now)
            self._end_job(hot, state, reason, end, now)
            data = reason_data(reason, attempt_state=end.attempt_state.value)
            self._event(
                hot["seq"], kind, now, attempt=lease.fence, before=hot["state"], after=state.value, data=data
            )
            released = state is State.QUEUED
            if state in ENDED and awaiting:
                released = self._settle_dependants([(lease.job_id, state)], now)
        if released:
            self._waker.poke()

    def _end_attempt(self, job_seq: int, fence: int, end: AttemptEnd, now: float) -> None:
        attempt = {
            "job_seq": job_seq,
            "fence": fence,
            "state": end.attempt_state,
            "now": now,
            "peak_rss_bytes": end.peak_rss_bytes,
            "cpu_seconds": end.cpu_seconds,
            "containment": end.containment,
            **reason_params(end.attempt_reason),
        }
        self._db.later("end_attempt", attempt)
        self._db.many("put_stage", [stage_params(job_seq, stage) for stage in end.stages])
        self._db.many("put_artifact", [artifact_params(job_seq, artifact) for artifact in end.artifacts])
        # Nothing runs any more, so nothing is shown as running (INV-TRUTH).
        self._db.later("stop_units", {"job_seq": job_seq})
        self._db.later("interrupt_stages", {"job_seq": job_seq, "now": now})

    def _end_job(self, hot: Row, state: State, reason: Reason | None, end: AttemptEnd, now: float) -> None:
        job = {
            "seq": hot["seq"],
            "state": state,
            "run_at": hot["run_at"] if end.run_at is None else end.run_at,
            "finished_at": now if state in ENDED else None,
            "attempts": end.counters.attempts,
            "failures": end.counters.failures,
            "crashes": end.counters.crashes,
            "losses": end.counters.losses,
            **reason_params(reason),
        }
        self._db.later("end_job", job)
        self._db.later("delete_publish", {"job_seq": hot["seq"]})
        if state in DELIVERED:
            self._db.later("complete_progress", {"job_seq": hot["seq"]})
        else:
            self._db.later("stop_progress", {"job_seq": hot["seq"]})

    # -- left behind -------------------------------------------------------------------------------------
    def publishing(self, host: str) -> list[Publishing]:
        return [
            Publishing(
                Lease(row["id"], row["fence"]),
                attempt=row["fence"],
                outputs=outputs_of(row["outputs"]),
                end=end_of(row["outcome"]),
            )
            for row in self._db.all("find_publishing", {"host": host})
        ]

    def live_jobs(self, host: str | None = None) -> list[Expired]:
        return self._live(host=host, before=None)

    def expired(self) -> list[Expired]:
        return self._live(host=None, before=self.now())

    def _live(self, *, host: str | None, before: float | None) -> list[Expired]:
        rows = self._db.all("find_live", {"host": host, "before": before})
        if not rows:
            return []
        jobs = {job.seq: job for job in self._load([row["seq"] for row in rows])}
        workers = {row["id"]: worker_of(row) for row in self._db.all("list_workers")}
        # A job may have been removed between the two looks.
        return [
            _expired(row, workers.get(row["worker_id"]), jobs[row["seq"]])
            for row in rows
            if row["seq"] in jobs
        ]


def _outcome(hot: Row, end: AttemptEnd) -> tuple[State, Reason | None]:
    """State and reason of the job, with a request that the worker did not see any more."""
    live = State(hot["state"])
    requested = None if hot["requested"] is None else Request(hot["requested"])
    state = settle(live, requested, end.job_state)
    if not can(live, state):
        raise Conflict(f"a job cannot go from {live.value} to {state.value}")
    if state is end.job_state:
        reason = end.job_reason
    elif requested is None:
        reason = None  # a pause that was withdrawn is no reason for anything
    else:
        reason = Reason(ReasonCode(hot["request_code"]), hot["request_message"])
    if state in ENDED and reason is None:
        reason = end.attempt_reason
    return state, reason


def _expired(row: Row, worker: WorkerInfo | None, job: Job) -> Expired:
    return Expired(
        lease=Lease(row["id"], row["fence"]),
        attempt=row["fence"],
        worker=worker,
        attempt_identity=row["identity"],
        publishing=row["phase"] == Phase.PUBLISHING,
        lease_expires_at=row["lease_expires_at"],
        units_committed=bool(row["units_committed"]),
        job=job,
    )
