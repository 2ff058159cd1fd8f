"""A server is stopped while its kernel still answers: no call hangs for ever, and nothing is done twice."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import Server
from tests.store.rig import TTL, job, state_of, take_one, unit, worker
from unjam.errors import StoreUnavailable
from unjam.jobs.records import Lease
from unjam.jobs.states import State
from unjam.store import Store, open_listener, open_store, pg_connect, pg_wakeup
from unjam.store.pg_batch import Statement
from unjam.store.pg_store import PostgresStore
from unjam.store.port import JobFilter
from unjam.store.postgres import PostgresDatabase

SILENCE = 0.5
CONNECT = 5.0


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pg_connect.Connection, "silence", SILENCE)


CALLS: dict[str, Callable[[Store, Lease], Any]] = {
    "read": lambda s, _: s.list_jobs(JobFilter()),
    "claim": lambda s, _: take_one(s),
    "renew": lambda s, lease: s.renew("worker-1", [lease], ttl=TTL),
    "heartbeat": lambda s, _: s.heartbeat("worker-1", ttl=TTL),
    "commit_unit": lambda s, lease: s.commit_unit(lease, unit()),
    "submit_many": lambda s, _: s.submit_many([job(f"many-{i}") for i in range(2_000)]),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_to_a_frozen_server_is_given_up(postgres_server: Server, short: None, name: str) -> None:
    """And the same store goes on when the server does."""
    store = open_store(postgres_server.url(f"frozen_{name}"), patience=0.1)
    store.check_in(worker(), ttl=TTL)
    store.submit_many([job("a"), job("b")])
    lease = take_one(store).lease
    with postgres_server.frozen():
        began = time.monotonic()
        # A write that went out with its commit is asked about, on a new connection.
        told = "timeout expired" if name == "commit_unit" else f"has not answered for {SILENCE} s"
        with pytest.raises(StoreUnavailable, match=told):
            CALLS[name](store, lease)
        assert time.monotonic() - began < SILENCE + 2 + (CONNECT if name == "commit_unit" else 0)
    CALLS[name](store, lease)
    assert state_of(store, "a") is State.RUNNING
    assert store.check() == []
    store.close()


class _FrozenAtCommit(PostgresDatabase):
    """The server is stopped when the first commit is on its way, and goes on when that was given up."""

    server: Server | None = None
    thaw: threading.Timer | None = None

    def _end_with(self, batch: Sequence[Statement]) -> None:
        if self.server is not None:
            stopped = ExitStack()
            stopped.enter_context(self.server.frozen())
            self.server = None
            self.thaw = threading.Timer(3 * SILENCE, stopped.close)
            self.thaw.start()
        super()._end_with(batch)


def test_a_commit_that_nobody_answered_is_asked_about(postgres_server: Server, short: None) -> None:
    """INV-LOST, INV-DUP: it lay in the server's socket and was done later; the call is told so."""
    database = _FrozenAtCommit(postgres_server.url("frozen_at_commit"))
    store = PostgresStore(database)
    database.server = postgres_server
    assert store.submit(job()).created
    assert database.thaw is not None
    database.thaw.join()
    assert [event.kind for event in store.events_since(0)] == ["submitted"]
    store.close()


def test_a_listener_that_is_just_connecting_holds_nobody_up(postgres_server: Server, tmp_path: Path) -> None:
    """It is closed on the loop of a worker that ends."""
    with postgres_server.frozen():
        listener = open_listener(postgres_server.url("frozen_listener"), tmp_path, "worker-1")
        began = time.monotonic()
        listener.close()
        assert time.monotonic() - began < pg_wakeup.CLOSE_LIMIT + 1
    assert not Path(listener.path).exists()
