"""Every way to be wrong: its exit code and a sentence that says what, which file, what to do."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.shell import Shell


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["lss"], 2, "did you mean ls?"),
        (["ls", "--nope"], 2, "No such option"),
        (["ls", "--state", "jammed"], 2, "--state jammed"),
        (["--set", "grace=-1", "ls"], 2, "grace"),
        (["--set", "nothing=1", "ls"], 2, "nothing"),
        (["show", "j0000"], 3, "no job or batch of this id"),
        (["show", "@last"], 3, "nothing was submitted"),
        (["logs", "@last"], 3, "nothing was submitted"),
        (["run", "convrt", "a.mov"], 3, "did you mean convert?"),
        (["convert"], 2, "needs an input"),
        (["convert", "gone.mov"], 8, "gone.mov: no such file"),
        (["convert", "*.avi"], 8, "no file matches"),
        (["convert", "empty.mov"], 8, "is empty (0 bytes)"),
        (["convert", "pipe.mov"], 8, "a named pipe"),
        (["convert", "/dev/null"], 8, "a character device"),
        (["convert", "folder"], 8, "no file in this folder ends in one of"),
        (["convert", "good.bin", "--preset", "mp5", "-o", "out"], 2, "preset"),
        (["convert", "good.bin", "-p", "preset", "-o", "out"], 2, "KEY=VALUE"),
        (["convert", "good.bin", "-p", "crf=ninety", "-o", "out"], 2, "crf"),
        (["convert", "good.bin", "-p", "crf=90", "-o", "out"], 2, "crf"),
        (["convert", "good.bin", "-o", "good.bin/out"], 1, "cannot be made"),
        (["convert", "good.bin", "--timeout", "soon", "-o", "out"], 2, "not a duration"),
        (["convert", "good.bin", "--timeout", "0", "-o", "out"], 2, "more than 0"),
        (["convert", "s3://bucket/x.mov"], 2, "not built yet"),
        (["exec"], 2, "COMMAND"),
    ],
)
def test_exit_codes_and_sentences(terminal: Shell, args: list[str], code: int, words: str) -> None:
    terminal.file("empty.mov", b"")
    terminal.file("good.bin")
    terminal.file("folder/notes.txt")
    os.mkfifo(terminal.cwd / "pipe.mov")
    said = terminal.quick(*args)
    assert said.code == code, said.err
    assert words in said.err
    assert said.err.startswith("unjam: ")
    assert said.out == ""
    assert "Traceback" not in said.err
    assert not (terminal.cwd / "out").exists()


def test_output_equal_to_input(terminal: Shell) -> None:
    terminal.file("a.mp4")
    said = terminal.run("convert", "a.mp4")
    assert said.code == 2
    assert "output and input at once; choose another folder with -o" in said.err


def test_a_store_that_is_none(terminal: Shell) -> None:
    terminal.file("notes.db", b"these are notes, not a database\n" * 100)
    said = terminal.run("--store", "notes.db", "ls")
    assert said.code == 7
    assert "notes.db" in said.err


def test_a_store_that_cannot_be_made(terminal: Shell) -> None:
    said = terminal.run("--store", "no/such/folder/jobs.db", "ls")
    assert said.code == 7
    assert "no/such/folder" in said.err


def test_an_unknown_variable_of_ours(terminal: Shell) -> None:
    terminal.env["UNJAM_STOER"] = "x"
    said = terminal.run("ls")
    assert said.code == 2
    assert "did you mean UNJAM_STORE?" in said.err


def test_a_closed_pipe_ends_silently_with_0(terminal: Shell) -> None:
    for number in range(300):
        terminal.file(f"in/{number}.mov")
    assert terminal.quick("convert", "in", "-o", "out", "--detach").code == 0
    reader, writer = os.pipe()
    process = terminal.start("ls", "-n", "0", "--json", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    os.read(reader, 10)
    os.close(reader)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")


def test_a_full_device_is_an_error_and_not_silence(terminal: Shell) -> None:
    if not Path("/dev/full").exists():
        pytest.fail("this system has no /dev/full")
    with open("/dev/full", "wb") as full:
        process = terminal.start("config", "show", stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"No space left" in err
    assert b"Traceback" not in err
