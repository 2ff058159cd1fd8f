"""Attempts that cannot be killed, and frozen processes of ours, through the whole engine (INV-DEADLINE)."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from tests.supervise.frozen_disk import FrozenDisk, frozen_disk
from tests.worker.crew import RECIPES, Crew, crew
from unjam.jobs.model import Budgets
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import AttemptState, State
from unjam.supervise.sweep import marked_processes
from unjam.worker.attempt import STUCK_SECONDS

MODULES = (RECIPES, "tests.worker.stuck_recipes")
LIMIT, GRACE, KILL_LIMIT = 1.5, 0.3, 2.0


def freeze_one(c: Crew, disk: FrozenDisk) -> str:
    """A job whose attempt is in state D before its limit is over."""
    file = disk.path / "film"
    job_id = c.submit("test-disk", {"path": str(file)}, timeout=LIMIT, budgets=Budgets(failures=1))
    wait_until(lambda: file.exists() and file.stat().st_size, 10, "the job to write")
    disk.freeze()
    wait_until(lambda: "stuck in the kernel" in c.log(), LIMIT + GRACE + KILL_LIMIT + 8, "the report")
    return job_id


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_true_uninterruptible_sleep(tmp_path: Path) -> None:
    """INV-DEADLINE, INV-TRUTH: what no signal ends is fenced, reported and keeps its slot; nothing else waits
    for it. Each scenario has its own disk, store and worker, and waits most of the time: all at once."""
    scenarios: dict[str, Callable[[Crew, FrozenDisk], None]] = {
        "tree": quarantine,
        "pidns": quarantine,
        "drained": drained,
        "hurried": hurried,
        "killed": killed,
    }

    def play(name: str) -> None:
        folder = tmp_path / name
        containment = "pidns" if name == "pidns" else "tree"
        with (
            frozen_disk(folder) as disk,
            crew(folder / "home", pipelines=MODULES, grace=GRACE, containment=containment) as c,
        ):
            c.start(slots=2)
            marks = [worker.mark for worker in c.workers()]
            scenarios[name](c, disk)
            disk.thaw()
            c.stop()
            wait_until(lambda: not any(marked_processes(mark) for mark in marks), 5, "all to be gone")
            assert "internal error" not in c.log()

    with ThreadPoolExecutor(len(scenarios)) as pool:
        assert [told.exception() for told in [pool.submit(play, name) for name in scenarios]] == [None] * 5


def quarantine(c: Crew, disk: FrozenDisk) -> None:
    """Other attempts go on meanwhile; after the thaw all is as before."""
    job_id = freeze_one(c, disk)
    assert "(D)" in c.log()
    assert c.job(job_id).state is State.RUNNING
    assert c.wait(c.submit("test-note"), timeout=10).state is State.SUCCEEDED
    job = c.wait(job_id, timeout=STUCK_SECONDS + 5)
    assert (job.state, job.reason and job.reason.code) == (State.FAILED, ReasonCode.STALLED)
    [attempt] = c.store.attempts(job_id)
    assert attempt.reason is not None
    assert "stuck in the kernel" in attempt.reason.message
    assert c.store.live_jobs() == []
    # One of the two slots is in quarantine.
    folder = c.home
    waits = [c.submit("test-wait", {"folder": str(folder), "name": name}) for name in ("w1", "w2")]
    wait_until(lambda: (folder / "w1").exists(), 10, "the slot that is left")
    note = c.submit("test-note", priority=9)
    looked = c.store.now() + 3 * c.settings.poll_every
    wait_until(lambda: c.store.now() > looked, 5, "the worker to look for work in vain")
    assert c.job(note).state is State.QUEUED
    assert not (folder / "w2").exists()
    disk.thaw()
    wait_until(lambda: (folder / "w2").exists(), 10, "the slot that was in quarantine")
    (folder / "go").touch()
    assert {c.wait(job).state for job in [*waits, note]} == {State.SUCCEEDED}
    assert c.job(job_id).state is State.FAILED


def drained(c: Crew, disk: FrozenDisk) -> None:
    """A worker that is asked to end waits for the quarantine, and not for the kernel."""
    job_id = freeze_one(c, disk)
    c.processes[0].terminate()
    assert c.processes[0].wait(STUCK_SECONDS + 15) == 0, c.log()
    assert c.job(job_id).state is State.FAILED
    c.start(slots=2)
    assert c.wait(c.submit("test-note"), timeout=10).state is State.SUCCEEDED


def hurried(c: Crew, disk: FrozenDisk) -> None:
    """The second signal waits for nothing."""
    job_id = freeze_one(c, disk)
    c.processes[0].terminate()
    wait_until(lambda: "releasing" in c.log(), 5)
    c.processes[0].terminate()
    asked = c.store.now()
    wait_until(lambda: not c.workers(), STUCK_SECONDS / 2, "the worker to leave")
    assert c.store.now() - asked < STUCK_SECONDS / 2
    assert c.job(job_id).state is State.FAILED
    assert c.processes[0].wait(15) == 130


def killed(c: Crew, disk: FrozenDisk) -> None:
    """Its keeper starts the next worker, which takes the job over."""
    job_id = freeze_one(c, disk)
    known = {worker.id for worker in c.workers()}
    c.kill_worker()
    wait_until(lambda: {worker.id for worker in c.workers()} - known, 30, "the next worker")
    wait_until(lambda: c.job(job_id).counters.losses == 1, 20, "the job to be taken over")
    assert c.wait(c.submit("test-note"), timeout=15).state is State.SUCCEEDED


def test_threads_that_a_fork_left_behind(tmp_path: Path) -> None:
    """A hang in C, in a futex, with a handler that can never run: over by limit + grace + 1 s. In a fresh
    interpreter the same code works."""
    with crew(tmp_path / "home", pipelines=MODULES, grace=GRACE) as c:
        c.start()
        forked = c.submit("test-decode-forked", {}, timeout=LIMIT, budgets=Budgets(failures=1))
        job = c.wait(forked)
        assert (job.state, job.reason and job.reason.code) == (State.FAILED, ReasonCode.TIMEOUT)
        [attempt] = c.store.attempts(forked)
        [went] = [e.at for e in c.store.events_since(0, job_ids=[forked]) if e.kind == "started"]
        assert attempt.ended_at is not None
        assert LIMIT + GRACE <= attempt.ended_at - went < LIMIT + GRACE + 1.0
        assert c.wait(c.submit("test-decode-spawned", {})).state is State.SUCCEEDED


def frozen_job(c: Crew, tmp_path: Path, **fields: object) -> tuple[str, int]:
    """A running job and its guardian's number."""
    job_id = c.submit("test-wait", {"folder": str(tmp_path), "name": "runs"}, **fields)
    wait_until((tmp_path / "runs").exists, 10, "the job to run")
    [attempt] = c.store.attempts(job_id)
    assert attempt.pid is not None
    return job_id, attempt.pid


