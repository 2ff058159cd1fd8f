"""The worker as its users meet it: real processes, a real store, real kill -9."""

import fcntl
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from tests.worker.crew import ROOT, Crew, crew
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.states import AttemptState, OnExists, State
from unjam.store.port import JobFilter

UNITS = "test-units"


def unit_params(c: Crew, **changes: object) -> dict[str, object]:
    return {"ledger": str(c.ledger), **changes}


def test_a_job_runs_and_says_what_it_did(tmp_path: Path) -> None:
    with crew(tmp_path) as c:
        c.start()
        job = c.wait(c.submit("test-note"))
        assert job.state is State.SUCCEEDED
        assert job.reason == Reason(ReasonCode.OK, "done")
        assert c.lines() == [job.id]
        [attempt] = c.store.attempts(job.id)
        assert attempt.state is AttemptState.SUCCEEDED
        assert attempt.identity is not None
        assert attempt.containment in ("pidns", "tree")
        assert attempt.log_path is not None
        assert "test-note" in Path(attempt.log_path).read_text()
        kinds = [e.kind for e in c.store.events_since(0, job_ids=[job.id])]
        assert kinds[0] == "submitted"
        assert "claimed" in kinds


def test_an_output_appears_whole_with_its_manifest_and_is_skipped_next_time(tmp_path: Path) -> None:
    """INV-TORN and the skip: the second job starts no process."""
    output = tmp_path / "out" / "result.txt"
    with crew(tmp_path / "home") as c:
        c.start()
        job = c.wait(c.submit(UNITS, unit_params(c), output=output))
        assert job.state is State.SUCCEEDED
        assert output.read_bytes() == b"0\n1\n2\n3\n4\n"
        assert sorted(p.name for p in output.parent.iterdir()) == ["result.txt", "result.txt.unjam.json"]
        wait_until(lambda: not (c.settings.work_root / job.id).exists(), 5, "its work to be dropped")
        [media, manifest] = c.store.artifacts(job.id)
        assert (media.path, media.size_bytes) == (str(output), 10)
        assert manifest.kind == "manifest"

        again = c.wait(c.submit(UNITS, unit_params(c), output=output))
        assert again.state is State.SKIPPED
        assert len(c.lines()) == 5
        assert c.store.attempts(again.id)[0].log_path is None

        output.write_bytes(b"0\n1\n2\n3\nX\n")
        refused = c.wait(c.submit(UNITS, unit_params(c), output=output))
        assert refused.state is State.FAILED
        assert refused.reason is not None
        assert refused.reason.code is ReasonCode.OUTPUT_EXISTS
        assert output.read_bytes() == b"0\n1\n2\n3\nX\n"

        replaced = c.wait(c.submit(UNITS, unit_params(c), output=output, on_exists=OnExists.REPLACE))
        assert replaced.state is State.SUCCEEDED
        assert output.read_bytes() == b"0\n1\n2\n3\n4\n"

        renamed = c.wait(
            c.submit(UNITS, unit_params(c, revision=2), output=output, on_exists=OnExists.RENAME)
        )
        assert renamed.state is State.SUCCEEDED
        assert (output.parent / "result (2).txt").read_bytes() == output.read_bytes()


def test_a_killed_worker_is_restarted_and_no_unit_is_done_twice(tmp_path: Path) -> None:
    """INV-KEEP, INV-LOST, INV-ORPHAN: kill -9 of the worker in the middle; the keeper starts another."""
    output = tmp_path / "out" / "result.txt"
    with crew(tmp_path / "home") as c:
        c.start()
        job_id = c.submit(UNITS, unit_params(c, count=6, hold_at=3), output=output)
        wait_until(lambda: len(c.lines()) == 3, 20, "three units")
        attempt = wait_until(lambda: c.store.attempts(job_id)[-1].pid, 5) or 0
        killed = c.kill_worker()
        wait_until(lambda: not process_alive(killed) and not process_alive(attempt), 2, "the tree to be gone")
        (c.home / "ledger.go").touch()
        job = c.wait(job_id)
        assert job.state is State.SUCCEEDED
        assert c.lines() == [f"u{i} attempt {1 if i < 3 else 2}" for i in range(6)]
        first, second = c.store.attempts(job_id)
        assert (first.state, second.state) == (AttemptState.INTERRUPTED, AttemptState.SUCCEEDED)
        assert second.units_reused == 3
        assert output.read_bytes() == b"0\n1\n2\n3\n4\n5\n"


