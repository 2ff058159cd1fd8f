"""What a worker does while nothing happens: it looks, and writes nothing. What it hears without a wake-up
call it still hears."""

import sqlite3
import time
from pathlib import Path

from tests.helpers import wait_until
from tests.worker.crew import Crew, crew
from unjam.jobs.states import State


def longest_silence(c: Crew, span: float, within: float) -> float:
    """Seconds without a change of the store by anybody: until `span` of them, or for `within`."""
    connection = sqlite3.connect(c.home / "unjam.db")
    longest, version = 0.0, None
    began = since = time.monotonic()
    while longest < span and time.monotonic() - began < within:
        [now] = connection.execute("PRAGMA data_version").fetchone()
        if now != version:
            version, since = now, time.monotonic()
        longest = time.monotonic() - since
        time.sleep(0.02)
    connection.close()
    return longest


def test_a_job_of_which_nothing_is_new_costs_no_write(tmp_path: Path) -> None:
    """Each is synced to the disk: one a second would keep a laptop's awake for as long as the job sleeps."""
    with crew(tmp_path, renew_every=15.0) as c:
        c.start()
        job = c.submit("test-hang", {})
        c.wait(job, State.RUNNING)
        wait_until(lambda: c.store.attempts(job)[0].containment, 10, "its containment to be told")
        assert longest_silence(c, 4.0, within=14.0) >= 4.0
        found = c.job(job)
        assert found.usage is not None
        assert found.usage["processes"] == 1


def test_a_worker_that_hears_no_calls_looks_by_itself(tmp_path: Path) -> None:
    """A wake-up call is a hint and may be lost: a claim, a cancel and a pause that is withdrawn need none."""
    with crew(tmp_path, poll_every=0.3, grace=2.0) as c:
        c.start(slots=1)
        for socket in (c.home / "run").glob("*.wake"):
            socket.unlink()
        job = c.submit("test-hang", {})
        c.wait(job, State.RUNNING)
        c.store.request_cancel([job], by="a test")
        began = time.monotonic()
        assert c.wait(job).state is State.CANCELLED
        assert time.monotonic() - began < 2.0
        follower = c.submit("test-note")
        assert c.wait(follower).state is State.SUCCEEDED
