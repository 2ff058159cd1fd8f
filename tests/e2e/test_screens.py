"""Ctrl+C once and twice, TERM, a closed window, Ctrl+Z, kill -9: what is seen, and what becomes of the job.

Every test sits at a real terminal. The conversion holds before its fourth segment for as long as it is told
to, so nothing here depends on how fast the machine is.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.screen import Screen, parent_of
from tests.e2e.shell import Shell, pinned
from tests.helpers import DEMO, process_alive, wait_until
from unjam.jobs.states import State
from unjam.store.port import JobFilter
from unjam.supervise.identity import Identity

pytestmark = pytest.mark.slow

CONVERT = f"unjam convert {DEMO} -o out --segment-seconds 5 --speed veryfast"
HELD = "v00003"
_HOLDING = """#!/bin/sh
for last; do :; done
case "$last" in -version) ;; *) printf '%s\\n' "$last" >> '{ledger}' ;; esac
case "$last" in */{held}.mp4) while [ -e '{hold}' ]; do sleep 0.05; done ;; esac
exec '{real}' "$@"
"""
STUBBORN = "unjam exec -- sh stubborn.sh"
POLITE = "unjam exec -- sh polite.sh"
SCRIPTS = {
    "stubborn.sh": "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done\n",
    "polite.sh": "trap 'sleep 0.3; echo bye > bye; exit' TERM; echo $$ > pid; while :; do sleep 0.1; done\n",
}


class Desk:
    """A shell for scripts and a screen for the person, over one home."""

    def __init__(self, shell: Shell, screen: Screen) -> None:
        self.shell = shell
        self.screen = screen
        self.hold = shell.root / "hold"

    def starts(self) -> list[str]:
        """Names of the units encoded so far, in order."""
        paths = [Path(line) for line in self.shell.ledger.starts()]
        return [path.stem for path in paths if path.parent.name == "encode"]

    def wait_held(self) -> None:
        """Until three segments are finished and the fourth is under way."""
        wait_until(lambda: HELD in self.starts(), 40, f"{HELD} to begin: {self.screen.text()}")

    def job(self) -> dict[str, Any]:
        return self.shell.show()

    def wait_state(self, state: State, timeout: float = 15) -> dict[str, Any]:
        """Looks into the store, which costs nothing, and pauses on its own what nobody watches any more."""
        with self.shell.store() as store:

            def there() -> bool:
                store.expire_attachments()
                return [job.state for job in store.list_jobs(JobFilter(), limit=1)] == [state]

            wait_until(there, timeout, f"the job to be {state}", interval=0.05)
        return self.job()

    def pid(self) -> int:
        """Of the stubborn or polite command, when it runs."""
        marker = self.shell.cwd / "pid"
        return int(wait_until(lambda: marker.exists() and marker.read_text().strip(), 30, "the job to run"))

    def run_pid(self) -> int:
        """Of the process that the person started."""
        return wait_until(lambda: self.shell.pids("unjam.cli.main"), 10, "the command")[0]

    def worker_pids(self) -> tuple[int, int]:
        """(keeper, worker)."""
        with self.shell.store() as store:
            [found] = store.workers()
        pid = Identity.from_json(found.identity).pid
        return parent_of(pid), pid

    def assert_all_gone(self) -> None:
        """INV-ORPHAN. The person's shell has the same home, and may stay."""
        wait_until(lambda: not self.left(), 5, f"the end of {self.left()}")

    def left(self) -> list[str]:
        found = self.shell.processes().values()
        return [words for words in found if not words.startswith(("tmux ", "bash "))]

    def finish(self, again: str = CONVERT) -> None:
        """The same command goes on from the finished units; none is encoded twice (INV-KEEP)."""
        self.hold.unlink()
        self.screen.type(again)
        assert self.screen.exit_code(60) == 0, self.screen.text()
        starts = self.starts()
        assert [starts.count(name) for name in ("audio", "v00000", "v00001", "v00002")] == [1, 1, 1, 1]
        assert starts.count(HELD) == 2
        job = self.job()
        assert job["state"] == "succeeded"
        assert job["attempts"][-1]["units_reused"] >= 4
        self.assert_all_gone()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Shell(tmp_path, attach_ttl="3", containment="tree") as shell:
        script = _HOLDING.format(
            ledger=tmp_path / "ffmpeg-starts", held=HELD, hold=tmp_path / "hold", real=pinned()
        )
        shell.ledger.path.write_text(script)
        (tmp_path / "hold").touch()
        for name, text in SCRIPTS.items():
            (shell.cwd / name).write_text(text)
        with Screen(shell.env, shell.cwd) as screen:
            yield Desk(shell, screen)


