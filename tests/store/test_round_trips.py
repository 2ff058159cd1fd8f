"""What each call costs over a network: how often it waits for an answer of the server."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import Server
from tests.store.rig import HOST, PIPELINES, TTL, ending, job, picture, staged, take, take_one, unit, worker
from unjam.jobs.records import Claim
from unjam.jobs.states import State
from unjam.store import Store, open_store
from unjam.store.pg_store import PostgresStore
from unjam.store.postgres import PostgresDatabase

Call = Callable[[Store, Claim], Any]
CALLS: dict[str, tuple[int, Call]] = {
    # A look without a lock, for an idle worker is to disturb nobody; then all the rest under the lock.
    "claim one": (2, lambda s, _: take_one(s)),
    "claim two": (2, lambda s, _: take(s, limit=2)),
    "claim nothing": (1, lambda s, _: take(s, pipelines=["none"])),
    "begin": (1, lambda s, c: s.begin(c.lease, identity="i", pid=7, log_path="/l")),
    "set_containment": (1, lambda s, c: s.set_containment(c.lease, containment="tree", pid=7)),
    "renew": (1, lambda s, c: s.renew("worker-1", [c.lease], ttl=TTL)),
    "renew a lost one": (1, lambda s, c: s.renew("worker-1", [replace(c.lease, fence=9)], ttl=TTL)),
    "heartbeat": (1, lambda s, _: s.heartbeat("worker-1", ttl=TTL)),
    # What it answers depends on what it finds.
    "put_plan": (2, lambda s, c: s.put_plan(c.lease, "encode", "d", {}, host=HOST)),
    "commit_unit": (1, lambda s, c: s.commit_unit(c.lease, unit())),
    "save_progress": (1, lambda s, c: s.save_progress([picture(c.lease)] * 5)),
    "begin_publish": (1, lambda s, c: s.begin_publish(c.lease, [staged()], ending(State.SUCCEEDED, c))),
    "end": (1, lambda s, c: s.end(c.lease, ending(State.SUCCEEDED, c))),
    # Who asked for it is looked at: nobody does any more. Then, as with the next one, workers are poked.
    "end as paused": (3, lambda s, c: s.end(c.lease, ending(State.PAUSED, c))),
    # There is a job to be had again.
    "unlease": (2, lambda s, c: s.unlease(c.lease, ending(State.QUEUED, c))),
    "requests": (1, lambda s, _: s.requests("worker-1")),
    # All that an idle worker asks once a second, but for its reaper.
    "due": (1, lambda s, _: s.due("worker-1", host=HOST, queues=None, pipelines=PIPELINES)),
    "expired": (1, lambda s, _: s.expired(by=1.0)),
    "renew_attachment": (1, lambda s, _: s.renew_attachment("watcher", ttl=TTL)),
}


@pytest.fixture
def store(postgres_server: Server) -> Iterator[PostgresStore]:
    """With the clock of the server, as everywhere but in tests."""
    store = open_store(postgres_server.url("round_trips"))
    assert isinstance(store, PostgresStore)
    yield store
    assert store.check() == []
    store.close()


@pytest.mark.parametrize("name", CALLS)
def test_round_trips(store: PostgresStore, tmp_path: Path, name: str) -> None:
    expected, call = CALLS[name]
    store.check_in(worker(), ttl=TTL)
    store.submit_many([job(f"{name}-{i}") for i in range(4)])
    claim = take_one(store)
    database = store._db
    assert isinstance(database, PostgresDatabase)
    connection = database._connection.pgconn
    with open(tmp_path / "trace", "w") as trace:
        connection.trace(os.dup(trace.fileno()))
        call(store, claim)
        connection.untrace()
    lines = (tmp_path / "trace").read_text().splitlines()
    assert sum("ReadyForQuery" in line for line in lines) == expected, "\n".join(lines)
    for held in store.live_jobs():
        store.end(held.lease, ending(State.FAILED))
    store.request_cancel([one for i in range(4) for one in store.resolve(f"{name}-{i}")], by="ann")
