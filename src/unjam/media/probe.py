"""Looks into a file from a child process with a time limit: a demuxer that hangs or crashes costs only
itself."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from unjam.errors import InputBad, UnjamError
from unjam.jobs.reasons import ReasonCode
from unjam.measures import show_signal
from unjam.media.files import check_readable
from unjam.media.model import Probe
from unjam.supervise import linux

SILENCE_SECONDS = 60.0
"""Without a new packet for this long the demuxer hangs."""
TELL_EVERY = 0.2
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}

OnProgress = Callable[[float, str], None]
"""Told (fraction, evidence)."""
Reader = Callable[[str, Callable[[int, int], None]], Probe]


def probe(
    path: Path,
    *,
    on_progress: OnProgress | None = None,
    silence: float = SILENCE_SECONDS,
    reader: Reader | None = None,
) -> Probe:
    """What `path` holds: streams, and the timestamp of every frame.

    `silence`: seconds without a packet after which the child is killed. `reader`: what runs in the child.
    Raises InputBad (also when the demuxer hung or crashed), InputMissing, NotPermitted.
    """
    size = check_readable(path).st_size
    said, wait_status = _in_child(path, reader or _demuxer(), size, on_progress, silence)
    if os.WIFSIGNALED(wait_status):
        raise _killed(path, os.WTERMSIG(wait_status))
    if wait_status != 0 or not said:
        raise UnjamError(f"{path}: the probe ended without an answer", code=ReasonCode.CRASHED)
    answer = json.loads(said)
    if "error" not in answer:
        return Probe.from_json(answer)
    text = f"{path}: {answer['error']}"
    raise (
        InputBad(text)
        if answer["code"] == ReasonCode.INPUT_BAD
        else UnjamError(text, code=ReasonCode(answer["code"]))
    )


def _demuxer() -> Reader:
    # Not at the top: whoever only wants this module's names should not pay for PyAV.
    from unjam.media.demux import read

    return read


def _killed(path: Path, number: int) -> UnjamError:
    if number in _CRASHES:
        return InputBad(
            f"{path}: reading it crashed the demuxer ({show_signal(number)}); the file is damaged or hostile"
        )
    return UnjamError(f"{path}: the probe was killed by {show_signal(number)}", code=ReasonCode.CRASHED)


def _in_child(
    path: Path, reader: Reader, size: int, on_progress: OnProgress | None, silence: float
) -> tuple[bytes, int]:
    parent = os.getpid()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _child(parent, path, reader, write_end)
    os.close(write_end)
    reaped = False
    try:
        said = _listen(read_end, path, size, on_progress, silence)
        _, wait_status = os.waitpid(pid, 0)
        reaped = True
    finally:
        os.close(read_end)
        if not reaped:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return said, wait_status


def _child(parent: int, path: Path, reader: Reader, write_end: int) -> NoReturn:
    # Nothing of the parent may run here: not its handlers, not its exit hooks, not its `finally` blocks.
    try:
        linux.set_death_signal(signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if os.getppid() != parent:
            os._exit(1)
        _write_all(write_end, _answer(path, reader, write_end))
        os._exit(0)
    finally:
        os._exit(1)


def _answer(path: Path, reader: Reader, write_end: int) -> bytes:
    told = 0.0

    def on_packets(count: int, position: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic()
            _write_all(write_end, b"%d %d\n" % (count, position))

    try:
        body = reader(str(path), on_packets).as_json()
    except UnjamError as error:
        body = {"error": str(error), "code": error.code}
    except MemoryError:
        body = {"error": "reading it took more memory than there is", "code": ReasonCode.MEMORY}
    except Exception as error:  # noqa: BLE001 - the child's last frame: what went wrong is told to the parent
        body = {"error": f"{type(error).__name__}: {error}", "code": ReasonCode.INTERNAL_ERROR}
    return b"=" + json.dumps(body).encode() + b"\n"


def _listen(fd: int, path: Path, size: int, on_progress: OnProgress | None, silence: float) -> bytes:
    """The child's answer, or b"" when it ended without one."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    blocks: list[bytes] = []
    while True:
        if not poller.poll(silence * 1000):
            raise InputBad(f"{path}: the demuxer hangs on it (nothing read for {silence:g} s)")
        block = os.read(fd, 1 << 16)
        if not block:
            break
        if blocks or block.startswith(b"="):
            blocks.append(block)
            continue
        lines, equals, rest = block.partition(b"=")
        if equals:
            blocks.append(equals + rest)
        if on_progress and (words := lines.split()):
            count, position = words[-2:] if len(words) > 1 else (words[0], b"0")
            on_progress(min(1.0, int(position) / size), count.decode())
    return b"".join(blocks)[1:]


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
