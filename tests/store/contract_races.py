"""Real processes at the same store at the same time."""

import itertools
import json
import os
import signal

import pytest

from tests.helpers import wait_until
from tests.store.rig import PAUSED, Backend, job, race, racers, take
from unjam.jobs.states import State
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


def test_the_last_two_a_job_waits_for_end_at_once(store: Store, backend: Backend) -> None:
    """INV-LOST: each end sees what the other satisfied, or is seen by it."""
    for i in range(60):
        store.submit(job(f"a-{i:02}"))
        store.submit(job(f"b-{i:02}", pipeline="faces"))
        store.submit(job(f"down-{i:02}", pipeline="never", after=(f"a-{i:02}", f"b-{i:02}")))
    with racers(2, backend.url, "end_upstream") as processes:
        assert race(processes) == [60, 60]
    assert store.count_by_state(JobFilter(pipeline="never")) == {State.QUEUED: 60}


def test_a_job_is_resumed_while_what_it_waits_for_fails(store: Store, backend: Backend) -> None:
    """INV-LOST: whoever comes first, nobody waits for what has ended."""
    for i in range(60):
        store.submit(job(f"up-{i:02}", pipeline="fails"))
        store.submit(job(f"down-{i:02}", pipeline="never", after=(f"up-{i:02}",)))
    store.request_pause([f"down-{i:02}" for i in range(60)], by="ann", reason=PAUSED)
    with racers(2, backend.url, "resume_or_fail") as processes:
        assert race(processes) == [60, 60]
    assert store.count_by_state(JobFilter(pipeline="never")) == {State.FAILED: 60}


def test_a_reader_of_events_misses_none(store: Store, backend: Backend) -> None:
    """Two write while one reads from a cursor: numbers are given before they can be seen."""
    with racers(3, backend.url, "follow_events") as processes:
        seen = race(processes)[0]
    assert sorted(seen) == sorted(f"job-{number}-{i}" for number in (1, 2) for i in range(100))


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
