"""Watchers that keep jobs alive: an attachment is a lease too, and when the last one ends the job is
paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unjam.jobs.reasons import Reason, ReasonCode
from unjam.store.ask import Asking
from unjam.store.database import Row

ABANDONED = Reason(ReasonCode.INTERRUPTED, "nobody watches it any more: its terminal or page is gone")


class Attaching(Asking):
    """Part of the store."""

    def attach(self, watcher_id: str, job_ids: Sequence[str], *, ttl: float) -> None:
        with self._db.write():
            expires_at = self.now() + ttl
            for job_id in job_ids:
                row = {
                    "watcher_id": watcher_id,
                    "job_seq": self._hot(job_id)["seq"],
                    "expires_at": expires_at,
                }
                self._db.later("attach", row)

    def renew_attachment(self, watcher_id: str, *, ttl: float) -> None:
        self._db.run("renew_attachment", {"watcher_id": watcher_id, "stamp": self._stamp(), "ttl": ttl})

    def attached(self, watcher_id: str) -> list[str]:
        return [row["id"] for row in self._db.all("find_attached", {"watcher_id": watcher_id})]

    def detach(self, watcher_id: str) -> None:
        self._db.run("detach", {"watcher_id": watcher_id})

    def expire_attachments(self, *, by: float | None = None) -> list[str]:
        expired = {"now": self.now() if by is None else by}
        if not self._db.all("find_expired_attachment", expired):
            return []
        with self._db.write():
            ids = [row["id"] for row in self._db.all("find_expired_attachment", expired)]
            abandoned = [row for job_id in ids if (row := self._abandoned(job_id, expired)) is not None]
            outcome = [self._pause(row, ABANDONED, "watcher", self.now()) for row in abandoned]
        self._poke_for(outcome)
        return [one.job_id for one in outcome if one.changed]

    def _abandoned(self, job_id: str, expired: Mapping[str, object]) -> Row | None:
        """The job, if it is active and nobody watches it. Its row is locked before its watchers are looked
        for: one that attaches at this moment, or takes the job over, is seen."""
        job = self._db.one("get_hot_job", {"id": job_id})
        if job is None:
            return None
        forgotten = self._db.run("expire_attachments", {"job_seq": job["seq"], **expired})
        if not forgotten or job["finished_at"] is not None:
            return None
        return None if self._db.one("find_attachment", {"job_seq": job["seq"]}) else job
