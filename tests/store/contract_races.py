"""Real processes at the same store at the same time."""

import itertools
import json
import os
import signal

import pytest

from tests.helpers import wait_until
from tests.store.rig import Backend, job, race, racers, take
from unjam.jobs.model import State
from unjam.store import JobFilter, Store

JOBS = 200


def test_each_job_is_claimed_once(store: Store, backend: Backend) -> None:
    """INV-ONCE."""
    store.submit_many([job(f"job-{i:03}") for i in range(JOBS)])
    with racers(4, backend.url, "claim_all") as processes:
        told = race(processes)
    claimed = [(id, fence) for got in told for id, fence in got]
    assert sorted(claimed) == [(f"job-{i:03}", 1) for i in range(JOBS)]
    assert all(len(store.attempts(f"job-{i:03}")) == 1 for i in range(0, JOBS, 20))
    assert sum(bool(got) for got in told) > 1, "nobody raced"


def test_a_machine_is_never_filled_twice(store: Store, backend: Backend) -> None:
    """INV-LOCK: room for three, four workers that grab for a second."""
    store.submit_many([job(f"job-{i}") for i in range(50)])
    with racers(4, backend.url, "claim_slots") as processes:
        got = list(itertools.chain.from_iterable(race(processes)))
    assert len(got) == 3
    assert len(store.live_jobs("shared")) == 3


def test_the_same_work_is_made_once(store: Store, backend: Backend) -> None:
    """INV-DUP: every loser is told the winner."""
    with racers(4, backend.url, "submit_same") as processes:
        told = race(processes)
    made = {key: f"job-{number}-{key}" for number, one in enumerate(told) for key in one["made"]}
    assert sorted(key for one in told for key in one["made"]) == list(range(20))
    for one in told:
        for key, other in one["others"].items():
            assert other == made[int(key)]
    assert store.count_by_state(JobFilter()) == {State.QUEUED: 20}


@pytest.mark.parametrize("round", range(2))
def test_a_killed_writer_leaves_whole_transactions(store: Store, backend: Backend, round: int) -> None:
    """INV-LOST: kill -9 in the middle of submissions and claims; the store is consistent and goes on."""
    with racers(2, backend.url, "submit_for_ever") as processes:
        assert race(processes) == ["going", "going"]
        wait_until(lambda: store.last_event_id() > 50 + 37 * round, what="some work")
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        for process in processes:
            process.wait()
    assert store.check() == []
    counts: dict[str, int] = {}
    jobs = store.list_jobs(JobFilter(), limit=100_000)
    for found in jobs:
        kind, number, *rest = found.id.split("-")
        if kind == "many":
            counts[f"{number}-{rest[0]}"] = counts.get(f"{number}-{rest[0]}", 0) + 1
    for found in jobs[:200]:
        assert len(store.events_since(0, job_ids=[found.id])) == (1 if found.state is State.QUEUED else 2)
    assert counts
    assert set(counts.values()) == {5}, json.dumps(counts)
    store.submit(job("after"))
    # The others were submitted on the real clock, which is far ahead of this one.
    assert [claim.job.id for claim in take(store, limit=3)] == ["after"]


def test_readers_are_not_held_up_by_a_writer(store: Store, backend: Backend) -> None:
    with racers(1, backend.url, "submit_for_ever") as processes:
        race(processes)
        seen = 0
        for _ in range(200):
            newest = store.list_jobs(JobFilter(), limit=10)[0].seq
            assert newest >= seen
            seen = newest
        assert seen > 1
