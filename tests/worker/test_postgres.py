"""Workers over a store in PostgreSQL: what they do over SQLite, and what only a server can do to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from tests.postgres import Server
from tests.worker.crew import Crew, crew
from unjam.jobs.model import Needs
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import AttemptState, State
from unjam.store.port import JobFilter

UNITS = "test-units"


@pytest.fixture
def url(postgres_server: Server, request: pytest.FixtureRequest) -> str:
    return postgres_server.url(request.node.name.partition("[")[0])


def params(c: Crew, **changes: object) -> dict[str, object]:
    return {"ledger": str(c.ledger), **changes}


def test_a_killed_worker_is_restarted_and_no_unit_is_done_twice(tmp_path: Path, url: str) -> None:
    """INV-KEEP, INV-LOST, INV-ORPHAN."""
    output = tmp_path / "out" / "result.txt"
    with crew(tmp_path / "home", store=url) as c:
        c.start()
        job_id = c.submit(UNITS, params(c, count=6, hold_at=3), output=output)
        wait_until(lambda: len(c.lines()) == 3, 20, "three units")
        attempt = wait_until(lambda: c.store.attempts(job_id)[-1].pid, 5) or 0
        killed = c.kill_worker()
        wait_until(lambda: not process_alive(killed) and not process_alive(attempt), 2, "the tree to be gone")
        (c.home / "ledger.go").touch()
        assert c.wait(job_id).state is State.SUCCEEDED, c.log()
        assert c.lines() == [f"u{i} attempt {1 if i < 3 else 2}" for i in range(6)]
        first, second = c.store.attempts(job_id)
        assert (first.state, second.state) == (AttemptState.INTERRUPTED, AttemptState.SUCCEEDED)
        assert second.units_reused == 3
        assert output.read_bytes() == b"0\n1\n2\n3\n4\n5\n"


def test_workers_are_woken_over_the_server(tmp_path: Path, url: str) -> None:
    """LISTEN and NOTIFY: with a poll of half a minute a job starts, and a cancel arrives, at once."""
    with crew(tmp_path, store=url, poll_every=30.0) as c:
        c.start()
        wait_until(lambda: "ready" in c.log(), 20, "the worker to be ready")
        assert c.wait(c.submit("test-note"), timeout=5).state is State.SUCCEEDED
        job_id = c.submit("test-hang", {"how": "native", "pid_file": str(tmp_path / "pid")})
        wait_until((tmp_path / "pid").exists, 5, "the job to start")
        c.store.request_cancel([job_id], by="a test")
        assert c.wait(job_id, timeout=c.settings.grace + 4).state is State.CANCELLED


def test_a_frozen_worker_loses_its_leases_and_its_trees(tmp_path: Path, url: str) -> None:
    """INV-ONCE, INV-FENCE: and a worker that has just come waits one TTL before it reaps."""
    with crew(tmp_path, store=url, lease_ttl=3.0, renew_every=0.5) as c:
        c.start()
        job_id = c.submit(UNITS, params(c, hold_at=2))
        wait_until(lambda: len(c.lines()) == 2, 20)
        frozen = c.kill_worker(signal.SIGSTOP)
        (c.home / "ledger.go").touch()
        try:
            c.start()
            assert c.wait(job_id, timeout=30).state is State.SUCCEEDED
            assert [line.split()[0] for line in c.lines()] == [f"u{i}" for i in range(5)]
            assert c.job(job_id).counters.losses == 1
        finally:
            os.kill(frozen, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_server_stopped_and_started_ten_times_under_load(tmp_path: Path, own_server: Server) -> None:
    """INV-LOST, INV-ONCE, INV-KEEP: nothing lost, doubled or reaped wrongly. Every other stop is a crash."""
    stops = 10
    with crew(tmp_path, store=own_server.url("load"), slots=4) as c:
        c.start()
        c.start()
        units = [c.submit(UNITS, params(c, count=40, seconds=0.2)) for _ in range(3)]
        notes: list[str] = []
        for stop in range(stops):
            notes += [c.submit("test-note") for _ in range(10)]
            done = len(c.lines())
            wait_until(lambda done=done: len(c.lines()) > done + 3, 30, "work to be done")  # type: ignore[misc]
            own_server.stop(signal.SIGQUIT if stop % 2 else signal.SIGINT)
            own_server.start()
        everything = {State.SUCCEEDED: len(units) + len(notes)}
        wait_until(lambda: c.store.count_by_state(JobFilter()) == everything, 90, "all done")
        assert c.store.check() == []
        attempts = {job_id: c.store.attempts(job_id) for job_id in units + notes}
        log = c.log()
        assert {job_id: len(tried) for job_id, tried in attempts.items() if len(tried) != 1} == {}, log
        assert all(c.job(job_id).counters.losses == 0 for job_id in units + notes), log
        lines = c.lines()
        assert sorted(line for line in lines if line in notes) == sorted(notes)
        assert len(lines) == len(notes) + 40 * len(units)


@contextmanager
def away(server: Server, how: str) -> Iterator[None]:
    """No answer from the server in this block."""
    if how == "frozen":
        with server.frozen():
            yield
    else:
        server.stop()
        yield
        server.start()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_an_outage_longer_than_a_lease(tmp_path: Path, own_server: Server, how: str) -> None:
    """The attempts end with their leases, their units are kept, and all goes on when the server is back.
    A frozen server (SIGSTOP) keeps its connections and says nothing."""
    with crew(tmp_path, store=own_server.url("outage"), lease_ttl=3.0, renew_every=0.5) as c:
        c.start()
        job_id = c.submit(UNITS, params(c, hold_at=3))
        wait_until(lambda: len(c.lines()) == 3, 20, "three units")
        pid = c.store.attempts(job_id)[0].pid or 0
        with away(own_server, how):
            wait_until(lambda: not process_alive(pid), 8, "the tree to end with its lease")
            (c.home / "ledger.go").touch()
        job = c.wait(job_id, timeout=40)
        assert job.state is State.SUCCEEDED
        assert [line.split()[0] for line in c.lines()] == [f"u{i}" for i in range(5)]
        first = c.store.attempts(job_id)[0]
        assert first.reason is not None
        assert first.reason.code is ReasonCode.WORKER_LOST


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_ended_while_the_server_was_frozen_is_not_reaped(tmp_path: Path, own_server: Server) -> None:
    """INV-ONCE: it was frozen for longer than a lease, and three workers look for leases that ran out.
    INV-LOST: what a machine held that died meanwhile is free one lease later."""
    ttl, frozen = 3.0, 9.0
    with crew(tmp_path, store=own_server.url("frozen"), lease_ttl=ttl, renew_every=0.5, slots=2) as c:
        other = c.start(keeper=False, slots=1, env={"UNJAM_HOST_ID": "another-machine"})
        lost = c.submit("test-wait")
        wait_until((c.home / f"ledger.{lost}").exists, 20)
        for _ in range(3):
            c.start()
        ended = [c.submit("test-wait", needs=Needs(cpu=0)) for _ in range(6)]
        for job_id in ended:
            wait_until((c.home / f"ledger.{job_id}").exists, 20)
        other.kill()
        other.wait()
        with own_server.frozen():
            thaw_at = time.monotonic() + frozen
            (c.home / "ledger.go").touch()
            wait_until(lambda: len(c.lines()) == len(ended), ttl - 0.5, "the attempts to end")
            wait_until(lambda: time.monotonic() > thaw_at, frozen + 1, "the leases to run out, and some more")
        thawed = c.store.now()
        for job_id in [*ended, lost]:
            assert c.wait(job_id).state is State.SUCCEEDED
        assert [len(c.store.attempts(job_id)) for job_id in ended] == [1] * len(ended), c.log()
        first, second = c.store.attempts(lost)
        assert first.reason is not None
        assert first.reason.code is ReasonCode.WORKER_LOST
        assert second.started_at is not None
        assert ttl - 1 < second.started_at - thawed < ttl + 4


def unjam(tmp_path: Path, url: str, *words: str) -> "subprocess.CompletedProcess[str]":
    home = {"UNJAM_HOME": str(tmp_path / "home"), "UNJAM_STORE": url}
    command = [str(Path(sys.executable).with_name("unjam")), *words]
    return subprocess.run(
        command, env={**os.environ, **home}, cwd=tmp_path, capture_output=True, text=True, timeout=50
    )


def test_the_command_line_over_postgresql(tmp_path: Path, url: str) -> None:
    """A foreground run with a worker of its own, and those who look."""
    ran = unjam(tmp_path, url, "exec", "--", "sh", "-c", "echo done >> done")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "done").read_text() == "done\n"
    for words in (
        ["ls"],
        ["show", "@last"],
        ["queues"],
        ["workers"],
        ["locks"],
        ["recover"],
        ["db", "check"],
    ):
        looked = unjam(tmp_path, url, *words)
        assert looked.returncode == 0, looked.stderr
    assert "succeeded" in unjam(tmp_path, url, "ls").stdout
    assert not (tmp_path / "home" / "unjam.db").exists()


@pytest.mark.parametrize("words", [["ls"], ["exec", "--", "true"], ["worker"], ["db", "check"]])
def test_a_server_that_is_not_there_is_exit_code_7(tmp_path: Path, words: list[str]) -> None:
    told = unjam(tmp_path, "postgresql://ann:secret@localhost:1/jobs", *words)
    assert told.returncode == 7, told.stderr
    assert "cannot be reached" in told.stderr
    assert "secret" not in told.stderr
