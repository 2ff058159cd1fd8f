"""Why a job waits, and what happens next to it: every case made for real, told alike by show, ls and run."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import Shell
from tests.helpers import wait_until
from unjam.supervise.identity import Identity

pytestmark = pytest.mark.slow

MEMORY = 1 << 30


class Place:
    """A shell whose workers hold jobs until they are told to let go."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.go = shell.root / "go"
        self._submitted = 0
        shell.quick("ls")

    @contextmanager
    def worker(self, *args: str, env: Mapping[str, str] = {}) -> Iterator["subprocess.Popen[bytes]"]:
        """One that is there, and has ended when the block is left."""
        before = dict(self.shell.env)
        self.shell.env |= env
        quiet = subprocess.DEVNULL
        started = self.shell.start("worker", *args, stdout=quiet, stderr=quiet)
        self.shell.env = before
        wait_until(lambda: self.shell.quick("workers", "--json").out, 20, "a worker")
        try:
            yield started
        finally:
            started.send_signal(signal.SIGINT)
            started.send_signal(signal.SIGTERM)
            started.wait(20)

    def submit(self, *args: str, **params: object) -> str:
        self._submitted += 1
        params["number"] = self._submitted
        pairs = [word for key, value in params.items() for word in ("-p", f"{key}={value}")]
        said = self.shell.quick("run", "e2e-hold", "--detach", "-p", f"until={self.go}", *pairs, *args)
        assert said.code == 0, said.err
        return said.out.strip()

    def running(self, *args: str, **params: object) -> str:
        job = self.submit(*args, **params)
        wait_until(lambda: self.show(job)["stages"], 20, f"{job} to run")
        return job

    def show(self, job: str) -> dict[str, Any]:
        view = self.shell.quick("show", job, "--json").json
        assert isinstance(view, dict)
        return view

    def says(self, job: str, action: str, cause: str, words: str) -> dict[str, Any]:
        """`show`, `show --json`, `ls` and `ls --json` tell this of the job, at the latest in a moment."""

        def told() -> bool:
            upcoming = self.show(job)["next"]
            return (upcoming["action"], upcoming["cause"], words in upcoming["why"]) == (action, cause, True)

        try:
            wait_until(told, 15)
        except AssertionError:
            raise AssertionError(f"{(action, cause, words)} is not {self.show(job)['next']}") from None
        assert words in self.shell.quick("show", job).out
        [row] = [row for row in self.shell.quick("ls", "--json").lines if row["id"] == job]
        assert (row["next"]["action"], row["next"]["cause"]) == (action, cause)
        [line] = [line for line in self.shell.quick("ls").out.splitlines() if line.startswith(job)]
        assert words.split(":")[0][:20] in line
        upcoming = self.show(job)["next"]
        assert isinstance(upcoming, dict)
        return upcoming


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    root = str(Path(__file__).parents[2])
    with Shell(
        tmp_path, pipelines="tests.e2e.recipes", slots="4", memory_bytes=str(MEMORY), poll_every="0.2"
    ) as shell:
        shell.env["PYTHONPATH"] = root
        yield Place(shell)


def test_nobody_is_there_for_it(place: Place) -> None:
    job = place.submit("--queue", "night")
    place.says(job, "start", "no_worker", "no_worker: no worker is running; start one with `unjam worker`")
    with place.worker("--queue", "day"):
        place.says(job, "start", "no_worker", "none of 1 worker takes jobs of queue night")
    with place.worker(env={"UNJAM_PIPELINES": ""}):
        place.says(job, "start", "no_worker", "none of 1 worker knows the pipeline e2e-hold")
    with place.worker("--drain") as draining:
        busy = place.running()
        place.shell.quick("queues", "pause", "night")
        other = place.submit("--queue", "night")
        place.says(other, "start", "queue_paused", "queue night is paused by ")
        draining.send_signal(signal.SIGTERM)
        place.shell.quick("queues", "resume", "night")
        place.says(other, "start", "no_worker", "the only workers are draining")
        place.go.touch()
        assert place.shell.run("wait", busy).code == 0


def test_no_room_and_who_has_it(place: Place) -> None:
    with place.worker("-j", "3"):
        if not os.path.exists("/dev/nvidia0"):
            place.says(
                place.submit(gpu=1), "start", "no_worker", "none of 1 worker has a GPU, and it needs one"
            )
        one = place.running(cpu=3)
        two = place.submit(cpu=2)
        place.says(two, "start", "cpu", "needs 2 of 4 CPU slots of ")
        place.says(two, "start", "cpu", f", 1 free: held by {one}")
        all_of_it = place.submit(cpu=9)
        place.says(all_of_it, "start", "cpu", "(asked for 9, which is more than it has)")
        big = place.running("--memory", "600MiB")
        bigger = place.submit("--memory", "500MiB")
        # No CPU slot is left for it either: told is what is missing first.
        place.says(bigger, "start", "cpu", f"held by {big}, {one}")
    place.shell.quick("cancel", one, two, all_of_it, big, bigger)