def test_a_unit_whose_file_is_gone_is_done_again(tmp_path: Path) -> None:
    """A row without its file is void: it is made and committed anew, the others are kept."""
    output = tmp_path / "out" / "result.txt"
    with crew(tmp_path / "home") as c:
        c.start()
        job_id = c.submit(UNITS, unit_params(c, hold_at=3), output=output)
        wait_until(lambda: len(c.lines()) == 3, 20, "three units")
        [lost] = [u.uri for u in c.store.units(job_id) if u.name == "u1"]
        Path(lost or "").unlink()
        c.kill_worker()
        (c.home / "ledger.go").touch()
        assert c.wait(job_id).state is State.SUCCEEDED
        assert [line.split()[0] for line in c.lines()] == ["u0", "u1", "u2", "u1", "u3", "u4"]
        assert output.read_bytes() == b"0\n1\n2\n3\n4\n"


def test_a_worker_that_is_still_starting_dies_with_its_keeper(tmp_path: Path) -> None:
    """INV-ORPHAN: it watches nothing yet, and would go on to its first claim."""
    told = tmp_path / "pid"
    (tmp_path / "slow_to_import.py").write_text(
        f"import os, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(50)\n"
    )
    with crew(tmp_path / "home", pipelines=("slow_to_import",)) as c:
        keeper = c.start(wait=False, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
        worker = int(wait_until(lambda: told.exists() and told.read_text(), 20, "a worker that starts"))
        keeper.kill()
        wait_until(lambda: not process_alive(worker), 2, "its end")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_jobs_back_at_once(tmp_path: Path, number: int) -> None:
    """The worker drains (INV-DRAIN): the job is queued with its units, no lock is left (INV-LOCK)."""
    with crew(tmp_path) as c:
        keeper = c.start()
        job_id = c.submit(UNITS, unit_params(c, hold_at=2))
        wait_until(lambda: len(c.lines()) == 2, 20, "two units")
        keeper.send_signal(number)
        assert keeper.wait(10) == 0, c.log()
        job = c.job(job_id)
        assert (job.state, job.lease_expires_at, job.worker_id) == (State.QUEUED, None, None)
        assert c.workers() == []
        assert "releasing" in c.log()
        (c.home / "ledger.go").touch()
        c.start()
        assert c.wait(job_id).state is State.SUCCEEDED
        assert [line.split()[0] for line in c.lines()] == ["u0", "u1", "u2", "u3", "u4"]


def test_the_second_signal_kills_at_once(tmp_path: Path) -> None:
    with crew(tmp_path) as c:
        c.settings = replace(c.settings, grace=60.0)
        keeper = c.start()
        job_id = c.submit("test-hang", {"how": "native", "pid_file": str(tmp_path / "pid")})
        wait_until((tmp_path / "pid").exists, 20)
        keeper.send_signal(signal.SIGINT)
        wait_until(lambda: "releasing" in c.log(), 5)
        keeper.send_signal(signal.SIGINT)
        assert keeper.wait(5) == 130, c.log()
        assert c.job(job_id).state is State.QUEUED
        assert "again: killing" in c.log()


def test_cancel_ends_native_code_that_ignores_term(tmp_path: Path) -> None:
    """INV-TRUTH, P7: cancelled only when the tree is gone, within grace + 1 s."""
    with crew(tmp_path) as c:
        c.start()
        job_id = c.submit("test-hang", {"how": "native", "pid_file": str(tmp_path / "pid")})
        pid = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 20))
        assert pid > 0
        [outcome] = c.store.request_cancel([job_id], by="a test")
        assert outcome.state is State.CANCELLING
        job = c.wait(job_id, timeout=c.settings.grace + 3)
        assert job.state is State.CANCELLED
        assert job.reason is not None
        assert job.reason.code is ReasonCode.CANCELLED_BY_USER
        guardian = c.store.attempts(job_id)[-1].pid
        assert guardian is not None
        assert not process_alive(guardian)


