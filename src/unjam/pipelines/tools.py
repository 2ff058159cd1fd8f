"""Runs a tool inside an attempt: never an unread pipe, never a stdin to wait on, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unjam.errors import ToolMissing, UnjamError
from unjam.jobs.reasons import ReasonCode

STOP_SECONDS = 3.0
"""How long a tool may take to end after TERM when its attempt is stopping; the guardian kills what is left."""
TAIL_BYTES = 4000


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
            how = f"was killed by {signal.Signals(-result.returncode).name}"
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
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> ToolResult:
    """Run to the end. stderr goes to the attempt's own stderr (its log file); stdout there too, or to `on_output`.

    When the attempt is stopped meanwhile the tool gets one TERM (a second would make ffmpeg drop its trailer), a few
    seconds, then KILL. Raises ToolMissing, ToolFailed.
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
        raise ToolMissing(f"{words[0]}: not found; is it installed?") from error
    except PermissionError as error:
        raise ToolMissing(f"{words[0]}: not executable: {error.strerror}") from error
    try:
        if on_output is not None and process.stdout is not None:
            while block := process.stdout.read(65536):
                on_output(block)
        process.wait()
    finally:
        _end(process)
    result = ToolResult(words, process.returncode, _tail(log_path, log_start))
    if check and result.returncode != 0:
        raise ToolFailed(result)
    return result


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
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
