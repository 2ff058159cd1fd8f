"""A run in the foreground with a worker of its own: how it ends, how it is interrupted, what it leaves."""

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.shell import Shell
from tests.helpers import process_alive, wait_until
from unjam.jobs.states import State

pytestmark = pytest.mark.slow


class Running:
    """A command in the foreground that can be signalled. `marker` appears when its job runs, with its pid."""

    def __init__(self, terminal: Shell, script: str, *options: str) -> None:
        self.marker = terminal.cwd / "pid"
        self.terminal = terminal
        self.command = ["exec", *options, "--", "sh", "-c", f"echo $$ > {self.marker}; {script}"]
        self.process = terminal.start(*self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def job_pid(self) -> int:
        def pid() -> int:
            return int(self.marker.read_text()) if self.marker.exists() and self.marker.read_text() else 0

        return wait_until(pid, 20, "the job to start")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=40)
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
def terminal(terminal: Shell) -> Iterator[Shell]:
    # The same number inside and outside, so that a test can see whether the job's process is gone.
    terminal.env["UNJAM_CONTAINMENT"] = "tree"
    terminal.quick("ls")  # makes the store, which the tests look into
    yield terminal
    with terminal.store() as store:
        left = [worker.id for worker in store.workers()]
    assert left == [], "a worker of a foreground run stayed"


def states(terminal: Shell) -> list[State]:
    with terminal.store() as store:
        return [job.state for job in store.get_many(store.resolve("j"))]


def test_exit_code_lines_and_log(terminal: Shell) -> None:
    done = terminal.run("exec", "--", "sh", "-c", "echo it works")
    assert done.code == 0, done.err
    assert "started one here" in done.err
    assert "succeeded" in done.err
    assert done.out == ""
    assert "it works" in terminal.run("logs", "@last").out
    assert terminal.run("exec", "--", "false").code == 1
    assert states(terminal).count(State.FAILED) == 1
    assert not list(terminal.settings.log_root.glob("worker-attached-*"))


def test_json_is_one_event_a_line_from_the_submission_to_the_end(terminal: Shell) -> None:
    done = terminal.run("exec", "--json", "--", "true")
    kinds = [line["state_to"] for line in done.lines if line.get("state_to")]
    assert kinds[0] == "queued"
    assert kinds[-1] == "succeeded"


def test_ctrl_c_pauses_and_the_same_command_goes_on(terminal: Shell) -> None:
    running = Running(terminal, "test -e go || sleep 600")
    pid = running.job_pid()
    running.process.send_signal(signal.SIGINT)
    code, _, err = running.end()
    assert code == 130
    assert "press again to kill at once" in err
    assert "go on with the same command, or with `unjam resume j" in err
    assert not process_alive(pid)
    assert states(terminal) == [State.PAUSED]
    terminal.file("go")
    again = terminal.run(*running.command)
    assert again.code == 0, again.err
    assert "continuing j" in again.err
    assert states(terminal) == [State.SUCCEEDED]


def test_a_second_ctrl_c_does_not_wait_for_a_job_that_ignores_term(terminal: Shell) -> None:
    terminal.env["UNJAM_GRACE"] = "60"
    running = Running(terminal, "trap '' TERM; while :; do sleep 1; done")
    pid = running.job_pid()
    running.process.send_signal(signal.SIGINT)
    line = b""
    assert running.process.stderr is not None
    while b"press again" not in line:
        line = running.process.stderr.readline()
        assert line, "the run ended without saying that it pauses"
    running.process.send_signal(signal.SIGINT)
    code, _, err = running.end()
    assert code == 130
    assert "killing what still runs" in err
    wait_until(lambda: not process_alive(pid), 5, "the job's process to be gone")
    assert states(terminal) == [State.PAUSED]


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGHUP, 130)])
def test_term_and_a_closed_terminal(terminal: Shell, number: signal.Signals, expected: int) -> None:
    running = Running(terminal, "sleep 600")
    pid = running.job_pid()
    if number is signal.SIGHUP:
        # Nobody reads any more: what is said must not stop what is done.
        for stream in (running.process.stdout, running.process.stderr):
            assert stream is not None
            stream.close()
    running.process.send_signal(number)
    assert running.process.wait(40) == expected
    assert not process_alive(pid)
    assert states(terminal) == [State.PAUSED]


def test_whoever_only_joined_a_running_job_does_not_pause_it(terminal: Shell) -> None:
    """--on-duplicate return follows somebody else's job: Ctrl+C ends the following only."""
    first = Running(terminal, "sleep 60")
    pid = first.job_pid()
    joined = terminal.start(
        *first.command[:1], "--on-duplicate", "return", *first.command[1:], stderr=subprocess.PIPE
    )
    said = joined.stderr
    assert said is not None
    wait_until(lambda: b"running" in said.readline(), 20, "it to follow")
    joined.send_signal(signal.SIGINT)
    _, told = joined.communicate(timeout=20)
    assert joined.returncode == 130
    assert b"by somebody else and goes on" in told
    with terminal.store() as store:
        assert [job.requested for job in store.get_many(store.resolve("j"))] == [None]
    assert process_alive(pid)
    first.process.send_signal(signal.SIGINT)
    assert first.end()[0] == 130
    assert states(terminal) == [State.PAUSED]


