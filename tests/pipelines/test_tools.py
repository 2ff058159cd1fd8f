"""Tools inside an attempt: outputs read, ends told, nothing left behind."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.processes import Process, children_of
from unjam.errors import ToolMissing, UsageError
from unjam.pipelines.tools import ToolFailed, run_tool


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_arrives_and_stdin_is_closed(tmp_path: Path) -> None:
    got: list[bytes] = []
    code = "import sys; print(len(sys.stdin.read()), 'x' * 300_000)"
    result = run_tool(python(code), log_path=str(tmp_path / "log"), on_output=got.append)
    assert result.returncode == 0
    assert b"".join(got) == b"0 " + b"x" * 300_000 + b"\n"


def test_a_failure_carries_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old words\n")
    code = f"open({str(log)!r}, 'a').write('boring\\nthe reason\\n'); raise SystemExit(3)"
    with pytest.raises(ToolFailed, match="ended with exit code 3: the reason") as caught:
        run_tool(python(code), log_path=str(log))
    assert "old words" not in caught.value.result.tail


def test_a_signal_is_named(tmp_path: Path) -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(ToolFailed, match="was killed by SIGKILL"):
        run_tool(python(code), log_path=str(tmp_path / "log"))
    assert run_tool(python(code), log_path=str(tmp_path / "log"), check=False).returncode == -9


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "not found"),
        (lambda p: p.write_text("x"), "not executable"),
        (lambda p: (p.write_bytes(b"\0\1\2"), p.chmod(0o755)), "not a program that runs here"),
    ],
)
def test_what_is_no_program(tmp_path: Path, make: object, said: str) -> None:
    path = tmp_path / "tool"
    assert callable(make)
    make(path)
    with pytest.raises(ToolMissing, match=said):
        run_tool([path], log_path=str(tmp_path / "log"))


def test_a_missing_folder_is_told_apart_from_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        run_tool(["true"], log_path=str(tmp_path / "log"), cwd=tmp_path / "none")


@pytest.mark.timeout(20)
def test_a_grandchild_that_keeps_stdout_open_does_not_hold_us(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    got: list[bytes] = []
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen(['sleep', '300'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(p.pid)); print('done', flush=True)"
    )
    run_tool(python(code), log_path=str(tmp_path / "log"), on_output=got.append)
    assert b"".join(got) == b"done\n"
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_ticks_come_while_the_tool_is_silent(tmp_path: Path) -> None:
    ticks: list[float] = []
    code = "import time; time.sleep(0.9)"
    run_tool(python(code), log_path=str(tmp_path / "log"), on_tick=lambda: ticks.append(time.monotonic()))
    assert len(ticks) >= 3


class Stop(BaseException):
    pass


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_stop_terminates_the_tool_once_then_kills(tmp_path: Path, stubborn: bool) -> None:
    note = tmp_path / "terms"
    on_term = "None" if stubborn else "sys.exit(0)"
    code = (
        "import signal, sys, time\n"
        f"def term(*_): open({str(note)!r}, 'a').write('T'); {on_term}\n"
        "signal.signal(15, term); print('ready', flush=True)\n"
        "while True: time.sleep(1)"
    )
    others, seen = children_of({os.getpid()}), set[Process]()

    def ready(_: bytes) -> None:
        seen.update(children_of({os.getpid()}) - others)
        raise Stop

    with pytest.raises(Stop):
        run_tool(python(code), log_path=str(tmp_path / "log"), on_output=ready, patience=0.5)
    assert note.read_text() == "T", "a second TERM would make ffmpeg drop its trailer"
    assert seen
    assert not seen & children_of({os.getpid()})


def test_a_tool_that_says_nothing_wakes_nobody(tmp_path: Path) -> None:
    """Not even to look whether it has ended: its end is an event."""
    wakes = []
    for on_tick in (None, lambda: None):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        run_tool(["sleep", "2.2"], log_path=str(tmp_path / "log"), on_tick=on_tick)
        wakes.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before)
    assert wakes[0] + 3 <= wakes[1] <= wakes[0] + 6, wakes
