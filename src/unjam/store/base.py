"""What every group of the store's methods shares: the hot row, the fence, the history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from unjam.errors import Conflict, LeaseLost, NotFound
from unjam.jobs.lifecycle import LIVE, SATISFIED
from unjam.jobs.model import Job
from unjam.jobs.reasons import Reason
from unjam.jobs.records import Lease, UnitRecord
from unjam.jobs.states import State
from unjam.store.database import Database, Params, Row
from unjam.store.port import RequestOutcome
from unjam.store.rows import job_of, unit_of
from unjam.store.wakeup import Waker

MET = 10_000
"""Numbers of jobs that are remembered: more than any worker runs."""


class Base:
    """Database, clock and waker of one store."""

    def __init__(self, database: Database, clock: Callable[[], float], waker: Waker | None = None) -> None:
        self._db = database
        self._clock = clock
        self._waker = waker if waker is not None else Waker(self._wake_paths)
        self._queues: set[str] = set()
        self._lanes: dict[tuple[str, str, int], int] = {}
        self._seqs: dict[str, int] = {}
        """Numbers of the jobs whose leases we have met, so that their writes need not ask for them."""

    def now(self) -> float:
        """Seconds since the epoch on the store's clock."""
        return self._clock()

    def steady_since(self) -> float:
        """Since when every lease could be renewed, on the store's clock."""
        return self._db.steady_since

    def _stamp(self) -> float | None:
        """The time for a statement that writes it down; None where the database takes its own, for whose
        answer nobody waits then."""
        return None if self._db.tells_time else self.now()

    def _wake_paths(self) -> list[str]:
        return [row["wake_path"] for row in self._db.all("find_wake_paths", {"now": self.now()})]

    # -- rows --------------------------------------------------------------------------------------------
    def _hot(self, job_id: str) -> Row:
        row = self._db.one("get_hot_job", {"id": job_id})
        if row is None:
            raise NotFound(f"there is no job {job_id}")
        return row

    def _lock(self, job_ids: Sequence[str]) -> None:
        """Take the rows of several jobs in the order of their ids: of two who ask for the same one waits,
        and not both for ever."""
        if len(job_ids) > 1:
            for job_id in sorted(set(job_ids)):
                self._hot(job_id)

    def _hold(self, lease: Lease, refused: Callable[[], Exception] | None = None) -> int:
        """Demand that this fence is the job's and the job is live (INV-FENCE); its row is locked. Not waited
        for. Returns the job's number."""
        refused = refused or (lambda: self._lost(lease))
        seq = self._seqs.get(lease.job_id)
        if seq is None:
            seq = self._number(lease)
            if seq is None:
                raise refused()
            return seq
        key = {"seq": seq, "id": lease.job_id, "fence": lease.fence}
        self._db.must("require_held", key, refused)
        return seq

    def _number(self, lease: Lease) -> int | None:
        """The number of a job that is held; its row is locked."""
        found = self._db.one("get_held_job", {"id": lease.job_id, "fence": lease.fence})
        if found is None:
            return None
        seq: int = found["seq"]
        self._met(lease.job_id, seq)
        return seq

    def _met(self, job_id: str, seq: int) -> None:
        if len(self._seqs) >= MET:
            self._seqs.clear()
        self._seqs[job_id] = seq

    def _lost(self, lease: Lease) -> LeaseLost:
        row = self._db.one("get_hot_job", {"id": lease.job_id})
        if row is None:
            return LeaseLost(f"job {lease.job_id} is gone: it was removed")
        return LeaseLost(
            f"attempt {lease.fence} of job {lease.job_id} lost its lease: "
            f"the job is {row['state']} after attempt {row['fence']}"
        )

    def _held(self, lease: Lease) -> Row:
        """The hot row, if this fence is the job's and the job is live (INV-FENCE)."""
        return self._held_with(lease)[0]

    def _held_with(self, lease: Lease, *also: tuple[str, Params]) -> tuple[Row, list[Sequence[Row]]]:
        """The hot row, and what else is asked once that is locked, without another wait for the database."""
        found, *answers = self._db.together(("get_hot_job", {"id": lease.job_id}), *also)
        if not found or found[0]["fence"] != lease.fence or found[0]["state"] not in LIVE:
            raise self._lost(lease)
        return found[0], answers

    def _load(self, seqs: Sequence[int]) -> list[Job]:
        """The jobs with these numbers, in this order."""
        rows = {row["seq"]: row for row in self._db.all("load_jobs", {"seqs": json.dumps(seqs)})}
        return [job_of(rows[seq]) for seq in seqs if seq in rows]

    def _change_spec(self, job_seq: int, change: Callable[[str], str]) -> None:
        row = self._db.one("get_spec", {"job_seq": job_seq})
        assert row is not None  # the job's row is locked, so its detail is there
        self._db.later("put_spec", {"job_seq": job_seq, "spec": change(row["spec"])})

    def _drop_units(self, hot: Row, names: Sequence[str] | None) -> list[UnitRecord]:
        """Forget units (all, or by name) of a locked job that is not live."""
        if State(hot["state"]) in LIVE:
            raise Conflict(
                f"job {hot['id']} is {hot['state']}: its units can be dropped when it does not run"
            )
        key = {"job_seq": hot["seq"]}
        if names is None:
            rows = list(self._db.all("drop_units", key))
        else:
            rows = [row for name in names for row in self._db.all("drop_unit", {**key, "name": name})]
        self._db.later("reset_progress", key)
        if rows:
            self._event(hot["seq"], "units_dropped", self.now(), data={"units": len(rows)})
        return [unit_of(row) for row in rows]

    # -- history -----------------------------------------------------------------------------------------
    def _event(
        self,
        job_seq: int | None,
        kind: str,
        at: float | None,
        *,
        attempt: int | None = None,
        before: str | None = None,
        after: str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        text = json.dumps(data) if data else "{}"
        self._db.later("insert_event", (at, job_seq, attempt, kind, before, after, text))

    def _poke_for(self, outcome: Sequence[RequestOutcome]) -> None:
        if any(one.changed for one in outcome):
            self._waker.poke()

    # -- dependants --------------------------------------------------------------------------------------
    def _settle_dependants(self, ended: Iterable[tuple[str, State]], now: float) -> bool:
        """Release the jobs that wait for these ended ones, or fail them, and so on down the chain.

        Returns whether any became queued. INV-LOST: nobody keeps waiting for what has ended.
        """
        released = False
        pending = list(ended)
        while pending:
            job_id, state = pending.pop()
            if state in SATISFIED:
                waiters = self._db.all("satisfy_dependency", {"after_id": job_id})
                for waiter in waiters:
                    released |= self._release(waiter["job_seq"], now)
            else:
                for row in self._db.all("find_dependants", {"after_id": job_id}):
                    self._fail_dependant(
                        row["seq"], f"job {job_id}, which it waited for, is {state.value}", now
                    )
                    pending.append((row["id"], State.FAILED))
        return released

    def _release(self, job_seq: int, now: float) -> bool:
        """Queue a waiting job that waits for nothing any more."""
        if not self._db.run("release_waiting", {"seq": job_seq, "now": now}):
            return False
        self._event(job_seq, "ready", now, before="waiting", after="queued")
        return True

    def _fail_dependant(self, job_seq: int, message: str, now: float) -> None:
        self._db.later("fail_waiting", {"seq": job_seq, "now": now, "message": message})
        data = {"code": "dependency_failed", "message": message}
        self._event(job_seq, "dependency_failed", now, before="waiting", after="failed", data=data)

    def _settle_waiting(self, job_seq: int, job_id: str, now: float) -> State:
        """What a job that just became waiting really is: everything it waits for may have ended before."""
        for row in self._db.all("find_upstream", {"job_seq": job_seq}):
            upstream, state = row["after_id"], row["state"]
            if state in SATISFIED:
                self._db.later("satisfy_one", {"job_seq": job_seq, "after_id": upstream})
            elif state is None or row["finished_at"] is not None:
                what = "was removed" if state is None else f"is {state}"
                self._fail_dependant(job_seq, f"job {upstream}, which it waits for, {what}", now)
                self._settle_dependants([(job_id, State.FAILED)], now)
                return State.FAILED
        return State.QUEUED if self._release(job_seq, now) else State.WAITING


def reason_data(reason: Reason | None, **more: object) -> dict[str, object]:
    """A reason as the data of an event."""
    return more if reason is None else {"code": reason.code.value, "message": reason.message, **more}