# -- unjam run ----------------------------------------------------------------------------------------------
def test_ctrl_c_pauses_a_run_and_the_same_command_goes_on(desk: Desk) -> None:
    desk.screen.type(CONVERT)
    desk.wait_held()
    desk.screen.wait_for(r"demo\.mp4 .*running \d+ %")
    desk.screen.keys("C-c")
    desk.screen.wait_for("pausing 1 job: finished units are kept; press again to kill at once", 5)
    assert desk.screen.exit_code() == 130
    job = desk.job()
    assert job["state"] == "paused"
    assert job["reason"]["code"] == "interrupted"
    said = desk.screen.after("press again to kill at once")
    assert f"paused    demo.mp4 ({job['id']}): the run that waited for it was stopped" in said
    assert f"1 job paused: go on with the same command, or with `unjam resume {job['id']}`" in said
    desk.assert_all_gone()
    desk.finish()
    assert f"demo.mp4: continuing {job['id']} from 5 finished units" in desk.screen.text()


def test_a_second_ctrl_c_kills_a_job_that_ignores_term(desk: Desk) -> None:
    desk.screen.type(f"UNJAM_GRACE=60 {STUBBORN}")
    pid = desk.pid()
    desk.screen.keys("C-c")
    desk.screen.wait_for("press again to kill at once", 5)
    assert process_alive(pid)
    desk.screen.keys("C-c")
    desk.screen.wait_for("killing what still runs", 5)
    assert desk.screen.exit_code(10) == 130
    assert not process_alive(pid)
    assert desk.job()["state"] == "paused"
    desk.assert_all_gone()


def test_two_presses_in_one_go_kill_too(desk: Desk) -> None:
    desk.screen.type(f"UNJAM_GRACE=60 {STUBBORN}")
    pid = desk.pid()
    run = desk.run_pid()
    os.kill(run, signal.SIGINT)
    os.kill(run, signal.SIGTERM)
    assert desk.screen.exit_code(15) == 130
    assert not process_alive(pid)
    assert desk.job()["state"] == "paused"


def test_term_pauses_a_run(desk: Desk) -> None:
    desk.screen.type(POLITE)
    desk.pid()
    os.kill(desk.run_pid(), signal.SIGTERM)
    assert desk.screen.exit_code() == 143
    assert "go on with the same command" in desk.screen.text()
    assert desk.job()["state"] == "paused"
    desk.assert_all_gone()


def test_a_closed_window_pauses_a_run_gracefully(desk: Desk) -> None:
    """The kernel and bash both say HUP: that is one wish, not two, and the job gets its grace."""
    desk.screen.type(POLITE)
    pid = desk.pid()
    desk.screen.hang_up()
    desk.wait_state(State.PAUSED)
    assert not process_alive(pid)
    assert (desk.shell.cwd / "bye").exists()
    desk.assert_all_gone()


def test_kill_9_of_a_run_pauses_its_job_within_the_attachment(desk: Desk) -> None:
    desk.screen.type(CONVERT)
    desk.wait_held()
    os.kill(desk.run_pid(), signal.SIGKILL)
    assert desk.screen.exit_code() == 137
    desk.assert_all_gone()
    job = desk.wait_state(State.PAUSED, 8)
    assert job["reason"] == {
        "code": "interrupted",
        "message": "nobody watches it any more: its terminal or page is gone",
    }
    desk.finish()


def test_kill_9_of_a_run_and_the_same_command_at_once(desk: Desk) -> None:
    """Its worker is still stopping: the command waits for that instead of refusing its own work."""
    desk.screen.type(CONVERT)
    desk.wait_held()
    os.kill(desk.run_pid(), signal.SIGKILL)
    assert desk.screen.exit_code() == 137
    desk.finish()


def test_everything_killed_and_the_same_command_after_the_attachment_is_over(desk: Desk) -> None:
    desk.screen.type(CONVERT)
    desk.wait_held()
    before = desk.job()["id"]
    keeper, worker = desk.worker_pids()
    for pid in (desk.run_pid(), keeper, worker):
        os.kill(pid, signal.SIGKILL)
    assert desk.screen.exit_code() == 137
    with desk.shell.store() as store:
        wait_until(lambda: store.expire_attachments(), 8, "the attachment to end")
    desk.finish()
    assert desk.job()["id"] == before


