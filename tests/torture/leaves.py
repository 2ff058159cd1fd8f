"""The job that misbehaves: everything a job can leave behind that a naive supervisor does not find.

A plain child, a child in its own session, a double-forked daemon, a double-forked daemon with an empty
environment and no open files, and a hopper that never keeps one pid for longer than a few milliseconds.
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SLEEP = "/bin/sleep"
SECONDS = 86_400  # longer than any run: what ended by itself would count as killed
COUNT = 5  # leaves that a job has alive once all are up (the hopper counts as one)


def argv(token: str) -> list[str]:
    """A command that does nothing for a day and carries the token where `ps` shows it."""
    return [SLEEP, f"{SECONDS}.{token}"]


def job(payload: dict[str, Any], channel: socket.socket) -> int:
    """Entry of an attempt. payload: `token` (digits), optional `hop` in seconds (0: no hopper) and
    `announce` to send b"up" on the channel when all leaves live. Never returns by itself."""
    grow(str(payload["token"]), float(payload.get("hop", 0.003)))
    if payload.get("announce"):
        channel.send(b"up")
    while True:
        time.sleep(60)


def grow(token: str, hop: float = 0.003) -> None:
    """Start all leaves below the calling process."""
    steps: list[Callable[[], object]] = [
        lambda: subprocess.Popen(argv(token)),
        lambda: subprocess.Popen(argv(token), start_new_session=True),
        lambda: daemon(argv(token)),
        lambda: daemon(argv(token), scrub=True),
    ]
    if hop:
        steps.append(lambda: hopper(hop))
    for step in steps:
        step()


def daemon(command: list[str], scrub: bool = False) -> None:
    """The classic double fork; `scrub`: with no environment and no files, as `env -i` and a careful daemon
    do."""
    running, not_yet = os.pipe()  # closed by exec: when this returns, the daemon is what it will be
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            if scrub:
                os.closerange(3, not_yet)
                os.closerange(not_yet + 1, 4096)
            os.execve(command[0], command, {} if scrub else dict(os.environ))
        os._exit(0)
    os.close(not_yet)
    os.waitpid(middle, 0)
    os.read(running, 1)
    os.close(running)


def hopper(hop: float) -> None:
    """A process that forks itself and exits every `hop` seconds: a one-pass kill never catches it."""
    if os.fork():
        return
    os.setsid()
    while True:
        time.sleep(hop)
        if os.fork():
            os._exit(0)


def alive(token: str) -> list[int]:
    """Pids of the leaves of that token which live (not the hopper: it carries no token)."""
    wanted = "\0".join(argv(token)).encode()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _command(pid) == wanted]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
    except OSError:
        return b""