def test_pause_waits_for_the_unit_and_resume_goes_on(tmp_path: Path) -> None:
    with crew(tmp_path) as c:
        c.start()
        job_id = c.submit(UNITS, unit_params(c, count=40, seconds=0.1))
        wait_until(lambda: len(c.lines()) >= 3, 20)
        c.store.request_pause([job_id], by="a test", reason=Reason(ReasonCode.INTERRUPTED, "a test"))
        job = c.wait(job_id, State.PAUSED, *[s for s in State if s.value in ("succeeded", "failed")])
        assert job.state is State.PAUSED
        done = c.lines()
        assert 3 <= len(done) < 40
        c.store.resume([job_id], by="a test", fresh_budgets=False)
        assert c.wait(job_id).state is State.SUCCEEDED
        names = [line.split()[0] for line in c.lines()]
        assert names == [f"u{i}" for i in range(40)]


@pytest.mark.parametrize(
    ("how", "code", "attempts"),
    [
        ("error", ReasonCode.INTERNAL_ERROR, 1),
        ("input_bad", ReasonCode.INPUT_BAD, 1),
        ("disk_full", ReasonCode.DISK_FULL, 1),
        ("segfault", ReasonCode.CRASHED, 1),
        ("exit", ReasonCode.CRASHED, 1),
    ],
)
def test_bad_ends_have_a_code_and_a_sentence(
    tmp_path: Path, how: str, code: ReasonCode, attempts: int
) -> None:
    with crew(tmp_path) as c:
        c.start()
        job_id = c.submit("test-end", {"how": how})
        wait_until(lambda: any(a.reason for a in c.store.attempts(job_id)), 20)
        first = c.store.attempts(job_id)[0]
        assert first.state is AttemptState.FAILED
        assert first.reason is not None
        assert first.reason.code is code
        assert first.reason.message
        job = c.job(job_id)
        if code in (ReasonCode.INPUT_BAD, ReasonCode.DISK_FULL):
            assert job.state is State.FAILED
        else:
            assert job.state in (State.QUEUED, State.RUNNING)  # tried again after the backoff
            assert job.run_at > first.ended_at if first.ended_at and job.state is State.QUEUED else True


def test_a_timeout_holds_against_native_code(tmp_path: Path) -> None:
    """INV-DEADLINE: over by limit + grace + 1 s."""
    with crew(tmp_path) as c:
        c.start()
        job_id = c.submit("test-hang", {"how": "native"}, timeout=1.0)
        wait_until(lambda: c.store.attempts(job_id) and c.store.attempts(job_id)[0].ended_at, 20)
        first = c.store.attempts(job_id)[0]
        assert first.reason is not None
        assert first.reason.code is ReasonCode.TIMEOUT
        assert first.ended_at is not None
        assert first.started_at is not None
        assert first.ended_at - first.started_at < 1.0 + c.settings.grace + 1.0 + 1.0


def test_a_stall_is_seen_from_evidence(tmp_path: Path) -> None:
    """INV-STALL: alive, heartbeating, not advancing."""
    with crew(tmp_path) as c:
        c.start()
        job_id = c.submit("test-hang", {"how": "sleep"}, stall_after=2.0)
        wait_until(lambda: any(a.reason for a in c.store.attempts(job_id)), 20)
        first = c.store.attempts(job_id)[0]
        assert first.reason is not None
        assert first.reason.code is ReasonCode.STALLED
        assert "no new progress for" in first.reason.message


