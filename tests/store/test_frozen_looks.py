"""A server that is frozen for longer than a lease, and keeps its connections: nobody is taken for dead."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar, cast

import psycopg
import pytest

from tests.helpers import wait_until
from tests.postgres import Server
from tests.store.rig import job, state_of, take
from unjam.errors import StoreUnavailable
from unjam.jobs.states import State
from unjam.settings import Settings
from unjam.store import Store, open_store, pg_clock
from unjam.store.clock import since_boot
from unjam.store.pg_batch import Statement
from unjam.store.pg_clock import OUTAGE, ServerClock
from unjam.store.pg_connect import LOCK_TIMEOUT, Connection
from unjam.store.pg_store import PostgresStore
from unjam.store.postgres import PostgresDatabase
from unjam.worker import reap
from unjam.worker.recovery import reap_expired
from unjam.worker.shared import WorkerState

T = TypeVar("T")
TTL = 1.0
FROZEN = 1.6
"""Seconds: longer than a lease, which is longer than what counts as an outage here."""
TRIPS = 4
"""Round trips of one look of the reaper that frees nothing."""


class _FreezesAt(PostgresDatabase):
    """The server is stopped just before one of the questions, and goes on after a while."""

    server: Server | None = None
    left = 0
    asked = 0

    def _patiently(self, action: Callable[[Connection], T]) -> T:
        self.asked += 1
        if self.server is not None:
            self.left -= 1
            if self.left == 0:
                self._freeze(self.server)
        return super()._patiently(action)

    def _end_with(self, batch: Sequence[Statement]) -> None:
        if self.server is not None:
            self._freeze(self.server)
        super()._end_with(batch)

    def _freeze(self, server: Server) -> None:
        stopped = ExitStack()
        stopped.enter_context(server.frozen())
        self.server = None
        threading.Timer(FROZEN, stopped.close).start()


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pg_clock, "OUTAGE", 0.5)


def _until(store: Store, moment: float) -> None:
    wait_until(lambda: store.now() >= moment, 10, "the server's clock")


@pytest.mark.parametrize("trip", range(1, TRIPS + 1))
def test_whatever_a_reaper_asks_of_a_frozen_server(
    postgres_server: Server, outage: None, tmp_path: Path, trip: int
) -> None:
    """INV-ONCE: leases and watchers that run out meanwhile have owners who could not say that they live. One
    lease later they count."""
    url = postgres_server.url(f"looks_{trip}")
    owner, database = open_store(url), _FreezesAt(url)
    reaper = PostgresStore(database)
    state = cast(
        WorkerState,
        SimpleNamespace(host="host-b", settings=Settings(home=tmp_path, lease_ttl=TTL, attach_ttl=TTL)),
    )
    owner.submit_many([job("leased"), job("watched", pipeline="never")])
    _until(reaper, reaper.steady_since() + TTL)  # it looked on for one lease
    database.asked = 0
    reap._round(reaper, state)
    assert database.asked == TRIPS, "there is no other question"
    owner.attach("watcher", ["watched"], ttl=TTL)
    [claim] = take(owner, by="worker-1", ttl=TTL)
    database.server, database.left = postgres_server, trip
    workers, found, left = reap._round(reaper, state)
    assert database.left == 0, "it was frozen"
    assert (workers, bool(found), left) == ([], False, [])
    thawed = reaper.now()
    assert thawed > (claim.job.lease_expires_at or thawed), "the lease ran out while it was frozen"
    _, found, left = reap._round(reaper, state)
    assert (bool(found), left) == (False, []), "nobody had a moment to say that it lives"
    owner.renew_attachment("watcher", ttl=60)
    _until(reaper, max(thawed, reaper.steady_since()) + TTL)
    _, found, left = reap._round(reaper, state)
    assert (found.requeued, left) == (["leased"], []), "the dead are told from the living one lease later"
    owner.close()
    reaper.close()


def test_a_transaction_that_was_held_up(postgres_server: Server, outage: None) -> None:
    """As every answer that came late."""
    database = _FreezesAt(postgres_server.url("looks_held_up"))
    store = PostgresStore(database)
    store.submit(job("a"))
    before = store.steady_since()
    database.server = postgres_server
    store.submit(job("b"))
    assert store.steady_since() - before > FROZEN - 0.1
    assert state_of(store, "b") is State.QUEUED
    store.close()


@pytest.mark.slow
def test_who_waits_for_a_lock_still_reaps(postgres_server: Server, tmp_path: Path) -> None:
    """INV-LOST: somebody's transaction is in the way of one job again and again. That is no outage: when it
    is over (the server ends it after 10 s) nothing more is waited for."""
    url = postgres_server.url("looks_locked")
    owner, reaper = open_store(url), open_store(url, patience=0.1)
    settings = Settings(home=tmp_path, lease_ttl=TTL)
    owner.submit_many([job("held"), job("free")])
    [first] = take(owner, by="worker-1", ttl=TTL)
    [second] = take(owner, by="worker-1", ttl=TTL + 0.01)
    assert (first.job.id, second.job.id) == ("held", "free")
    _until(reaper, max(reaper.steady_since() + TTL, (second.job.lease_expires_at or 0.0) + 0.01))
    before = reaper.steady_since()
    with psycopg.connect(url) as holder:
        holder.execute("SELECT 1 FROM job WHERE id = 'held' FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="busy"):
            reap_expired(reaper, settings, "host-b")
        assert time.monotonic() - began > 2 * LOCK_TIMEOUT, "it waited more than once"
        assert reaper.steady_since() == before
    assert sorted(reap_expired(reaper, settings, "host-b").requeued) == ["free", "held"]
    owner.close()
    reaper.close()


def test_a_late_answer_says_that_the_server_was_away() -> None:
    """Whenever it was given: the time that it tells may be from before the server froze."""
    watch = ServerClock(None)
    asked_at = since_boot()
    watch.connected(asked_at, 1_000.0, birth=1.0)
    assert watch.steady_since == pytest.approx(1_000.0, abs=0.1)
    watch.answered(since_boot() - OUTAGE + 0.5)
    assert watch.steady_since == pytest.approx(1_000.0, abs=0.1)
    watch.answered(since_boot() - 20.0, 1_000.0)
    assert watch.steady_since == pytest.approx(1_000.0, abs=0.1), "no later than now by the clock's course"
    watch = ServerClock(None)
    watch.connected(since_boot() - 20.0, 1_000.0, birth=1.0)
    assert watch.steady_since == pytest.approx(1_020.0, abs=0.1), "the course is not known better yet"


def test_a_slow_answer_hides_no_jump_of_the_clock() -> None:
    watch = ServerClock(None)
    watch.connected(since_boot(), 1_000.0, birth=1.0)
    watch.answered(since_boot() - 30.0, 1_000.0)  # given at once, or half a minute later
    assert watch.clock_set_at == 0.0
    watch.answered(since_boot(), 1_010.0)
    assert watch.clock_set_at == pytest.approx(1_010.0, abs=0.1)
