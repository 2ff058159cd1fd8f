"""Workers and queues: who is there, what is held back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields

from unjam.errors import Conflict, NotFound
from unjam.jobs.machines import QueueInfo, WorkerInfo
from unjam.jobs.records import Due
from unjam.jobs.states import State
from unjam.store.base import Base
from unjam.store.rows import worker_of, worker_params

_DUE = tuple(one.name for one in fields(Due))


class Staffing(Base):
    """Part of the store."""

    def check_in(self, worker: WorkerInfo, *, ttl: float) -> None:
        self._db.run("check_in", {**worker_params(worker), "stamp": self._stamp(), "ttl": ttl})

    def heartbeat(self, worker_id: str, *, ttl: float, draining: bool = False, stuck: int = 0) -> None:
        row = {
            "id": worker_id,
            "stamp": self._stamp(),
            "ttl": ttl,
            "draining": int(draining),
            "stuck": stuck,
        }
        if not self._db.run("heartbeat", row):
            raise NotFound(f"worker {worker_id} is not checked in: forgotten by another one, or by a restore")

    def check_out(self, worker_id: str) -> None:
        with self._db.write():
            # The row of a worker that still holds a job is what proves its death later.
            if not self._db.run("forget_worker", {"id": worker_id}):
                self._db.run("expire_worker", {"id": worker_id, "now": self.now()})

    def due(
        self, worker_id: str, *, host: str, queues: Sequence[str] | None, pipelines: Sequence[str]
    ) -> Due:
        row = self._db.one(
            "find_due",
            {
                "worker_id": worker_id,
                "host": host,
                "queues": None if queues is None else json.dumps(list(queues)),
                "pipelines": json.dumps(list(pipelines)),
                "now": None if self._db.tells_time else self.now(),
            },
        )
        assert row is not None  # a SELECT without a table always answers
        return Due(*(bool(row[name]) for name in _DUE))

    def workers(self) -> list[WorkerInfo]:
        return [worker_of(row) for row in self._db.all("list_workers")]

    def forget_worker(self, worker_id: str) -> None:
        with self._db.write():
            if not self._db.run("forget_worker", {"id": worker_id}) and self._db.one(
                "get_worker", {"id": worker_id}
            ):
                raise Conflict(f"worker {worker_id} still holds a job: end that first")

    def pause_queue(self, name: str, *, by: str) -> None:
        with self._db.write():
            self._db.run("pause_queue", {"name": name, "by": by})
            self._event(None, "queue_paused", self.now(), data={"queue": name, "by": by})

    def resume_queue(self, name: str) -> None:
        with self._db.write():
            if not self._db.run("resume_queue", {"name": name}):
                return
            self._event(None, "queue_resumed", self.now(), data={"queue": name})
        self._waker.poke()

    def paused_queues(self) -> dict[str, str]:
        return {row["name"]: row["paused_by"] for row in self._db.all("list_paused_queues")}

    def queues(self) -> list[QueueInfo]:
        counts: dict[str, dict[State, int]] = {}
        oldest: dict[str, float] = {}
        for row in self._db.all("count_queues"):
            counts.setdefault(row["queue"], {})[State(row["state"])] = row["jobs"]
            if row["state"] == State.QUEUED:
                oldest[row["queue"]] = row["oldest"]
        return [
            QueueInfo(
                name=row["name"],
                paused=row["paused_by"] is not None,
                paused_by=row["paused_by"],
                counts=counts.get(row["name"], {}),
                oldest_queued_at=oldest.get(row["name"]),
            )
            for row in self._db.all("list_queues")
        ]