def test_a_memory_limit_is_kept_and_told(tmp_path: Path) -> None:
    with crew(tmp_path) as c:
        c.start()
        job_id = c.submit("test-memory", {"size": 400 << 20}, memory_bytes=150 << 20)
        wait_until(lambda: any(a.reason for a in c.store.attempts(job_id)), 30)
        first = c.store.attempts(job_id)[0]
        assert first.reason is not None
        assert first.reason.code is ReasonCode.MEMORY
        assert "of 157 MB" in first.reason.message
        assert (first.peak_rss_bytes or 0) > 100 << 20


def test_a_frozen_worker_loses_its_leases_and_its_trees(tmp_path: Path) -> None:
    """INV-ONCE, INV-FENCE: SIGSTOP of the worker; its guardians end the trees before another may claim."""
    with crew(tmp_path, lease_ttl=4.0, renew_every=0.5) as c:
        c.start()
        job_id = c.submit(UNITS, unit_params(c, hold_at=2))
        wait_until(lambda: len(c.lines()) == 2, 20)
        frozen = c.kill_worker(signal.SIGSTOP)
        try:
            (c.home / "ledger.go").touch()
            c.start()
            job = c.wait(job_id, timeout=30)
            assert job.state is State.SUCCEEDED
        finally:
            os.kill(frozen, signal.SIGCONT)
        names = [line.split()[0] for line in c.lines()]
        assert sorted(names) == names == [f"u{i}" for i in range(5)]


def test_a_second_worker_touches_nothing_of_a_busy_first(tmp_path: Path) -> None:
    """INV-STRANGER: the sweep at start spares every living worker's jobs."""
    with crew(tmp_path) as c:
        c.start()
        job_id = c.submit(UNITS, unit_params(c, hold_at=2))
        wait_until(lambda: len(c.lines()) == 2, 20)
        guardian = c.store.attempts(job_id)[0].pid
        c.start()
        other = c.wait(c.submit("test-note"))
        assert other.state is State.SUCCEEDED
        assert guardian is not None
        assert process_alive(guardian)
        (c.home / "ledger.go").touch()
        assert c.wait(job_id).state is State.SUCCEEDED
        assert len(c.store.attempts(job_id)) == 1


def test_a_token_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with crew(tmp_path, slots=4) as c:
        c.start()
        c.start()
        jobs = [c.submit("test-token") for _ in range(6)]
        for job_id in jobs:
            assert c.wait(job_id, timeout=30).state is State.SUCCEEDED
        lines = [line.split() for line in c.lines()]
        assert [word for word, _ in lines] == ["in", "out"] * 6
        assert all(lines[i][1] == lines[i + 1][1] for i in range(0, 12, 2))


