"""Watchers that keep jobs alive: an attachment is a lease too, and when the last one ends the job is
paused."""

from __future__ import annotations

from collections.abc import Sequence

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
        self._db.run("renew_attachment", {"watcher_id": watcher_id, "expires_at": self.now() + ttl})

    def detach(self, watcher_id: str) -> None:
        self._db.run("detach", {"watcher_id": watcher_id})

    def expire_attachments(self) -> list[str]:
        if not self._db.one("find_expired_attachment", {"now": self.now()}):
            return []
        with self._db.write():
            now = self.now()
            seqs = {row["job_seq"] for row in self._db.all("expire_attachments", {"now": now})}
            abandoned = [row for seq in sorted(seqs) if (row := self._abandoned(seq)) is not None]
            outcome = [self._pause(row, ABANDONED, "watcher", now) for row in abandoned]
        self._poke_for(outcome)
        return [one.job_id for one in outcome if one.changed]

    def _abandoned(self, job_seq: int) -> Row | None:
        """The job, if it is active and nobody watches it. Its row is locked before watchers are looked for:
        one that attaches at this moment is seen."""
        job = self._db.one("get_job_by_seq", {"seq": job_seq})
        if job is None or job["finished_at"] is not None:
            return None
        return None if self._db.one("find_attachment", {"job_seq": job_seq}) else job
