"""Submitting: jobs in, each piece of work once (INV-DUP)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from unjam.errors import Duplicate, NotFound
from unjam.jobs.model import NewBatch, NewJob
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.states import State
from unjam.store.base import Base
from unjam.store.database import NotUnique
from unjam.store.lanes import Lanes
from unjam.store.port import OnDuplicate, Submitted
from unjam.store.rows import maybe_in, spec_json, text_in, text_out

_EVENT = "submitted"


class Submitting(Lanes):
    """Part of the store."""

    def submit(self, job: NewJob, *, on_duplicate: OnDuplicate = OnDuplicate.REFUSE) -> Submitted:
        try:
            with self._db.write():
                now = self.now()
                self._require_upstream(job, ())
                seq = self._db.insert("insert_job", self._job_row(job, None, None, now))
                self._db.later("insert_detail", _detail_row(job, seq))
                if job.tags:
                    self._db.many("insert_tag", _tag_rows(job, seq))
                self._event(seq, _EVENT, now, after="waiting" if job.after else "queued")
                self._wait_for(job, seq, now)
        except BaseException as error:
            # The lanes that it made were rolled back with it.
            self._forget_lanes()
            if isinstance(error, NotUnique):
                return self._explain(job, on_duplicate, error)
            raise
        self._waker.poke()
        return Submitted(job.id, created=True)

    def submit_many(
        self,
        jobs: Sequence[NewJob],
        *,
        batch: NewBatch | None = None,
        on_duplicate: OnDuplicate = OnDuplicate.REFUSE,
    ) -> list[Submitted | Reason]:
        try:
            with self._db.write():
                outcome = self._submit_many(jobs, batch, on_duplicate)
        except BaseException:
            self._forget_lanes()
            raise
        self._waker.poke()
        return outcome

    def _submit_many(
        self, jobs: Sequence[NewJob], batch: NewBatch | None, on_duplicate: OnDuplicate
    ) -> list[Submitted | Reason]:
        now = self.now()
        batch_seq = None if batch is None else self._batch(batch, now)
        taken = _Taken(self, jobs)
        outcome: list[Submitted | Reason] = []
        new: list[NewJob] = []
        known: set[str] = set()
        instead: dict[str, str] = {}
        for job in jobs:
            if job.after:
                job = replace(job, after=tuple(dict.fromkeys(instead.get(id, id) for id in job.after)))
                self._require_upstream(job, known)
            other = taken.find(job)
            if other is None:
                new.append(job)
                known.add(job.id)
                taken.add(job)
                outcome.append(Submitted(job.id, created=True))
            elif other.id == job.id or on_duplicate is OnDuplicate.RETURN:
                instead[job.id] = other.id
                outcome.append(Submitted(other.id, created=False))
            else:
                instead[job.id] = other.id
                outcome.append(Reason(ReasonCode.DUPLICATE, other.message))
        # Duplicates are sorted out: what remains goes in without a look back.
        numbered = list(zip(self._db.numbers("next_seqs", len(new)), new, strict=True))
        self._db.many("insert_job", [self._job_row(job, seq, batch_seq, now) for seq, job in numbered])
        self._db.many("insert_detail", [_detail_row(job, seq) for seq, job in numbered])
        self._db.many("insert_tag", [row for seq, job in numbered if job.tags for row in _tag_rows(job, seq)])
        self._db.many(
            "insert_event",
            [
                (now, seq, None, _EVENT, None, "waiting" if job.after else "queued", "{}")
                for seq, job in numbered
            ],
        )
        for seq, job in numbered:
            self._wait_for(job, seq, now)
        return outcome

    # -- rows --------------------------------------------------------------------------------------------
    def _batch(self, batch: NewBatch, now: float) -> int:
        self._db.run("insert_batch", (batch.id, batch.source, now))
        row = self._db.one("get_batch", {"id": batch.id})
        assert row is not None  # there before, or written by the line above
        seq: int = row["seq"]
        return seq

    def _job_row(self, job: NewJob, seq: int | None, batch_seq: int | None, now: float) -> tuple[object, ...]:
        needs = job.needs
        lane = self._lane(job.queue, job.pipeline, job.priority)
        return (
            seq, job.id, lane, "waiting" if job.after else "queued", now, now, batch_seq, job.dedupe_key,
            maybe_in(job.output_path), needs.cpu, needs.memory_bytes, needs.gpu,
        )  # fmt: skip

    # -- dependencies ------------------------------------------------------------------------------------
    def _require_upstream(self, job: NewJob, known: set[str] | tuple[()]) -> None:
        """A job waits only for jobs that were there before it: no cycle can come to be (INV-LOST)."""
        for upstream in job.after:
            if upstream not in known and self._db.one("get_hot_job", {"id": upstream}) is None:
                raise NotFound(f"there is no job {upstream} to wait for")

    def _wait_for(self, job: NewJob, seq: int, now: float) -> None:
        if not job.after:
            return
        results = {source.job_id for source in job.inputs}
        for upstream in dict.fromkeys(job.after):
            self._db.later("insert_dependency", (seq, upstream, int(upstream in results)))
        self._settle_waiting(seq, job.id, now)

    # -- duplicates --------------------------------------------------------------------------------------
    def _explain(self, job: NewJob, on_duplicate: OnDuplicate, refused: NotUnique) -> Submitted:
        other = _Taken(self, [job]).find(job)
        if other is None:
            # It ended between the refusal and the look: now there is room.
            return self.submit(job, on_duplicate=on_duplicate)
        if other.id == job.id or on_duplicate is OnDuplicate.RETURN:
            return Submitted(other.id, created=False)
        raise Duplicate(other.message, other.id) from refused


class _Other:
    """The job that stands in the way."""

    def __init__(self, id: str, message: str) -> None:
        self.id = id
        self.message = message


class _Taken:
    """Which ids, keys and output names of these jobs are taken: in the store, and by the jobs added so
    far."""

    def __init__(self, store: Base, jobs: Sequence[NewJob]) -> None:
        self._ids: set[str] = set()
        self._keys: dict[str, tuple[str, str]] = {}
        self._paths: dict[str, tuple[str, str]] = {}
        asked = {
            "ids": json.dumps([job.id for job in jobs]),
            "keys": json.dumps([job.dedupe_key for job in jobs if job.dedupe_key is not None]),
            "paths": json.dumps([text_in(job.output_path) for job in jobs if job.output_path is not None]),
        }
        for row in store._db.all("find_taken", asked):
            match row["what"]:
                case "id":
                    self._ids.add(row["value"])
                case "key":
                    self._keys[row["value"]] = (row["id"], row["state"])
                case _:
                    self._paths[text_out(row["value"])] = (row["id"], row["state"])

    def find(self, job: NewJob) -> _Other | None:
        if job.id in self._ids:
            return _Other(job.id, f"job {job.id} was submitted already")
        if job.dedupe_key is not None and job.dedupe_key in self._keys:
            id, state = self._keys[job.dedupe_key]
            return _Other(id, f"the same work is done by job {id} ({state})")
        if job.output_path is not None and job.output_path in self._paths:
            id, state = self._paths[job.output_path]
            return _Other(id, f"the output {job.output_path} belongs to job {id} ({state})")
        return None

    def add(self, job: NewJob) -> None:
        self._ids.add(job.id)
        if job.dedupe_key is not None:
            self._keys[job.dedupe_key] = (job.id, State.QUEUED)
        if job.output_path is not None:
            self._paths[job.output_path] = (job.id, State.QUEUED)


def _detail_row(job: NewJob, seq: int) -> tuple[object, ...]:
    return seq, text_in(job.name), job.pipeline_version, spec_json(job)


def _tag_rows(job: NewJob, seq: int) -> list[tuple[object, ...]]:
    return [(seq, text_in(key), text_in(value)) for key, value in job.tags.items()]
