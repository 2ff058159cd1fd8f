"""A store that cannot be written for longer than a lease: trees end, units stay, the worker goes on."""

import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from tests.worker.crew import Crew, crew
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program writes to the store and does not come to an end."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def small_disk(where: Path, size: str) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


def fill(ballast: Path) -> None:
    with open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    with pytest.raises(OSError, match="No space"):
        fill(disk / "ballast")
    yield
    (disk / "ballast").unlink()


def outlives(c: Crew, trouble: AbstractContextManager[None]) -> None:
    """INV-LOST, INV-KEEP, INV-ONCE."""
    c.start()
    [worker] = c.workers()
    job_id = c.submit("test-units", {"ledger": str(c.ledger), "count": 5, "hold_at": 3})
    waiting = c.submit("test-note", after=(job_id,))
    wait_until(lambda: len(c.lines()) == 3, 20, "three units")
    wait_until(lambda: c.store.attempts(job_id)[0].pid, 10)
    pid = c.store.attempts(job_id)[0].pid or 0
    with trouble:
        wait_until(lambda: not process_alive(pid), 10, "the tree to end with its lease")
        Path(f"{c.ledger}.go").touch()
    assert c.wait(job_id, timeout=40).state is State.SUCCEEDED
    assert c.wait(waiting, timeout=20).state is State.SUCCEEDED
    assert c.lines() == [*(f"u{n} attempt {1 if n < 3 else 2}" for n in range(5)), waiting]
    first, second = c.store.attempts(job_id)
    assert first.reason is not None
    assert (first.reason.code, second.units_reused) == (ReasonCode.WORKER_LOST, 3)
    assert [w.id for w in c.workers()] == [worker.id], "it was never restarted"
    assert c.store.check() == []
    assert "Traceback" not in c.log()


def test_a_store_that_is_locked_for_longer_than_a_lease(tmp_path: Path) -> None:
    with crew(tmp_path, lease_ttl=3.0, renew_every=0.5) as c:
        outlives(c, locked(tmp_path / "unjam.db"))


def test_a_job_that_is_claimed_after_a_long_wait_runs_under_its_whole_lease(tmp_path: Path) -> None:
    """Counted from before the wait it would be over when it begins."""
    with crew(tmp_path, lease_ttl=2.0, renew_every=1.0) as c:
        c.start()
        c.kill_worker(signal.SIGSTOP)
        job_id = c.submit("test-note")
        with locked(tmp_path / "unjam.db"):
            c.kill_worker(signal.SIGCONT)
            time.sleep(2.5)
        assert c.wait(job_id).state is State.SUCCEEDED
        assert len(c.store.attempts(job_id)) == 1, c.log()


@pytest.mark.root
def test_a_disk_that_is_full_under_the_store_for_longer_than_a_lease(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "8m") as disk,
        crew(disk, work_root=tmp_path / "work", lease_ttl=3.0, renew_every=0.2) as c,
    ):
        c.ledger = tmp_path / "ledger"
        outlives(c, full(disk))
        assert "leases could not be renewed: the disk of the store" in c.log()
        assert "is full: free some space" in c.log()


def test_a_job_that_only_crashes_is_set_aside_while_the_queue_goes_on(tmp_path: Path) -> None:
    """One slot: the poison comes first, is tried with backoff, and holds nobody up."""
    with crew(tmp_path, slots=1) as c:
        c.start()
        poison = c.submit("test-end", {"how": "segfault"}, priority=9)
        notes = [c.submit("test-note") for _ in range(10)]
        for job_id in notes:
            assert c.wait(job_id).state is State.SUCCEEDED
        assert c.job(poison).state is State.QUEUED, "between two tries"
        job = c.wait(poison, timeout=30)
        assert job.reason is not None
        assert (job.state, job.reason.code, job.counters.crashes) == (State.FAILED, ReasonCode.POISON, 3)
        assert "set aside after 3 crashes without progress" in job.reason.message
        assert c.wait(c.submit("test-note")).state is State.SUCCEEDED
        assert len(c.workers()) == 1
