"""`unjam exec`: any command, however badly it behaves, is over in time, leaves nothing, and says why."""

import os
import re
import secrets
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.screen import python_words
from tests.e2e.shell import Shell
from tests.helpers import process_alive, wait_until

EVIL = """
import ctypes, os, signal, subprocess, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
token = sys.argv[1]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 1024)
        os.execv("/usr/bin/env", ["env", "-i", "sleep", token])
    os._exit(0)
hydra = f"trap '' TERM; while :; do setsid sleep {token} & sleep 0.05; done"
subprocess.Popen(["sh", "-c", hydra], start_new_session=True)
print("holding", flush=True)
ctypes.PyDLL(None).sleep(600)  # in native code, with the interpreter's lock: no handler will ever run
"""


def living(token: str) -> list[int]:
    """Processes of the whole machine with this word in their command line, whatever their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue  # gone meanwhile
            if token.encode() in command and process_alive(int(name)):
                found.append(int(name))
    return found


def token() -> str:
    """A number of seconds for `sleep` that nobody else on this machine sleeps."""
    return f"600.{secrets.randbelow(10**9):09d}"


def seconds(attempt: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(attempt[key]) for key in ("started_at", "ended_at"))
    return (ended - began).total_seconds()


@pytest.mark.slow
@pytest.mark.parametrize(("containment", "limit"), [("auto", 5.0), ("tree", 2.0)])
def test_what_will_not_end_is_over_in_time(shell: Shell, containment: str, limit: float) -> None:
    """INV-DEADLINE, INV-ORPHAN: native code, TERM ignored, a daemon without parent, session or environment,
    and a shell that forks sleepers as fast as it can."""
    (shell.cwd / "evil.py").write_text(EVIL)
    mark = token()
    command = ["exec", "--timeout", f"{limit:g}", "--", "python3", "evil.py", mark]
    with shell.start(*command, UNJAM_CONTAINMENT=containment) as process:
        wait_until(lambda: len(living(mark)) > 5, 20, "the daemon and the heads of the hydra")
        _, err = process.communicate(timeout=40)
    assert living(mark) == []
    assert process.returncode == 6, err
    job = shell.show()
    assert job["reason"] == {"code": "timeout", "message": f"not done after {limit:.1f} s (stage run)"}
    [attempt] = job["attempts"]
    grace = float(shell.env["UNJAM_GRACE"])
    assert limit <= seconds(attempt) <= limit + grace + 1
    assert "holding" in shell.run("logs", "@last").out
    shell.assert_clean()


def test_a_daemon_left_behind_ends_with_its_command(shell: Shell) -> None:
    mark = token()
    done = shell.run("exec", "--", "sh", "-c", f"setsid sleep {mark} & echo started")
    assert done.code == 0, done.err
    assert living(mark) == []


def test_output_of_both_kinds_is_in_the_log_byte_for_byte(shell: Shell) -> None:
    code = "import os; os.write(1, bytes(range(256))); os.write(2, b'\\nto stderr\\n')"
    done = shell.run("exec", "--", "python3", "-c", code)
    assert done.code == 0, done.err
    said = shell.run("logs", "@last").out.encode("utf-8", "surrogateescape")
    assert bytes(range(256)) in said
    assert b"\nto stderr\n" in said


def test_exit_code_and_end_of_its_words_are_the_reason(shell: Shell) -> None:
    done = shell.run("exec", "--", "sh", "-c", "echo no room on the shelf >&2; exit 3")
    assert done.code == 1
    job = shell.show()
    assert job["reason"] == {
        "code": "crashed",
        "message": "sh ended with exit code 3: no room on the shelf",
    }
    assert len(job["attempts"]) == 1
    assert "crashed: sh ended with exit code 3: no room on the shelf" in done.err
    assert f"unjam logs {job['id']}" in done.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no-such-program", "-x"], "no-such-program: not found"),
        (["./notes.txt"], "./notes.txt: not executable"),
        (["/"], "/: not executable"),
    ],
)
def test_what_cannot_be_run(shell: Shell, words: list[str], sentence: str) -> None:
    (shell.cwd / "notes.txt").write_text("hello\n")
    done = shell.run("exec", "--", *words)
    assert done.code == 1
    reason = shell.show()["reason"]
    assert reason["code"] == "tool_missing"
    assert sentence in reason["message"]


def test_a_folder_that_is_not_there(shell: Shell) -> None:
    done = shell.run("exec", "--cwd", "nowhere", "--", "true")
    assert done.code != 0
    assert "nowhere" in done.err
    assert "no such folder" in done.err


def test_folder_variables_and_stdin(shell: Shell) -> None:
    (shell.cwd / "below").mkdir()
    script = 'test -z "$(cat)" && echo "$COLOUR in $PWD" > seen'
    done = shell.run(
        "exec", "--cwd", "below", "--env", "COLOUR=a = b", "--", "sh", "-c", script, input=b"typed"
    )
    assert done.code == 0, done.err
    assert (shell.cwd / "below" / "seen").read_text() == f"a = b in {shell.cwd / 'below'}\n"


@pytest.mark.slow
def test_silence_is_a_stall_and_says_for_how_long(shell: Shell) -> None:
    done = shell.run("exec", "--stall-after", "2", "--", "sh", "-c", "echo once; exec sleep 600")
    assert done.code == 6
    job = shell.show()
    assert job["reason"]["code"] == "stalled"
    assert re.search(r"no new progress for [23] s", job["reason"]["message"])
    assert seconds(job["attempts"][0]) < 2 + 3 + float(shell.env["UNJAM_GRACE"])
    shell.assert_clean()


@pytest.mark.slow
def test_what_goes_on_talking_is_no_stall(shell: Shell) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done"
    assert shell.run("exec", "--stall-after", "2", "--", "sh", "-c", script).code == 0


@pytest.mark.slow
def test_memory_of_the_whole_tree_is_bounded(shell: Shell) -> None:
    hungry = "x = bytearray(400 << 20)\nimport time; time.sleep(600)"
    script = f"{python_words(hungry)} & {python_words(hungry)} & wait"
    done = shell.run("exec", "--memory", "512MiB", "--", "sh", "-c", script)
    assert done.code == 1
    reason = shell.show()["reason"]
    assert reason["code"] == "memory"
    assert "of 537 MB" in reason["message"], reason
    shell.assert_clean()


@pytest.mark.slow
def test_retry_tries_again_and_only_as_often_as_said(shell: Shell) -> None:
    script = "echo x >> tries; test $(wc -l < tries) -ge 3"
    done = shell.run("exec", "--retry", "1", "--", "sh", "-c", script)
    assert done.code == 1
    assert len(shell.show()["attempts"]) == 2
    again = shell.run("exec", "--retry", "1", "--", "sh", "-c", script)
    assert again.code == 0, again.err
    assert len((shell.cwd / "tries").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_flood_of_output_is_trimmed_and_its_tail_is_quick(shell: Shell) -> None:
    longest = 1 << 20
    line = "head -c 3000000 /dev/zero | tr '\\0' x; echo"
    script = f"i=0; while [ $i -lt 100 ]; do {line}; i=$((i+1)); done; echo the end"
    done = shell.run("exec", "--", "sh", "-c", script, UNJAM_LOG_MAX_BYTES=str(longest))
    assert done.code == 0, done.err
    [log] = (shell.home / "logs").rglob("1.log")
    assert log.stat().st_size > 300_000_000
    assert log.stat().st_blocks * 512 <= 2 * longest
    began = time.monotonic()
    tail = shell.run("logs", "@last", "-n", "1")
    assert tail.out == "the end\n"
    took = time.monotonic() - began
    began = time.monotonic()
    shell.run("ls")
    assert took < 3 * (time.monotonic() - began) + 0.5
    whole = shell.run("logs", "@last", "-n", "all")
    assert "were dropped]" in whole.err
    assert len(whole.out) <= 2 * longest


@pytest.mark.slow
def test_the_same_command_while_it_runs_is_refused_with_its_id(shell: Shell) -> None:
    """INV-DUP."""
    words = ["exec", "--", "sh", "-c", "echo $$ > pid; test -e go || exec sleep 600"]
    with shell.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_until(lambda: shell.jobs() and shell.jobs()[0]["state"] == "running", 20, "the first")
        ident = shell.jobs()[0]["id"]
        second = shell.run(*words)
        assert second.code == 4
        assert f"{ident} does this already" in second.err
        assert f"unjam watch {ident}" in second.err
        assert len(shell.jobs()) == 1
        cancelled = shell.run("cancel", ident)
        assert cancelled.code == 0
        assert first.wait(20) == 5
    job = shell.show()
    assert job["state"] == "cancelled"
    assert job["reason"]["code"] == "cancelled_by_user"
    (shell.cwd / "go").touch()
    assert shell.run(*words).code == 0
    assert shell.jobs()[0]["id"] == ident


@pytest.mark.slow
def test_killed_by_somebody_else_is_told_and_not_tried_again(shell: Shell) -> None:
    words = ["exec", "--", "sh", "-c", "echo $$ > pid; exec sleep 600"]
    with shell.start(*words, UNJAM_CONTAINMENT="tree") as process:
        marker = shell.cwd / "pid"
        wait_until(lambda: marker.exists() and marker.read_text().strip(), 20, "the command")
        os.kill(int(marker.read_text()), signal.SIGKILL)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1, err
    job = shell.show()
    assert job["reason"]["code"] == "crashed"
    assert "sh was killed by SIGKILL" in job["reason"]["message"]
    assert len(job["attempts"]) == 1
