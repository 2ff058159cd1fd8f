"""What a running attempt writes: plans, committed units, progress. All of it under its fence (INV-FENCE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


class _Committed(Exception):
    """That unit is there already."""


class _Stale(Exception):
    """One of the leases is not held any more."""


class Working(Base):
    """Part of the store."""

    # -- plans -------------------------------------------------------------------------------------------
    def put_plan(
        self, lease: Lease, stage: str, digest: str, body: dict[str, object], *, host: str
    ) -> PlanOutcome:
        with self._db.write():
            job_seq = self._hold(lease)
            key = {"job_seq": job_seq, "stage": stage}
            plans, units = self._db.together(("get_plan", key), ("find_committed", {**key, "host": host}))
            plan = plans[0] if plans else None
            voided = 0
            if plan is None or digest not in (plan["proposed"], plan["digest"]):
                if plan is not None:
                    voided, units = self._void(key), ()
                revision = 1 if plan is None else plan["revision"] + 1
                new = {"proposed": digest, "digest": digest, "revision": revision, "body": to_json(body)}
                self._db.later("put_plan", {**key, **new})
                if plan is not None:
                    data = {"stage": stage, "digest": digest, "was": plan["digest"], "voided": voided}
                    self._event(job_seq, "plan_changed", self.now(), attempt=lease.fence, data=data)
                plan = {"stage": stage, **new}
            self._db.later("count_reused", {"job_seq": job_seq, "fence": lease.fence, "host": host})
        return PlanOutcome(_plan_record(plan), tuple(unit_of(row) for row in units), voided)

    def revise_plan(self, lease: Lease, stage: str, digest: str, body: dict[str, object]) -> PlanOutcome:
        with self._db.write():
            hot = self._held(lease)
            key = {"job_seq": hot["seq"], "stage": stage}
            plan = self._db.one("get_plan", key)
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
            units = self._db.all("find_committed", {**key, "host": hot["host"]})
        return PlanOutcome(_plan_record({"stage": stage, **new}), tuple(unit_of(row) for row in units), 0)

    def _void(self, key: dict[str, object]) -> int:
        return sum(row["state"] == UnitState.COMMITTED for row in self._db.all("void_stage", key))

    # -- units -------------------------------------------------------------------------------------------
    def commit_unit(self, lease: Lease, unit: UnitRecord) -> None:
        try:
            with self._db.write():
                job_seq = self._hold(lease)
                params = unit_params(job_seq, lease.fence, unit)
                # INV-KEEP: a unit that holds for this host is done, once. One that lies on another host may
                # be redone.
                self._db.must("require_no_unit", params, _Committed)
                self._db.later("commit_unit", params)
                data = {"stage": unit.stage, "unit": unit.name}
                self._event(job_seq, "unit_committed", self._stamp(), attempt=lease.fence, data=data)
        except _Committed:
            holding = self._db.one("find_holding_unit", params)
            if holding is None:
                return self.commit_unit(lease, unit)  # voided since: now there is room
            if any(holding[name] != params[name] for name in _SAME):
                raise Conflict(
                    f"unit {unit.name} of stage {unit.stage} of job {lease.job_id} is committed already"
                ) from None
            # Else it is asked again by an attempt that was not told that it had been committed.
        return None

    def void_units(self, lease: Lease, stage: str, names: Sequence[str]) -> int:
        with self._db.write():
            job_seq = self._hold(lease)
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
        # In the order of ids, as everywhere that several rows are locked.
        ordered = sorted(updates, key=lambda update: update.lease.job_id)
        try:
            with self._db.write():
                for update in ordered:
                    self._save(self._hold(update.lease, _Stale), update)
        except _Stale:
            stale = self._save_held(ordered)
            return [update.lease for update in updates if update.lease in stale]
        return []

    def _save_held(self, ordered: Sequence[ProgressUpdate]) -> set[Lease]:
        """Some are stale: look which, and write the others."""
        with self._db.write():
            asked = [
                ("get_held_job", {"id": update.lease.job_id, "fence": update.lease.fence})
                for update in ordered
            ]
            held = self._db.together(*asked)
            for update, found in zip(ordered, held, strict=True):
                if found:
                    self._save(found[0]["seq"], update)
            return {update.lease for update, found in zip(ordered, held, strict=True) if not found}

    def _save(self, job_seq: int, update: ProgressUpdate) -> None:
        lease = update.lease
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
            job_seq = self._hold(lease)
            self._change_spec(job_seq, lambda spec: with_inputs(spec, inputs))


def _plan_record(row: Row | Mapping[str, Any]) -> PlanRecord:
    return PlanRecord(row["stage"], row["digest"], row["revision"], from_json(row["body"]))