@pytest.mark.parametrize("how", ["limit", "cancel"])
def test_a_frozen_guardian(tmp_path: Path, how: str) -> None:
    """INV-DEADLINE: over by limit + grace + 1 s all the same, and nothing is left."""
    with crew(tmp_path / "home", pipelines=MODULES, grace=0.5) as c:
        c.start()
        [mark] = [worker.mark for worker in c.workers()]
        limit = 2.0 if how == "limit" else None
        job_id, guardian = frozen_job(c, tmp_path, timeout=limit, budgets=Budgets(failures=1))
        os.kill(guardian, signal.SIGSTOP)
        if how == "cancel":
            c.store.request_cancel([job_id], by="a test")
        asked = c.store.now()
        job = c.wait(job_id, timeout=10)
        assert job.state is (State.FAILED if how == "limit" else State.CANCELLED)
        assert job.reason is not None
        assert job.reason.code is (ReasonCode.TIMEOUT if how == "limit" else ReasonCode.CANCELLED_BY_USER)
        [attempt] = c.store.attempts(job_id)
        assert attempt.ended_at is not None
        [went] = [e.at for e in c.store.events_since(0, job_ids=[job_id]) if e.kind == "started"]
        began, allowed = (went, 2.0) if how == "limit" else (asked, c.settings.poll_every)
        assert attempt.ended_at - began < allowed + 0.5 + 1.0
        assert not process_alive(guardian)
        zygotes_and_worker = 4
        assert len(marked_processes(mark)) < zygotes_and_worker


def test_a_frozen_keeper(tmp_path: Path) -> None:
    """Its worker goes on; and when that is killed another worker takes over, without a double run."""
    with crew(tmp_path / "home", pipelines=MODULES, grace=0.5) as c:
        keeper = c.start()
        job_id, guardian = frozen_job(c, tmp_path)
        keeper.send_signal(signal.SIGSTOP)
        try:
            assert c.wait(c.submit("test-note")).state is State.SUCCEEDED
            worker = c.kill_worker()
            wait_until(lambda: not process_alive(guardian), 2, "INV-ORPHAN")
            (tmp_path / "runs").unlink()
            c.start()
            wait_until((tmp_path / "runs").exists, 5, "the job to run again")
            first, second = c.store.attempts(job_id)
            assert first.state is AttemptState.INTERRUPTED
            assert first.ended_at is not None
            assert second.started_at is not None
            assert first.ended_at <= second.started_at
            (tmp_path / "go").touch()
            assert c.wait(job_id).state is State.SUCCEEDED
            assert not process_alive(worker)
            known = {one.id for one in c.workers()}
        finally:
            keeper.send_signal(signal.SIGCONT)
        wait_until(lambda: {one.id for one in c.workers()} - known, 10, "the thawed keeper's next worker")
        assert c.wait(c.submit("test-note")).state is State.SUCCEEDED
        c.stop()
        assert [process.returncode for process in c.processes] == [0, 0]
