"""The store, put together from its groups of methods over one database."""

from __future__ import annotations

from unjam.store.attachments import Attaching
from unjam.store.claim import Claiming
from unjam.store.finish import Finishing
from unjam.store.reading import Reading
from unjam.store.resume import Resuming
from unjam.store.submit import Submitting
from unjam.store.work import Working
from unjam.store.workers import Staffing


class SqlStore(Submitting, Claiming, Working, Finishing, Attaching, Resuming, Staffing, Reading):
    """`port.Store` in SQL. Used by one thread at a time, never across a fork."""

    @property
    def url(self) -> str:
        """What `open_store` opens again."""
        return self._db.url

    def close(self) -> None:
        self._waker.close()
        self._db.close()

    def check(self) -> list[str]:
        findings = self._db.check()
        return findings + [row["finding"] for row in self._db.all("find_contradictions")]

    def shrink(self) -> bool:
        return self._db.shrink()

    def backup(self, path: str) -> None:
        self._db.backup(path)
