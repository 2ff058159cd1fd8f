"""Who holds what, and how it is freed, on a store where one owner was killed and another lives."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.screen import parent_of
from tests.e2e.shell import Shell
from tests.helpers import process_alive, wait_until
from unjam.supervise.identity import Identity

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, slots="2", containment="tree") as made:
        made.run("ls")  # makes the store, which the tests look into
        yield made


@dataclass(frozen=True, slots=True)
class Crew:
    """A worker under its keeper, busy with one job."""

    keeper: int
    worker: int
    worker_id: str
    job: str
    job_pid: int
    log: Path

    def kill(self) -> None:
        os.kill(self.keeper, signal.SIGKILL)
        os.kill(self.worker, signal.SIGKILL)


@contextmanager
def busy(shell: Shell, name: str) -> Iterator[Crew]:
    """`unjam worker -j 1` with a job that holds until the file NAME.go exists."""
    with shell.store() as store:
        known = {worker.id for worker in store.workers()}
        log = shell.root / f"{name}.log"
        with log.open("wb") as out:
            process = shell.start("worker", "-j", "1", stdout=subprocess.DEVNULL, stderr=out)
        new = wait_until(lambda: [w for w in store.workers() if w.id not in known], 20, "the worker")[0]
    worker = Identity.from_json(new.identity).pid
    script = f"echo $$ > {name}.pid; while [ ! -e {name}.go ]; do sleep 0.1; done"
    job = shell.run("exec", "--detach", "--name", name, "--", "sh", "-c", script).out.strip()
    marker = shell.cwd / f"{name}.pid"
    pid = int(wait_until(lambda: marker.exists() and marker.read_text().strip(), 20, f"{name} to run"))
    try:
        yield Crew(parent_of(worker), worker, new.id, job, pid, log)
    finally:
        process.terminate()
        process.wait(20)


def locks(shell: Shell) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in shell.run("locks", "--json").lines}


def test_only_what_the_dead_held_is_freed(shell: Shell) -> None:
    """INV-LOCK, INV-STRANGER. The living worker is frozen, so that it is `recover` that does the work."""
    with busy(shell, "first") as dead, busy(shell, "second") as alive:
        os.kill(alive.worker, signal.SIGSTOP)
        try:
            dead.kill()
            wait_until(lambda: not process_alive(dead.job_pid), 2, "the end of what the dead worker ran")
            assert {key: row["holder_is"] for key, row in locks(shell).items()} == {
                dead.job: "dead",
                alive.job: "alive",
            }
            table = shell.run("locks").out
            assert dead.worker_id in table
            assert str(dead.worker) in table
            assert shell.run("locks", "release", alive.job).code == 4
            said = shell.run("recover")
            assert said.out == f"{dead.job} queued again\n"
            assert f"left alone: {alive.job}: its owner lives" in said.err
            assert shell.show(dead.job)["state"] == "queued"
            assert list(locks(shell)) == [alive.job]
            assert shell.run("recover").err.count("nothing to recover") == 1
            assert process_alive(alive.job_pid)
        finally:
            os.kill(alive.worker, signal.SIGCONT)
        (shell.cwd / "second.go").touch()
        (shell.cwd / "first.go").touch()
        assert shell.run("wait", dead.job, alive.job).code == 0
        assert len(shell.show(alive.job)["attempts"]) == 1
        assert len(shell.show(dead.job)["attempts"]) == 2


def test_a_living_worker_frees_what_the_dead_one_held_by_itself(shell: Shell) -> None:
    """INV-LOST: nobody types anything, and nobody waits for the lease to run out."""
    with busy(shell, "first") as dead, busy(shell, "second") as alive:
        dead.kill()
        wait_until(lambda: shell.show(dead.job)["state"] == "queued", 6, "the job to be free")
        assert process_alive(alive.job_pid)
        assert list(locks(shell)) == [alive.job]
        (shell.cwd / "second.go").touch()
        (shell.cwd / "first.go").touch()
        assert shell.run("wait", dead.job, alive.job).code == 0


def test_force_takes_from_the_living_and_what_it_ran_ends(shell: Shell) -> None:
    """INV-FENCE: the first attempt is fenced at once and its tree ends; a second one does the work."""
    with busy(shell, "first") as owner:
        assert shell.run("recover").out == ""
        forced = shell.run("locks", "release", owner.job, "--force")
        assert forced.code == 0
        assert forced.out == f"{owner.job}: 1 queued again\n"
        wait_until(lambda: not process_alive(owner.job_pid), 5, "the end of the fenced attempt")
        assert process_alive(owner.worker)
        (shell.cwd / "first.go").touch()
        assert shell.run("wait", owner.job).code == 0
        job = shell.show(owner.job)
        assert [a["state"] for a in job["attempts"]] == ["interrupted", "succeeded"]


def test_a_second_worker_touches_nothing_of_the_first(shell: Shell) -> None:
    with busy(shell, "first") as first:
        before = shell.show(first.job)["attempts"]
        tree = {pid for pid in shell.processes() if parent_of(pid) in (first.keeper, first.worker)}
        with busy(shell, "second") as second:
            assert shell.run("recover").err.count("nothing to recover") == 1
            assert "recovered" not in second.log.read_text()
            assert all(process_alive(pid) for pid in (first.keeper, first.worker, first.job_pid, *tree))
            after = shell.show(first.job)["attempts"]
            assert [(a["number"], a["fence"], a["ended_at"]) for a in after] == [
                (a["number"], a["fence"], a["ended_at"]) for a in before
            ]
            second.kill()
            wait_until(lambda: "recovered" in first.log.read_text(), 6, "the first to free it")
        assert process_alive(first.job_pid)
        assert len(shell.show(first.job)["attempts"]) == 1
