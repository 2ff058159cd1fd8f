"""How attempts end: the point of no return, both ends in one transaction, and who left work behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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

ASKED_FOR = (State.CANCELLED, State.PAUSED)
DELIVERED = (State.SUCCEEDED, State.PARTIAL, State.SKIPPED)


class _Asked(Exception):
    """Something was asked of the job, or somebody waits for it: that decides, and has to be looked at."""


class Finishing(Base):
    """Part of the store."""

    def begin_publish(self, lease: Lease, outputs: Sequence[StagedOutput], end: AttemptEnd) -> bool:
        try:
            self._start_publishing(lease, outputs, end)
        except _Asked:
            return False
        return True

    def _start_publishing(self, lease: Lease, outputs: Sequence[StagedOutput], end: AttemptEnd) -> None:
        def refused() -> Exception:
            hot = self._db.one("get_hot_job", {"id": lease.job_id})
            cancelled = hot is not None and hot["fence"] == lease.fence and hot["requested"] == Request.CANCEL
            return _Asked() if cancelled else self._lost(lease)

        with self._db.write():
            job_seq = self._hold(lease)
            self._db.must("require_running", {"seq": job_seq}, refused)
            self._db.later("start_publishing", {"seq": job_seq})
            row = {
                "job_seq": job_seq,
                "fence": lease.fence,
                "outputs": outputs_json(outputs),
                "outcome": end_json(end),
            }
            self._db.later("put_publish", row)
            data = {"outputs": [output.final_path for output in outputs]}
            self._event(job_seq, "publishing", self._stamp(), attempt=lease.fence, data=data)

    def end(self, lease: Lease, end: AttemptEnd) -> None:
        self._finish(lease, end, "ended")

    def unlease(self, lease: Lease, end: AttemptEnd) -> None:
        self._finish(lease, end, "unleased")

    def _finish(self, lease: Lease, end: AttemptEnd, kind: str) -> None:
        try:
            released = self._finish_unasked(lease, end, kind)
        except _Asked:
            released = self._finish_asked(lease, end, kind)
        self._seqs.pop(lease.job_id, None)
        if released:
            self._waker.poke()

    def _finish_unasked(self, lease: Lease, end: AttemptEnd, kind: str) -> bool:
        """As it mostly is: nobody asked anything of the job, and nobody waits for its end. That is demanded,
        not looked at, so that it takes one round trip. Returns whether a job became queued; raises _Asked."""
        state = settle(State.RUNNING, None, end.job_state)
        if end.job_state in ASKED_FOR or not can(State.RUNNING, state):
            raise _Asked
        with self._db.write():
            job_seq = self._hold(lease)
            self._db.must("require_unasked", {"seq": job_seq, "unleased": int(kind == "unleased")}, _Asked)
            if state in ENDED:
                # Whoever begins to wait for this job locks its row first: those who wait are seen.
                self._db.must("require_no_waiter", {"id": lease.job_id}, _Asked)
            hot = {"seq": job_seq, "state": State.RUNNING.value, "requested": None}
            self._write_end(hot, lease, end, kind, self._stamp())
        return state is State.QUEUED

    def _finish_asked(self, lease: Lease, end: AttemptEnd, kind: str) -> bool:
        with self._db.write():
            # Whoever begins to wait for this job locks its row first: those who wait are seen.
            hot, [awaiting] = self._held_with(lease, ("find_awaiting", {"after_id": lease.job_id}))
            if kind == "unleased" and hot["phase"] == Phase.PUBLISHING:
                # INV-TORN: its files may have their names already; queued again it would find them taken.
                raise PastReturn(f"job {lease.job_id} is publishing: it is rolled forward, not taken back")
            now = self.now()
            state = self._write_end(hot, lease, end, kind, now)
            if state in ENDED and awaiting:
                return self._settle_dependants([(lease.job_id, state)], now)
            return state is State.QUEUED

    def _write_end(
        self, hot: Row | Mapping[str, Any], lease: Lease, end: AttemptEnd, kind: str, stamp: float | None
    ) -> State:
        state, reason = _outcome(hot, end)
        self._end_attempt(hot["seq"], lease.fence, end, stamp)
        self._end_job(hot["seq"], state, reason, end, stamp)
        data = reason_data(reason, attempt_state=end.attempt_state.value)
        self._event(
            hot["seq"], kind, stamp, attempt=lease.fence, before=hot["state"], after=state.value, data=data
        )
        return state

    def _end_attempt(self, job_seq: int, fence: int, end: AttemptEnd, stamp: float | None) -> None:
        attempt = {
            "job_seq": job_seq,
            "fence": fence,
            "state": end.attempt_state,
            "stamp": stamp,
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
        self._db.later("interrupt_stages", {"job_seq": job_seq, "stamp": stamp})

    def _end_job(
        self, job_seq: int, state: State, reason: Reason | None, end: AttemptEnd, stamp: float | None
    ) -> None:
        job = {
            "seq": job_seq,
            "state": state,
            "run_at": end.run_at,
            "ended": int(state in ENDED),
            "stamp": stamp,
            "attempts": end.counters.attempts,
            "failures": end.counters.failures,
            "crashes": end.counters.crashes,
            "losses": end.counters.losses,
            **reason_params(reason),
        }
        self._db.later("end_job", job)
        self._db.later("delete_publish", {"job_seq": job_seq})
        if state in DELIVERED:
            self._db.later("complete_progress", {"job_seq": job_seq})
        else:
            self._db.later("stop_progress", {"job_seq": job_seq})

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

    def expired(self, *, by: float | None = None) -> list[Expired]:
        return self._live(host=None, before=self.now() if by is None else by)

    def _live(self, *, host: str | None, before: float | None) -> list[Expired]:
        rows = self._db.all("find_live", {"host": host, "before": before})
        if not rows:
            return []
        jobs = {job.seq: job for job in self._load([row["seq"] for row in rows])}
        for job in jobs.values():
            self._met(job.id, job.seq)
        workers = {row["id"]: worker_of(row) for row in self._db.all("list_workers")}
        # A job may have been removed between the two looks.
        return [
            _expired(row, workers.get(row["worker_id"]), jobs[row["seq"]])
            for row in rows
            if row["seq"] in jobs
        ]


def _outcome(hot: Row | Mapping[str, Any], end: AttemptEnd) -> tuple[State, Reason | None]:
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
