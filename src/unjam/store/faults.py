"""A store that does what it is asked and then says that it failed: for tests of those who must ask again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from unjam.errors import StoreUnavailable
from unjam.store.port import Store

READS = frozenset(
    {
        "now", "steady_since", "check", "backup", "close", "requests", "publishing", "live_jobs", "expired",
        "due",
        "workers", "queues", "resolve", "newest", "batch_jobs", "get", "get_many", "find_dedupe", "list_jobs",
        "count_by_state", "stages", "units", "attempts", "artifacts", "events_since", "last_event_id",
        "blocked_by", "attached", "paused_queues",
    }
)  # fmt: skip


class FaultyStore:
    """Wraps a store: the write for which `fails(name, number)` is true is done, and StoreUnavailable raised.

    This is what a caller sees when the connection is lost after the commit and the server is away for longer
    than anybody waits: it cannot know, so it asks again.
    """

    def __init__(self, store: Store, fails: Callable[[str, int], bool]) -> None:
        self._store = store
        self._fails = fails
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name in READS or not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            answer = found(*arguments, **named)
            self.writes += 1
            if self._fails(name, self.writes):
                raise StoreUnavailable(f"{name} was done, but this says that it failed")
            return answer

        return call


def faulty(store: Store, *, fail_after: int = 1) -> Store:
    """The store, whose every `fail_after`-th write says that it failed."""
    return cast(Store, FaultyStore(store, lambda _name, number: number % fail_after == 0))
