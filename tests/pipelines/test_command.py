"""The pipeline exec: any command, its output in the log, its end told."""

import os
import signal
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.pipelines.rig import Job
from unjam.errors import UsageError
from unjam.jobs.messages import Message, Progress
from unjam.pipelines.registry import get
from unjam.pipelines.runner import EXIT_FAILED, EXIT_STOPPED


def job(folder: Path, *argv: str, **params: object) -> Job:
    return Job(folder, None, "exec", {"argv": argv, **params})


def test_output_goes_to_the_log_and_success_is_zero(tmp_path: Path) -> None:
    outcome = job(
        tmp_path, "sh", "-c", "echo out; echo err >&2; pwd; echo $COLOUR", cwd="/", env={"COLOUR": "red"}
    ).attempt(output_path=None, output_dir=None)
    assert outcome.status == 0
    assert outcome.outputs == ()
    lines = outcome.log.splitlines()
    assert {"out", "err", "/", "red"} <= set(lines)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo why >&2; exit 3", "sh ended with exit code 3: why"),
        ("kill -SEGV $$", "sh was killed by SIGSEGV"),
    ],
)
def test_a_failure_says_how(tmp_path: Path, command: str, said: str) -> None:
    outcome = job(tmp_path, "sh", "-c", command).attempt()
    assert (outcome.status, outcome.failed.code, outcome.failed.message) == (EXIT_FAILED, "crashed", said)


def test_a_missing_program(tmp_path: Path) -> None:
    outcome = job(tmp_path, "no-such-program").attempt()
    assert (outcome.failed.code, outcome.failed.message) == (
        "tool_missing",
        "no-such-program: not found; is it installed?",
    )


def test_words_travel_untouched(tmp_path: Path) -> None:
    words = ["-x", "a b", "quo'te", "new\nline", "$HOME", "*", ""]
    assert job(tmp_path, "printf", "[%s]\\n", *words).attempt().log.count("[") >= len(words)


def test_only_what_it_prints_is_evidence(tmp_path: Path) -> None:
    """INV-STALL: a talking command advances, a silent one says nothing at all."""
    talk = "for i in 1 2 3 4 5; do echo $i; sleep 0.6; done; sleep 1.2"
    said = [p.evidence for p in job(tmp_path, "sh", "-c", talk).attempt().progress("run")]
    assert len(said) >= 4
    assert len(set(said)) == len(said)


def test_a_stop_reaches_the_command_once_and_waits_for_it(tmp_path: Path) -> None:
    note = tmp_path / "note"
    trap = f"trap 'echo T >>{note}; sleep 0.5; echo clean >>{note}; exit 0' TERM"
    script = f"{trap}; echo up >{note}; while :; do sleep 0.1; done"

    def stop(message: Message, pid: int) -> None:
        if isinstance(message, Progress) and not sent:
            wait_until(lambda: note.exists() and note.read_text() == "up\n", what="the command")
            os.kill(pid, signal.SIGTERM)
            sent.append(pid)

    sent: list[int] = []
    outcome = job(tmp_path, "bash", "-c", script).attempt(on_message=stop)
    assert outcome.status == EXIT_STOPPED
    assert note.read_text() == "up\nT\nclean\n"


@pytest.mark.parametrize("params", [{}, {"argv": []}, {"argv": ["x"], "shell": True}, {"argv": "ls"}])
def test_parameters_are_checked(params: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"argv|shell"):
        get("exec").validate(params)
