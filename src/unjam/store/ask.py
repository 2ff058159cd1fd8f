"""What people ask of jobs: cancel, pause, forget units, remove."""

from __future__ import annotations

from collections.abc import Sequence

from unjam.errors import Conflict
from unjam.jobs.lifecycle import ACTIVE
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import UnitRecord
from unjam.jobs.states import Phase, State
from unjam.store.base import Base, reason_data
from unjam.store.database import Row
from unjam.store.port import RequestOutcome
from unjam.store.rows import reason_params

PRUNE = 100
"""Jobs that are forgotten in one transaction: with 50 units each a lock of some ten milliseconds."""
_IDLE = frozenset({State.QUEUED, State.WAITING, State.PAUSED})


class Asking(Base):
    """Part of the store."""

    # -- cancel ------------------------------------------------------------------------------------------
    def request_cancel(self, job_ids: Sequence[str], *, by: str) -> list[RequestOutcome]:
        reason = Reason(ReasonCode.CANCELLED_BY_USER, f"cancelled by {by}")
        with self._db.write():
            now = self.now()
            self._lock(job_ids)
            outcome = [self._cancel(self._hot(job_id), reason, by, now) for job_id in job_ids]
        self._poke_for(outcome)
        return outcome

    def _cancel(self, hot: Row, reason: Reason, by: str, now: float) -> RequestOutcome:
        state = State(hot["state"])
        if state in _IDLE:
            self._move(hot, State.CANCELLED, reason, by, now, "cancelled")
            self._settle_dependants([(hot["id"], State.CANCELLED)], now)
            return RequestOutcome(hot["id"], State.CANCELLED, changed=True)
        if state is not State.RUNNING or _publishes(hot):
            return RequestOutcome(hot["id"], state, changed=False, publishing=_publishes(hot))
        asked = {"seq": hot["seq"], **reason_params(reason, "request")}
        self._db.later("request_cancel", asked)
        self._event(
            hot["seq"],
            "cancel_requested",
            now,
            attempt=hot["fence"],
            before="running",
            after="cancelling",
            data=reason_data(reason, by=by),
        )
        return RequestOutcome(hot["id"], State.CANCELLING, changed=True)

    # -- pause -------------------------------------------------------------------------------------------
    def request_pause(self, job_ids: Sequence[str], *, by: str, reason: Reason) -> list[RequestOutcome]:
        with self._db.write():
            now = self.now()
            self._lock(job_ids)
            outcome = [self._pause(self._hot(job_id), reason, by, now) for job_id in job_ids]
        self._poke_for(outcome)
        return outcome

    def _pause(self, hot: Row, reason: Reason, by: str, now: float) -> RequestOutcome:
        state = State(hot["state"])
        if state in (State.QUEUED, State.WAITING):
            self._move(hot, State.PAUSED, reason, by, now, "paused")
            return RequestOutcome(hot["id"], State.PAUSED, changed=True)
        if state is not State.RUNNING or _publishes(hot) or hot["requested"] is not None:
            return RequestOutcome(hot["id"], state, changed=False, publishing=_publishes(hot))
        self._db.later("request_pause", {"seq": hot["seq"], **reason_params(reason, "request")})
        data = reason_data(reason, by=by)
        self._event(hot["seq"], "pause_requested", now, attempt=hot["fence"], data=data)
        return RequestOutcome(hot["id"], state, changed=True)

    def _move(self, hot: Row, state: State, reason: Reason, by: str, now: float, kind: str) -> None:
        """A job that nobody runs goes to this state at once."""
        finished_at = now if state is State.CANCELLED else None
        self._db.later(
            "move_idle_job",
            {"seq": hot["seq"], "state": state, "finished_at": finished_at, **reason_params(reason)},
        )
        data = reason_data(reason, by=by)
        self._event(hot["seq"], kind, now, before=hot["state"], after=state.value, data=data)

    # -- forget ------------------------------------------------------------------------------------------
    def drop_units(self, job_id: str, *, units: Sequence[str] | None = None) -> list[UnitRecord]:
        with self._db.write():
            return self._drop_units(self._hot(job_id), units)

    def remove(self, job_ids: Sequence[str]) -> list[str]:
        with self._db.write():
            found = [
                row
                for row in (self._db.one("get_hot_job", {"id": id}) for id in sorted(job_ids))
                if row is not None
            ]
            for row in found:
                if row["state"] in ACTIVE:
                    raise Conflict(f"job {row['id']} is {row['state']}: cancel it before it is removed")
                if (needer := self._db.one("find_needer", {"id": row["id"]})) is not None:
                    raise Conflict(
                        f"job {row['id']} cannot be removed: job {needer['id']} ({needer['state']}) "
                        "goes on from it"
                    )
            return self._remove(found)

    def prune(self, *, ended_before: float, limit: int = PRUNE) -> list[str]:
        with self._db.write():
            rows = self._db.all("find_prunable", {"before": ended_before, "limit": limit})
            if rows:
                return self._remove(rows)
            # The last of many calls: what belongs to no job goes too.
            age = {"before": ended_before}
            self._db.later("delete_empty_batches", age)
            self._db.later("delete_old_events", age)
            self._db.later("delete_old_workers", age)
            return []

    def _remove(self, rows: Sequence[Row]) -> list[str]:
        removed = [row["id"] for row in rows]
        if removed:
            # Before the rows go: it also keeps the newest event, so that no id is ever given twice.
            self._event(None, "removed", self.now(), data={"jobs": removed})
            seqs = [(row["seq"],) for row in rows]
            self._db.many("delete_events", seqs)
            self._db.many("delete_jobs", seqs)
            batches = {row["batch_seq"] for row in rows if row["batch_seq"] is not None}
            self._db.many("delete_batch", [(seq,) for seq in sorted(batches)])
        return removed


def _publishes(hot: Row) -> bool:
    return bool(hot["phase"] == Phase.PUBLISHING)