def test_no_memory_and_no_slot(place: Place) -> None:
    with place.worker("-j", "2"):
        first = place.running("--memory", "600MiB")
        waits = place.submit("--memory", "500MiB")
        place.says(waits, "start", "memory", "needs 524 MB of 1.1 GB memory of ")
        place.says(waits, "start", "memory", f"held by {first}")
        second = place.running()
        third = place.submit()
        place.says(third, "start", "slots", "waits for one of 2 slots of 1 worker: held by ")
        for job in (first, second):
            assert job in place.show(third)["next"]["why"]


def test_other_jobs_other_times_other_people(place: Place) -> None:
    with place.worker():
        first = place.running()
        after = place.submit("--after", first)
        place.says(after, "start", "dependency", f"waits for {first} (running)")
        place.shell.quick("pause", after)
        place.says(after, "resume", "paused", "paused by ")
        chained = place.submit("--after", after)
        place.says(chained, "start", "dependency", f"waits for {after} (paused: `unjam resume {after}`)")
        failing = place.shell.quick("exec", "--retry", "2", "--detach", "--", "false").out.strip()
        upcoming = place.says(failing, "retry", "backoff", "backs off for ")
        assert upcoming["at"] is not None


def test_what_a_running_job_comes_to(place: Place) -> None:
    with place.worker(env={"UNJAM_GRACE": "30"}) as worker:
        limited = place.running("--timeout", "60s")
        upcoming = place.says(limited, "timeout", "time_limit", "limit of 1 min an attempt")
        assert upcoming["at"] is not None
        silent = place.running("--stall-after", "10m")
        upcoming = place.says(silent, "stop", "stall_limit", "stopped as stalled in 9 min")
        assert upcoming["at"] is not None
        holder = place.running(token="scanner")
        waiter = place.running(token="scanner")
        place.says(waiter, "work", "token", f"waiting for scanner, held by {holder}")
        place.shell.quick("cancel", limited)
        third = place.running(token="scanner")
        place.says(third, "work", "token", f"waiting for scanner, held by {holder}")
        place.shell.quick("cancel", holder)
        waiting = {waiter, third}
        wait_until(lambda: {j for j in waiting if place.show(j)["next"]["cause"] == "token"} < waiting, 15)
        [left] = [job for job in waiting if place.show(job)["next"]["cause"] == "token"]
        [now] = waiting - {left}
        place.says(left, "work", "token", f"waiting for scanner, held by {now}")
        place.shell.quick("cancel", waiter, third)
        deaf = place.running(deaf=True)
        place.shell.quick("pause", deaf)
        place.says(deaf, "pause", "pausing", "paused at the next finished unit, or after the grace")
        place.shell.quick("cancel", deaf)
        place.says(deaf, "cancel", "cancelling", "cancelled when its processes are gone")
        # Killed with its keeper, and nobody is left who would recover what they had.
        with place.shell.store() as store:
            [there] = store.workers()
        os.kill(Identity.from_json(there.identity).pid, signal.SIGKILL)
        worker.kill()
        worker.wait()
        place.says(silent, "recover", "worker_lost", f"its worker {there.id} is gone")


def test_a_run_that_waits_says_why_each_time_that_changes(place: Place) -> None:
    place.shell.quick("queues", "pause", "night")
    first = place.submit("--queue", "night")
    waiting = place.shell.start("exec", "--queue", "day", "--after", first, "--", "true")
    assert f"waits for {first} (queued)" in _line_with(waiting, "waiting   ")
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=20)
    place.shell.quick("queues", "pause", "day")
    with place.worker():
        waiting = place.shell.start("exec", "--queue", "day", "--", "echo", "hello")
        assert "queue day is paused by " in _line_with(waiting, "waiting   ")
        busy = [place.running() for _ in range(4)]
        place.shell.quick("queues", "resume", "day")
        line = _line_with(waiting, "waiting   ")
        while "waits for one of 4 slots" not in line:
            line = _line_with(waiting, "waiting   ")
        assert any(job in line for job in busy)
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=20)


def _line_with(process: "subprocess.Popen[bytes]", words: str) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line.decode():
            return line.decode()
    raise AssertionError(f"ended without saying {words!r}")