def test_a_job_that_waits_for_a_token_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """Its end must not wait for whoever holds the token: that may take hours."""
    with crew(tmp_path) as c:
        (c.home / "tokens").mkdir()
        with open(c.home / "tokens" / "gpu.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            c.start()
            job_id = c.submit("test-token")
            wait_until(lambda: c.job(job_id).message == "waiting for gpu", 20, "the wait to be told")
            c.store.request_cancel([job_id], by="a test")
            assert c.wait(job_id, timeout=c.settings.grace + 3).state is State.CANCELLED
        assert c.lines() == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_four_workers_share_600_jobs(tmp_path: Path) -> None:
    """INV-ONCE: each job is done once, by count of lines and by events, and every worker does its share."""
    with crew(tmp_path, slots=4) as c:
        # The barrier: all four are there before the queue opens.
        c.store.pause_queue("default", by="a test")
        jobs = [c.submit("test-note") for _ in range(600)]
        for _ in range(4):
            c.start()
        c.store.resume_queue("default")
        wait_until(lambda: c.store.count_by_state(JobFilter()) == {State.SUCCEEDED: 600}, 120, "all done")
        assert sorted(c.lines()) == sorted(jobs)
        claims = [e for e in c.store.events_since(0, limit=9000) if e.kind == "claimed"]
        assert len(claims) == 600
        shares: dict[str, int] = {}
        for event in claims:
            shares[event.data["worker_id"]] = shares.get(event.data["worker_id"], 0) + 1
        assert len(shares) == 4, shares
        # Of 200 the first whose zygote was up did 164: the others were still importing when all was done.
        assert min(shares.values()) >= 60, shares


def test_a_bug_in_the_worker_ends_the_attempt_with_its_reason(tmp_path: Path) -> None:
    """INV-LOST: not left to its lease, to come round again and again without a reason."""
    with crew(tmp_path) as c:
        c.start()
        # No front end lets such a limit through; the worker stumbles over it.
        job_id = c.submit("test-note", timeout=-1.0)
        wait_until(lambda: any(a.reason for a in c.store.attempts(job_id)), 10)
        first = c.store.attempts(job_id)[0]
        assert first.reason is not None
        assert first.reason.code is ReasonCode.INTERNAL_ERROR
        assert "deadline must be positive" in first.reason.message
        assert c.wait(c.submit("test-note")).state is State.SUCCEEDED


def test_a_worker_that_was_forgotten_by_mistake_checks_in_again(tmp_path: Path) -> None:
    """INV-TRUTH: without its row nobody would see that it lives (a store restored from a backup)."""
    with crew(tmp_path, lease_ttl=3.0, renew_every=0.3) as c:
        process = c.start()
        [before] = c.workers()
        c.store.forget_worker(before.id)
        wait_until(lambda: [w.id for w in c.workers()] == [before.id], 10, "it to check in again")
        assert c.wait(c.submit("test-note")).state is State.SUCCEEDED
        assert process.poll() is None
        assert "internal error" not in c.log()


def test_a_pause_withdrawn_in_time_stops_nothing(tmp_path: Path) -> None:
    """INV-KEEP: the attempt that waited for its next unit to pause there goes on and does them all."""
    with crew(tmp_path, grace=30.0) as c:
        c.start()
        job_id = c.submit("test-units", {"ledger": str(c.ledger), "count": 3, "hold_at": 1})
        wait_until(lambda: c.lines() == ["u0 attempt 1"], 20, "the first unit")
        c.store.request_pause([job_id], by="a test", reason=Reason(ReasonCode.INTERRUPTED, "paused"))
        wait_until(lambda: "pausing at its next finished unit" in c.log(), 10)
        c.store.resume([job_id], by="a test", fresh_budgets=False)
        wait_until(lambda: "the pause was withdrawn" in c.log(), 10)
        Path(f"{c.ledger}.go").touch()
        assert c.wait(job_id).state is State.SUCCEEDED
        assert c.lines() == [f"u{n} attempt 1" for n in range(3)]


def test_a_pause_withdrawn_too_late_for_its_attempt_costs_one_more(tmp_path: Path) -> None:
    """INV-LOST: the tree was being ended already; the job is queued at once and goes on from its units."""
    with crew(tmp_path, grace=5.0) as c:
        c.start()
        job_id = c.submit("test-hang", {"how": "native"})
        wait_until(lambda: c.job(job_id).progress > 0, 20, "it to hang")
        c.store.request_pause([job_id], by="a test", reason=Reason(ReasonCode.INTERRUPTED, "paused"))
        wait_until(lambda: "pausing" in c.log(), 10)
        c.store.resume([job_id], by="a test", fresh_budgets=False)
        wait_until(lambda: len(c.store.attempts(job_id)) == 2, 20, "the next attempt")
        assert "paused" not in [e.state_to for e in c.store.events_since(0, job_ids=[job_id])]
        c.store.request_cancel([job_id], by="a test")
        c.wait(job_id)
