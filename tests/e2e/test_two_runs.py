"""Two runs in the foreground at once, over one store: they share the machine and end their own workers."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.shell import Shell
from tests.helpers import wait_until
from unjam.jobs.model import Job
from unjam.store.port import Store

SLOTS = 2
pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    root = str(Path(__file__).parents[2])
    with Shell(tmp_path, pipelines="tests.e2e.recipes", slots=str(SLOTS), poll_every="0.2") as made:
        made.env["PYTHONPATH"] = root
        made.run("ls")  # makes the store, which the tests look into
        yield made


def folder_of(shell: Shell, name: str, count: int) -> Path:
    folder = shell.cwd / name
    folder.mkdir()
    for number in range(count):
        (folder / f"{name}{number}.txt").write_text(f"{number}\n")
    return folder


def start(shell: Shell, name: str, count: int, seconds: float) -> "subprocess.Popen[bytes]":
    ledger = shell.root / "ledger"
    folder_of(shell, name, count)
    params = ["-p", f"ledger={ledger}", "-p", f"seconds={seconds}"]
    return shell.start("run", "e2e-turn", name, "-o", f"out-{name}", *params)


def ids_of(shell: Shell) -> list[str]:
    return [job["id"] for job in shell.jobs()]


def leased(store: Store) -> list[Job]:
    return [held.job for held in store.live_jobs()]


def most_at_once(ledger: Path) -> int:
    """By what the jobs wrote themselves. One that was killed wrote no end: its next attempt replaces it."""
    running: dict[str, str] = {}
    most = 0
    for line in ledger.read_text().splitlines():
        sign, job, attempt = line.split()
        if sign == "+":
            running[job] = attempt
        elif running.get(job) == attempt:
            del running[job]
        most = max(most, len(running))
    return most


def watch(shell: Shell, *processes: "subprocess.Popen[bytes]") -> tuple[int, set[str]]:
    """Look at the leases until all have ended: the most CPU slots ever held, and every worker seen."""
    most = 0
    workers: set[str] = set()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(shell.store())

        def over() -> bool:
            nonlocal most
            most = max(most, sum(job.spec.needs.cpu for job in leased(store)))
            workers.update(worker.id for worker in store.workers())
            return all(process.poll() is not None for process in processes)

        wait_until(over, 50, "both runs to end", interval=0.01)
        assert store.workers() == []
    return most, workers


def finish(shell: Shell, **runs: tuple["subprocess.Popen[bytes]", int]) -> None:
    for name, (process, count) in runs.items():
        out, err = process.communicate(timeout=5)
        assert process.returncode == 0, err.decode()
        made = sorted(path.name for path in (shell.cwd / f"out-{name}").glob("*.done"))
        assert made == sorted(f"{name}{number}.done" for number in range(count))
        assert len(out.splitlines()) == count
    assert most_at_once(shell.root / "ledger") <= SLOTS
    shell.assert_clean()


def test_started_together_they_never_hold_more_than_the_machine_has(shell: Shell) -> None:
    """INV-LOCK: slots are counted in the claim, over all workers of the machine."""
    with start(shell, "a", 8, 0.3) as one, start(shell, "b", 8, 0.3) as other:
        most, workers = watch(shell, one, other)
        assert most == SLOTS
        assert workers
        finish(shell, a=(one, 8), b=(other, 8))


def test_the_first_to_end_does_not_wait_and_tears_nothing_from_the_other(shell: Shell) -> None:
    """The second begins with the worker of the first, and starts one of its own when that takes no more."""
    with start(shell, "a", 2, 1.0) as one:
        with shell.store() as store:
            wait_until(lambda: leased(store), 20, "the first to run")
            [first] = store.workers()
        with start(shell, "b", 6, 0.6) as other:
            most, workers = watch(shell, one, other)
            assert most <= SLOTS
            assert len(workers) == 2
            assert first.id in workers
            finish(shell, a=(one, 2), b=(other, 6))
        # What ran on the worker of the first when that was over was finished there, not begun again.
        assert all(len(job["attempts"]) == 1 for job in map(shell.show, ids_of(shell)))
