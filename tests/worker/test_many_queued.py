"""Ten thousand queued jobs: a worker starts as if there were ten."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.store.rig import PIPELINES, TTL, SqliteBackend, job, room, worker
from tests.worker.crew import crew
from unjam.jobs.model import NewBatch, NewJob
from unjam.jobs.states import State
from unjam.settings import Settings
from unjam.store.port import JobFilter
from unjam.store.sqlite import SqliteDatabase
from unjam.store.store import SqlStore
from unjam.supervise.identity import identity_of
from unjam.worker.recovery import reap_expired, recover

MANY = 10_000


def instructions(store: SqlStore, action: Callable[[], object]) -> int:
    """Hundreds of steps of SQLite's machine that it takes: exact, whatever else the computer does."""
    database = store._db
    assert isinstance(database, SqliteDatabase)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    database._connection.set_progress_handler(step, 100)
    try:
        action()
    finally:
        database._connection.set_progress_handler(None, 0)
    return steps


def test_what_a_start_asks_of_the_store_does_not_grow_with_what_is_queued(tmp_path: Path) -> None:
    me = identity_of(os.getpid())
    assert me is not None
    this_worker = worker(identity=me.to_json())
    costs = {}
    for count in (10, MANY):
        backend = SqliteBackend(tmp_path / f"{count}.db")
        store = backend.open()
        assert isinstance(store, SqlStore)
        store.submit_many([job(f"job-{i:05}") for i in range(count)])
        settings = Settings(home=tmp_path, lease_ttl=TTL)

        def start(store: SqlStore = store, settings: Settings = settings) -> None:
            store.check_in(this_worker, ttl=TTL)
            recover(store, settings, "host-a")
            store.expire_attachments()
            reap_expired(store, settings, "host-a")
            for _ in range(3):
                [claim] = store.claim(
                    "worker-1", capacity=room(), queues=None, pipelines=PIPELINES, ttl=TTL, limit=1
                )
                store.renew("worker-1", [claim.lease], ttl=TTL)
                store.due("worker-1", host="host-a", queues=None, pipelines=PIPELINES)
                store.requests("worker-1")

        costs[count] = instructions(store, start)
        store.close()
    assert 0 < costs[MANY] <= 1.2 * costs[10] + 2, costs


@pytest.mark.slow
def test_a_worker_that_starts_on_ten_thousand_jobs_works_at_once(tmp_path: Path) -> None:
    with crew(tmp_path, slots=2) as c:
        params = {"ledger": str(c.ledger)}
        many = [NewJob(f"j{i:05}", "test-note", 1, params) for i in range(MANY)]
        c.store.submit_many(many, batch=NewBatch("b", "a folder"))
        c.start()
        wait_until(lambda: len(c.lines()) >= 3, 10, "the first jobs", interval=0.1)
        # Oldest first, two at a time.
        assert set(c.lines()[:3]) <= {f"j{i:05}" for i in range(5)}
        assert c.store.count_by_state(JobFilter())[State.QUEUED] > MANY // 2
