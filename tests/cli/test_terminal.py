"""Names that hold control characters reach a terminal as text, and a program as they are."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from tests.e2e.shell import Shell
from unjam.cli.logs import on_screen
from unjam.worker.shared import WorkerState

EVIL = "a\x1bc\x1b]0;owned\x07\n0000 done.mov"
"""Resets the screen, sets its title, and forges a line."""
SHOWN = "a\\x1bc\\x1b]0;owned\\x07\\n0000 done"


def on_a_terminal(terminal: Shell, *args: str) -> bytes:
    """All that a person's terminal gets."""
    ours, theirs = os.openpty()
    env = {**terminal.env, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-m", "unjam.cli.main", *args],
        cwd=terminal.cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ):  # fmt: skip
        os.close(theirs)
        said = b""
        while block := _read(ours):
            said += block
    os.close(ours)
    return said


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # how Linux says that nobody has the other end any more
        return b""


@pytest.mark.parametrize(
    "args",
    [
        ("convert", EVIL, "--dry-run"),
        ("convert", EVIL, "--detach"),
        ("show", "@last"),
        ("ls",),
        ("convert", f"{EVIL}.gone"),
        ("queues", "pause", EVIL),
    ],
    ids=lambda args: " ".join(args).replace(EVIL, "EVIL"),
)
def test_nothing_of_a_name_is_obeyed(terminal: Shell, args: tuple[str, ...]) -> None:
    terminal.file(EVIL)
    terminal.quick("convert", EVIL, "-o", "out", "--detach")
    said = on_a_terminal(terminal, *args)
    assert b"\x1b" not in said
    assert b"\x07" not in said
    if "--detach" not in args:
        assert SHOWN[:12].encode() in said


def test_a_program_gets_the_name_as_it_is(terminal: Shell) -> None:
    terminal.file(EVIL)
    assert EVIL in terminal.quick("convert", EVIL, "--dry-run").out


def test_a_log_keeps_its_colours_and_nothing_that_moves_the_cursor() -> None:
    log = b"\x1b[1;31mred\x1b[0m\tcol\r\n50 %\r60 %\r\x1b[2J\x1b]0;t\x07\xff end\n"
    assert on_screen(log).decode() == (
        "\x1b[1;31mred\x1b[0m\tcol\n50 %\n60 %\n\\x1b[2J\\x1b]0;t\\x07\\xff end\n"
    )


def test_a_worker_says_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    WorkerState.say(cast(Any, None), f"j1 {EVIL}: started")
    assert capsys.readouterr().err[9:] == f"j1 {SHOWN}.mov: started\n"