def test_ctrl_z_pauses_after_a_while_and_fg_goes_on(desk: Desk) -> None:
    desk.screen.type(CONVERT)
    desk.wait_held()
    run = desk.run_pid()
    desk.screen.keys("C-z")
    desk.screen.wait_for("Stopped", 5)
    desk.wait_state(State.PAUSED, 12)
    assert process_alive(run)
    desk.hold.unlink()
    desk.screen.keys("Enter")
    desk.screen.type("fg")
    assert desk.screen.exit_code(60) == 0, desk.screen.text()
    assert desk.job()["state"] == "succeeded"
    assert desk.starts().count("v00002") == 1
    desk.assert_all_gone()


# -- unjam worker -------------------------------------------------------------------------------------------
def start_worker(desk: Desk, command: str, **env: str) -> dict[str, Any]:
    """A worker on the screen, with one job of this command running."""
    words = " ".join(f"UNJAM_{name.upper()}={value}" for name, value in env.items())
    desk.screen.type(f"{words} unjam worker")
    desk.screen.wait_for(r"worker w\w+: ready, \d+ slot")
    _, verb, *arguments = command.split()
    submitted = desk.shell.run(verb, "--detach", *arguments)
    assert submitted.code == 0, submitted.err
    desk.screen.wait_for(r"started \(attempt 1\)")
    return desk.job()


def test_ctrl_c_gives_a_workers_job_back_at_once_and_another_goes_on(desk: Desk) -> None:
    job = start_worker(desk, CONVERT)
    desk.wait_held()
    desk.screen.keys("C-c")
    desk.screen.wait_for(
        rf"SIGINT: releasing {job['id']} demo\.mp4; finished units are kept, press again to kill at once"
    )
    assert desk.screen.exit_code() == 0
    assert "queued: its worker was stopped" in desk.screen.text()
    found = desk.job()
    assert found["state"] == "queued"
    assert found["reason"] == {"code": "interrupted", "message": "its worker was stopped"}
    assert "no worker is running" in found["next"]["why"]
    desk.assert_all_gone()
    desk.finish("unjam worker --exit-when-idle")


def test_a_second_ctrl_c_on_a_worker_kills_at_once(desk: Desk) -> None:
    start_worker(desk, STUBBORN, grace="60")
    pid = desk.pid()
    desk.screen.keys("C-c")
    desk.screen.wait_for("press again to kill at once", 5)
    assert process_alive(pid)
    desk.screen.keys("C-c")
    desk.screen.wait_for(r"SIGINT again: killing 1 attempt\(s\) now; finished units are kept", 5)
    assert desk.screen.exit_code(10) == 130
    assert not process_alive(pid)
    assert desk.job()["state"] == "queued"
    desk.assert_all_gone()


def test_term_gives_a_workers_job_back(desk: Desk) -> None:
    start_worker(desk, POLITE)
    desk.pid()
    keeper, _ = desk.worker_pids()
    os.kill(keeper, signal.SIGTERM)
    desk.screen.wait_for("SIGTERM: releasing")
    assert desk.screen.exit_code() == 0
    assert desk.job()["state"] == "queued"
    desk.assert_all_gone()


def test_a_closed_window_gives_a_workers_job_back_gracefully(desk: Desk) -> None:
    start_worker(desk, POLITE)
    pid = desk.pid()
    desk.screen.hang_up()
    desk.wait_state(State.QUEUED)
    assert not process_alive(pid)
    assert (desk.shell.cwd / "bye").exists()
    desk.assert_all_gone()


def reads_the_store(desk: Desk, words: str) -> bool:
    """Is the command past its start? Before that a Ctrl+C would only meet the interpreter."""
    for pid in desk.shell.pids(words):
        try:
            opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        except FileNotFoundError:
            continue  # closed while we looked: asked again
        if any(name.endswith("/unjam.db") for name in opened):
            return True
    return False


# -- those who only look ------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["logs -f", "watch", "wait"])
def test_ctrl_c_of_those_who_look_on_only_detaches(desk: Desk, command: str) -> None:
    job = start_worker(desk, POLITE)
    desk.pid()
    attempt = desk.job()["attempts"][-1]
    with Screen(desk.shell.env, desk.shell.cwd) as other:
        verb, *options = command.split()
        other.type(f"unjam {verb} {job['id']} {' '.join(options)}")
        wait_until(lambda: reads_the_store(desk, f" {verb} {job['id']}"), 10, "the command")
        if verb != "wait":
            other.wait_for("polite", below=job["id"])
        other.keys("C-c")
        assert other.exit_code(10) == 130, other.text()
    after = desk.job()
    assert after["state"] == "running"
    assert after["requested"] is None
    assert after["attempts"][-1]["started_at"] == attempt["started_at"]
    assert process_alive(desk.pid())
