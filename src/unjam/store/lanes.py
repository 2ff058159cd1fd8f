"""Lanes: jobs of one queue, pipeline and priority. Their numbers are remembered; a rollback forgets them."""

from __future__ import annotations

from unjam.store.base import Base


class Lanes(Base):
    """Part of the store."""

    def _lane(self, queue: str, pipeline: str, priority: int) -> int:
        """The number of this lane; made, with its queue, where there is none."""
        known = self._lanes.get((queue, pipeline, priority))
        if known is not None:
            return known
        if queue not in self._queues:
            self._db.run("insert_queue", {"name": queue})
            self._queues.add(queue)
        key = {"queue": queue, "pipeline": pipeline, "priority": priority}
        self._db.run("insert_lane", key)
        row = self._db.one("get_lane", key)
        assert row is not None  # there before, or written by the line above
        lane: int = row["id"]
        self._lanes[queue, pipeline, priority] = lane
        return lane

    def _forget_lanes(self) -> None:
        self._lanes.clear()
        self._queues.clear()
