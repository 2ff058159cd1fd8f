"""What a running attempt writes: plans, committed units, progress. All of it under its fence (INV-FENCE)."""

from __future__ import annotations

from collections.abc import Sequence

from unjam.errors import Conflict
from unjam.jobs.model import InputFile
from unjam.jobs.records import Lease, PlanOutcome, PlanRecord, ProgressUpdate, UnitRecord
from unjam.jobs.states import UnitState
from unjam.store.base import Base
from unjam.store.database import Row
from unjam.store.rows import (
    from_json,
    maybe_json,
    stage_params,
    to_json,
    unit_of,
    unit_params,
    with_inputs,
)

_SAME = ("fence", "uri", "size_bytes", "sha256", "result", "host")


class Working(Base):
    """Part of the store."""

    # -- plans -------------------------------------------------------------------------------------------
    def put_plan(
        self, lease: Lease, stage: str, digest: str, body: dict[str, object], *, host: str
    ) -> PlanOutcome:
        with self._db.write():
            job_seq = self._held(lease)["seq"]
            key = {"job_seq": job_seq, "stage": stage}
            plan = self._plan(key)
            voided = 0
            if plan is None or digest not in (plan["proposed"], plan["digest"]):
                voided = self._void(key) if plan is not None else 0
                revision = 1 if plan is None else plan["revision"] + 1
                new = {"proposed": digest, "digest": digest, "revision": revision, "body": to_json(body)}
                self._db.later("put_plan", {**key, **new})
                if plan is not None:
                    data = {"stage": stage, "digest": digest, "was": plan["digest"], "voided": voided}
                    self._event(job_seq, "plan_changed", self.now(), attempt=lease.fence, data=data)
            committed = self._committed(key, host)
            self._db.later("count_reused", {"job_seq": job_seq, "fence": lease.fence, "host": host})
            return PlanOutcome(self._plan_record(key), committed, voided)

    def revise_plan(self, lease: Lease, stage: str, digest: str, body: dict[str, object]) -> PlanOutcome:
        with self._db.write():
            hot = self._held(lease)
            key = {"job_seq": hot["seq"], "stage": stage}
            plan = self._plan(key)
            if plan is None:
                raise Conflict(f"stage {stage} of job {lease.job_id} has no plan to revise")
            new = {
                "proposed": plan["proposed"],
                "digest": digest,
                "revision": plan["revision"] + 1,
                "body": to_json(body),
            }
            self._db.later("put_plan", {**key, **new})
            data = {"stage": stage, "digest": digest, "revision": new["revision"]}
            self._event(hot["seq"], "plan_revised", self.now(), attempt=lease.fence, data=data)
            return PlanOutcome(self._plan_record(key), self._committed(key, hot["host"]), 0)

    def _plan(self, key: dict[str, object]) -> Row | None:
        return self._db.one("get_plan", key)

    def _plan_record(self, key: dict[str, object]) -> PlanRecord:
        row = self._plan(key)
        assert row is not None  # put in this transaction
        return PlanRecord(row["stage"], row["digest"], row["revision"], from_json(row["body"]))

    def _void(self, key: dict[str, object]) -> int:
        return sum(row["state"] == UnitState.COMMITTED for row in self._db.all("void_stage", key))

    def _committed(self, key: dict[str, object], host: str) -> tuple[UnitRecord, ...]:
        return tuple(unit_of(row) for row in self._db.all("find_committed", {**key, "host": host}))

    # -- units -------------------------------------------------------------------------------------------
    def commit_unit(self, lease: Lease, unit: UnitRecord) -> None:
        with self._db.write():
            which = {"id": lease.job_id, "stage": unit.stage, "name": unit.name, "host": unit.host}
            hot, [holding] = self._held_with(lease, ("find_holding_unit", which))
            job_seq = hot["seq"]
            params = unit_params(job_seq, lease.fence, unit)
            # INV-KEEP: a unit that holds for this host is done, once. One that lies on another host may be
            # redone.
            if holding:
                if all(holding[0][name] == params[name] for name in _SAME):
                    return  # asked again by an attempt that was not told that it had been committed
                raise Conflict(
                    f"unit {unit.name} of stage {unit.stage} of job {lease.job_id} is committed already"
                )
            self._db.later("commit_unit", params)
            data = {"stage": unit.stage, "unit": unit.name}
            self._event(job_seq, "unit_committed", self.now(), attempt=lease.fence, data=data)

    def void_units(self, lease: Lease, stage: str, names: Sequence[str]) -> int:
        with self._db.write():
            job_seq = self._held(lease)["seq"]
            key = {"job_seq": job_seq, "stage": stage}
            voided = sum(self._db.run("void_unit", {**key, "name": name}) for name in names)
            if voided:
                data = {"stage": stage, "units": list(names)}
                self._event(job_seq, "units_voided", self.now(), attempt=lease.fence, data=data)
            return voided

    # -- progress ----------------------------------------------------------------------------------------
    def save_progress(self, updates: Sequence[ProgressUpdate]) -> list[Lease]:
        if not updates:
            return []
        with self._db.write():
            # In the order of ids, as everywhere that several rows are locked.
            ordered = sorted(updates, key=lambda update: update.lease.job_id)
            asked = [
                ("get_held_job", {"id": update.lease.job_id, "fence": update.lease.fence})
                for update in ordered
            ]
            held = self._db.together(*asked)
            for update, found in zip(ordered, held, strict=True):
                if found:
                    self._save(found[0], update)
            stale = {update.lease for update, found in zip(ordered, held, strict=True) if not found}
        return [update.lease for update in updates if update.lease in stale]

    def _save(self, hot: Row, update: ProgressUpdate) -> None:
        job_seq, lease = hot["seq"], update.lease
        # A late picture must not take a job back from the point of no return, nor out of `cancelling`.
        if hot["phase"] not in (None, "publishing", update.phase):
            self._db.later("set_phase", {"seq": job_seq, "phase": update.phase})
        self._db.later(
            "put_progress",
            {
                "job_seq": job_seq,
                "progress": update.progress,
                "eta_seconds": update.eta_seconds,
                "message": update.message,
                "advanced_at": update.advanced_at,
                "stalled": update.stalled,
                "stall_at": update.stall_at,
                "usage": maybe_json(update.usage),
            },
        )
        self._db.many("put_stage", [stage_params(job_seq, stage) for stage in update.stages])
        self._db.many("put_unit", [unit_params(job_seq, lease.fence, unit) for unit in update.units])

    def set_input_media(self, lease: Lease, inputs: Sequence[InputFile]) -> None:
        with self._db.write():
            job_seq = self._held(lease)["seq"]
            self._change_spec(job_seq, lambda spec: with_inputs(spec, inputs))
