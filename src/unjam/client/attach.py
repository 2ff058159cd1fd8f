"""The lease of a watcher: jobs of a foreground run are paused when the one who waits for them is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unjam.client.ids import new_id
from unjam.jobs.model import Watcher
from unjam.store.port import Store
from unjam.supervise.linux import boottime

RENEW_EVERY = 2.0
"""Seconds; several renewals fit into the shortest attach_ttl that the settings allow."""


class Attachment:
    """Held by whoever waits for jobs; `tick` renews it, `close` gives it back without touching the jobs.

    Jobs that are resumed are attached by `Store.resume` itself, in one transaction; new ones by `add`.
    """

    def __init__(
        self,
        store: Store,
        *,
        ttl: float,
        clock: Callable[[], float] = boottime,  # runs on while the machine sleeps, as the store's does
    ) -> None:
        self._store = store
        self._clock = clock
        self._renewed = clock()
        self.watcher = Watcher(new_id("w"), ttl)

    def add(self, job_ids: Sequence[str]) -> None:
        """Hold these jobs too."""
        if job_ids:
            self._store.attach(self.watcher.id, job_ids, ttl=self.watcher.ttl)

    def tick(self) -> bool:
        """Renew when it is due; cheap to call often. False when it may have run out meanwhile (this process
        was stopped, or the machine slept) and the jobs may have been paused for that."""
        late = self._clock() - self._renewed
        if late < RENEW_EVERY:
            return True
        self._renewed = self._clock()
        self._store.renew_attachment(self.watcher.id, ttl=self.watcher.ttl)
        return late < self.watcher.ttl

    def held(self) -> frozenset[str]:
        """The jobs that are still this watcher's: whoever resumed one elsewhere has taken it over."""
        return frozenset(self._store.attached(self.watcher.id))

    def close(self) -> None:
        self._store.detach(self.watcher.id)
