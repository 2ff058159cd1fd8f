"""Runs a tool inside an attempt: never an unread pipe, never a stdin to wait on, never left behind."""

from __future__ import annotations

import errno
import os
import select
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unjam.errors import ToolMissing, UnjamError, UsageError
from unjam.jobs.reasons import ReasonCode
from unjam.measures import show_signal

STOP_SECONDS = 3.0
"""How long a tool may take to end after TERM when its attempt is stopping; the guardian kills what is
left."""
TAIL_BYTES = 4000
PIPE_BYTES = 65536
"""All that a pipe holds (the kernel's default), so that one read empties it."""
TICK = 0.5
"""Seconds between two looks at a tool that says nothing: as often as its attempt may tell its worker."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """How a tool ended: exit code (negative: the signal), and the end of what it wrote to the log."""

    argv: tuple[str, ...]
    returncode: int
    tail: str


class ToolFailed(UnjamError):
    """A tool ended with an error of its own, or was killed."""

    code = ReasonCode.CRASHED

    def __init__(self, result: ToolResult) -> None:
        tool = os.path.basename(result.argv[0])
        if result.returncode < 0:
            how = f"was killed by {show_signal(-result.returncode)}"
        else:
            how = f"ended with exit code {result.returncode}"
        last = result.tail.strip().splitlines()[-1:] or [""]
        super().__init__(f"{tool} {how}" + (f": {last[0].strip()}" if last[0] else ""))
        self.result = result


def run_tool(
    argv: Sequence[str | Path],
    *,
    log_path: str,
    on_output: Callable[[bytes], None] | None = None,
    on_tick: Callable[[], None] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    patience: float | None = STOP_SECONDS,
) -> ToolResult:
    """Run to the end. stderr goes to the attempt's own stderr (its log file); stdout there too, or to
    `on_output`.

    `on_tick` is called twice a second while the tool runs. When the attempt is stopped meanwhile the
    tool gets one TERM (a second would make ffmpeg drop its trailer), `patience` seconds, then KILL; with None
    it is left to the guardian to kill it. Raises ToolMissing, ToolFailed.
    """
    words = tuple(os.fspath(a) for a in argv)
    log_start = _size(log_path)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if on_output else 2,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            bufsize=0,
        )
    except FileNotFoundError as error:
        if cwd is not None and not os.path.isdir(cwd):
            raise UsageError(f"{cwd}: no such folder to run {words[0]} in") from error
        raise ToolMissing(f"{words[0]}: not found; is it installed?") from error
    except PermissionError as error:
        from shutil import which  # in here: its compressors would cost every fork of a zygote

        if "/" not in words[0] and which(words[0]) is None:
            # A folder on PATH that may not be read: nothing is known of the program but that it is not there.
            raise ToolMissing(f"{words[0]}: not found; is it installed?") from error
        raise ToolMissing(f"{words[0]}: not executable: {error.strerror}") from error
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        raise ToolMissing(f"{words[0]}: not a program that runs here: {error.strerror}") from error
    try:
        _follow(process, on_output, on_tick)
    finally:
        _end(process, patience)
    result = ToolResult(words, process.returncode, _tail(log_path, log_start))
    if check and result.returncode != 0:
        raise ToolFailed(result)
    return result


def _follow(
    process: subprocess.Popen[bytes],
    on_output: Callable[[bytes], None] | None,
    on_tick: Callable[[], None] | None,
) -> None:
    """Until the tool has ended. A child it left behind may hold its stdout open for ever: its own end
    counts."""
    poller = select.poll()
    pidfd = os.pidfd_open(process.pid)
    out = process.stdout.fileno() if process.stdout is not None else None
    patience = None if on_tick is None else TICK * 1000  # nothing to do without a word of the tool: no wake
    try:
        poller.register(pidfd, select.POLLIN)
        if out is not None:
            poller.register(out, select.POLLIN)
        ended = False
        while True:
            ready = {fd for fd, _ in poller.poll(0 if ended else patience)}
            if on_tick is not None:
                on_tick()
            if out is not None and on_output is not None and out in ready:
                if block := os.read(out, PIPE_BYTES):
                    on_output(block)
                else:
                    poller.unregister(out)
                    out = None
            if ended:
                return
            ended = pidfd in ready  # once more round, for what it left in the pipe
    finally:
        os.close(pidfd)


def _end(process: subprocess.Popen[bytes], patience: float | None) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _tail(path: str, start: int) -> str:
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