def test_kill_9_of_the_run_takes_its_worker_and_job_along(terminal: Shell) -> None:
    """INV-ORPHAN"""
    running = Running(terminal, "sleep 600")
    pid = running.job_pid()
    running.process.kill()
    running.end()
    wait_until(lambda: not process_alive(pid), 10, "the job's process to be gone")
    wait_until(lambda: not _workers(terminal), 15, "the worker to end")
    assert states(terminal)[0] in (State.QUEUED, State.PAUSED)


def test_two_runs_at_once_share_the_machine_and_both_end(terminal: Shell) -> None:
    terminal.env["UNJAM_SLOTS"] = "1"
    first = terminal.start("exec", "--", "sleep", "1", stderr=subprocess.PIPE)
    second = terminal.start("exec", "--", "sleep", "1.1", stderr=subprocess.PIPE)
    for process in (first, second):
        _, err = process.communicate(timeout=50)
        assert process.returncode == 0, err.decode()
    assert states(terminal) == [State.SUCCEEDED] * 2


def test_a_worker_of_ones_own_runs_as_the_process_one_sees(terminal: Shell) -> None:
    job = terminal.run("exec", "--detach", "--", "true")
    assert job.code == 0
    worker = terminal.start("worker", "--exit-when-idle", stderr=subprocess.PIPE)
    _, err = worker.communicate(timeout=40)
    assert worker.returncode == 0, err.decode()
    assert states(terminal) == [State.SUCCEEDED]
    with terminal.store() as store:
        assert not store.workers()


def _workers(terminal: Shell) -> int:
    with terminal.store() as store:
        return len(store.workers())


def test_who_takes_a_job_over_is_not_paused_by_the_death_of_the_run_before(terminal: Shell) -> None:
    """INV-LOST: the killed run's attachment still stands for a while; the job belongs to another one now."""
    terminal.env["UNJAM_ATTACH_TTL"] = "3"
    worker = terminal.start("worker", stderr=subprocess.PIPE)
    wait_until(lambda: _workers(terminal), 20, "the worker")
    running = Running(terminal, "while test ! -e go; do sleep 0.1; done")
    running.job_pid()
    running.process.kill()
    running.end()
    assert terminal.run("resume", "@last", "--detach").code == 0
    with terminal.store() as store:
        [job_id] = store.resolve("j")
        over = store.now() + 6
        wait_until(lambda: store.now() > over, 10, "the attachment of the killed run to have run out")
        kinds = [event.kind for event in store.events_since(0, job_ids=[job_id])]
    assert "pause_requested" not in kinds
    terminal.file("go")
    assert terminal.run("wait", "@last").code == 0
    assert states(terminal) == [State.SUCCEEDED]
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=20)


@pytest.mark.parametrize("worker_of", ["another", "the run"])
def test_a_run_whose_job_was_taken_over_leaves_it_alone(terminal: Shell, worker_of: str) -> None:
    """Two terminals: the one that resumed it last decides, also when the first one's worker runs it."""
    worker = terminal.start("worker", stderr=subprocess.PIPE) if worker_of == "another" else None
    wait_until(lambda: worker is None or _workers(terminal), 20, "the worker")
    first = Running(terminal, "while test ! -e go; do sleep 0.1; done")
    first.job_pid()
    assert "is running" in terminal.run("resume", "@last", "--detach").err
    first.process.send_signal(signal.SIGINT)
    code, _, err = first.end()
    assert (code, "taken over by somebody else and goes on" in err) == (130, True), err
    assert ("runs 1 job of others: it ends after them" in err) == (worker is None), err
    assert "go on with the same command" not in err
    with terminal.store() as store:
        jobs = store.get_many(store.resolve("j"))
        assert [(job.state, job.requested) for job in jobs] == [(State.RUNNING, None)]
    logs = terminal.settings.log_root
    assert terminal.run("gc").code == 0
    assert len(list(logs.glob("worker-attached-*"))) == (worker is None), "a living worker writes to it"
    terminal.file("go")
    assert terminal.run("wait", "@last").code == 0
    if worker is not None:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=20)
    wait_until(lambda: not _workers(terminal), 15, "the worker to end")

    def tidy() -> bool:
        terminal.run("gc")
        return not list(logs.glob("worker-attached-*"))

    wait_until(tidy, 15, "the log to go once its keeper has ended")
