"""Looking at the store: jobs, their parts, their history."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from unjam.jobs.model import Job
from unjam.jobs.records import Artifact, AttemptRecord, Event, StageRecord, UnitRecord
from unjam.jobs.states import State
from unjam.store.base import Base
from unjam.store.database import Row
from unjam.store.port import JobFilter
from unjam.store.rows import artifact_of, attempt_of, event_of, stage_of, text_in, unit_of

_ABOVE = "\U0010ffff"
"""Sorts after everything an id can hold."""


class Reading(Base):
    """Part of the store."""

    # -- finding -----------------------------------------------------------------------------------------
    def resolve(self, prefix: str) -> list[str]:
        rows = self._db.all("resolve_prefix", {"prefix": prefix, "above": prefix + _ABOVE})
        return [row["id"] for row in rows]

    def newest(self) -> str | None:
        row = self._db.one("find_newest")
        return None if row is None else row["id"]

    def batch_jobs(self, batch_id: str) -> list[str] | None:
        rows = self._db.all("list_batch", {"id": batch_id})
        return [row["id"] for row in rows if row["id"] is not None] if rows else None

    def get(self, job_id: str) -> Job | None:
        found = self.get_many([job_id])
        return found[0] if found else None

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        rows = self._db.all("find_seqs", {"ids": json.dumps(list(job_ids))})
        by_id = {row["id"]: row["seq"] for row in rows}
        found = self._load([by_id[job_id] for job_id in job_ids if job_id in by_id])
        # Between the two looks one may have been removed, and its number given to another (SQLite).
        return [job for job in found if job.id in by_id]

    def find_dedupe(self, dedupe_key: str) -> Job | None:
        row = self._db.one("find_dedupe", {"key": dedupe_key})
        return None if row is None else self._load([row["seq"]])[0]

    # -- lists -------------------------------------------------------------------------------------------
    def list_jobs(self, where: JobFilter, *, limit: int = 50, before_seq: int | None = None) -> list[Job]:
        clause, params = _clause(where)
        params |= {"before": before_seq, "limit": limit}
        keyset = "" if before_seq is None else " AND j.seq < :before"
        seqs: list[int] = []
        # One look a state: each reads the end of its range of the index, where one look at all would sort.
        states: list[State | None] = [*sorted(where.states)] or [None]
        for state in states:
            tail = f"{clause}{keyset}{'' if state is None else ' AND j.state = :state'}"
            rows = self._db.all(
                "list_jobs", {**params, "state": state}, tail=f"{tail} ORDER BY j.seq DESC LIMIT :limit"
            )
            seqs += [row["seq"] for row in rows]
        # Once each: one that was claimed between two looks is in both.
        return self._load(sorted(set(seqs), reverse=True)[:limit])

    def count_by_state(self, where: JobFilter) -> dict[State, int]:
        clause, params = _clause(where)
        rows: list[Row] = []
        states: list[State | None] = [*sorted(where.states)] or [None]
        for state in states:
            only = "" if state is None else " AND j.state = :state"
            tail = f"{clause}{only} GROUP BY j.state"
            rows += self._db.all("count_jobs", {**params, "state": state}, tail=tail)
        return {State(row["state"]): row["jobs"] for row in rows}

    # -- parts of a job ----------------------------------------------------------------------------------
    def stages(self, job_id: str) -> list[StageRecord]:
        return [stage_of(row) for row in self._db.all("list_stages", {"id": job_id})]

    def units(self, job_id: str) -> list[UnitRecord]:
        return [unit_of(row) for row in self._db.all("list_units", {"id": job_id})]

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        return [attempt_of(row) for row in self._db.all("list_attempts", {"id": job_id})]

    def artifacts(self, job_id: str) -> list[Artifact]:
        return [artifact_of(row) for row in self._db.all("list_artifacts", {"id": job_id})]

    def blocked_by(self, job_id: str) -> list[str]:
        return [row["after_id"] for row in self._db.all("find_blockers", {"id": job_id})]

    # -- history -----------------------------------------------------------------------------------------
    def events_since(
        self, cursor: int, *, job_ids: Iterable[str] | None = None, limit: int = 500
    ) -> list[Event]:
        params: dict[str, object] = {"cursor": cursor, "limit": limit}
        if job_ids is None:
            rows = self._db.all("list_events", params)
        else:
            rows = self._db.all("list_events_of_jobs", {**params, "ids": json.dumps(list(job_ids))})
        return [event_of(row) for row in rows]

    def last_event_id(self) -> int:
        row = self._db.one("last_event")
        assert row is not None  # an aggregate always answers
        last: int = row["id"]
        return last


def _clause(where: JobFilter) -> tuple[str, dict[str, object]]:
    """The filter, without its states, as SQL behind a WHERE that is true."""
    clause, params = "", dict[str, object]()
    lane = {"pipeline": where.pipeline, "queue": where.queue}
    asked = {name: value for name, value in lane.items() if value is not None}
    if asked:
        these = " AND ".join(f"{name} = :{name}" for name in asked)
        clause += f" AND j.lane_id IN (SELECT id FROM lane WHERE {these})"
        params |= asked
    if where.batch_id is not None:
        clause += " AND j.batch_seq = (SELECT seq FROM batch WHERE id = :batch_id)"
        params["batch_id"] = where.batch_id
    if where.worker_id is not None:
        clause += " AND j.worker_id = :worker_id AND j.lease_expires_at IS NOT NULL"
        params["worker_id"] = where.worker_id
    if where.tag is not None:
        clause += (
            " AND EXISTS (SELECT 1 FROM tag AS t"
            " WHERE t.job_seq = j.seq AND t.key = :tag AND t.value = :tag_value)"
        )
        params |= {"tag": text_in(where.tag[0]), "tag_value": text_in(where.tag[1])}
    if where.text is not None:
        clause += (
            " AND EXISTS (SELECT 1 FROM job_detail AS d"
            " WHERE d.job_seq = j.seq AND instr(lower(d.name), lower(:text)) > 0)"
        )
        params["text"] = where.text
    return clause, params
