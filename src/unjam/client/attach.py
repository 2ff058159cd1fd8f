"""The lease of a watcher: jobs of a foreground run are paused when the one who waits for them is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unjam.client.ids import new_id
from unjam.store.port import Store
from unjam.supervise.linux import boottime

RENEW_EVERY = 2.0
"""Seconds; several renewals fit into the shortest attach_ttl that the settings allow."""


class Attachment:
    """Held by whoever waits for jobs; `tick` renews it, `close` gives it back without touching the jobs."""

    def __init__(
        self,
        store: Store,
        job_ids: Sequence[str],
        *,
        ttl: float,
        clock: Callable[[], float] = boottime,  # runs on while the machine sleeps, as the store's does
    ) -> None:
        self._store = store
        self._job_ids = tuple(job_ids)
        self._ttl = ttl
        self._clock = clock
        self._renewed = clock()
        self.watcher_id = new_id("w")
        if job_ids:
            store.attach(self.watcher_id, job_ids, ttl=ttl)

    def tick(self) -> bool:
        """Renew when it is due; cheap to call often. False when it may have run out meanwhile (this process
        was stopped, or the machine slept) and the jobs may have been paused for that."""
        late = self._clock() - self._renewed
        if late < RENEW_EVERY:
            return True
        self._renewed = self._clock()
        if late < self._ttl:
            self._store.renew_attachment(self.watcher_id, ttl=self._ttl)
            return True
        self._store.attach(self.watcher_id, self._job_ids, ttl=self._ttl)
        return False

    def close(self) -> None:
        self._store.detach(self.watcher_id)
