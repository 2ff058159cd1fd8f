"""The attempt's own side: the steps between the fork and the user's code, and the call into that code."""

import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from unjam.supervise import linux, priority, protocol

Entry = Callable[[dict[str, Any], socket.socket], "int | None"]

ENTRY_FAILED = 70  # EX_SOFTWARE: the entry raised; its traceback is in the log
_RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGCONT)


def run(request: Mapping[str, Any], channel_fd: int) -> NoReturn:
    """Become the attempt of this request; never returns. stdout and stderr are the log already."""
    code = ENTRY_FAILED
    try:
        _settle(request)
        if request["isolation"] == "spawn":
            _exec_fresh(request, channel_fd)
        code = call(request["entry"], request["payload"], channel_fd)
    except BaseException:  # noqa: BLE001 - the last frame of this process: only the log can be told
        traceback.print_exc()
    finally:
        leave(code)


def _settle(request: Mapping[str, Any]) -> None:
    linux.set_name("uj:" + request["name"])
    os.environ.update(request["env"])
    priority.yield_to_others(request["limits"]["nice"], request["limits"]["ionice_idle"])
    os.chdir(request["cwd"])
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    # Blocked since before the fork, so a TERM that came meanwhile ends us now instead of being lost to
    # SIG_IGN.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _exec_fresh(request: Mapping[str, Any], channel_fd: int) -> NoReturn:
    """A new interpreter for code that must not run after a fork (CUDA, torch). PDEATHSIG, mark and limits
    stay."""
    wire = {key: request[key] for key in ("name", "entry", "payload")} | {"path": sys.path}
    request_fd = protocol.anonymous_file(json.dumps(wire).encode())
    for fd in (channel_fd, request_fd):
        os.set_inheritable(fd, True)
    argv = [sys.executable, "-P", "-m", "unjam.supervise.attempt", str(channel_fd), str(request_fd)]
    os.execv(argv[0], argv)


def call(entry: str, payload: dict[str, Any], channel_fd: int) -> int:
    """Import the entry and call it. SystemExit counts as its exit code, any other exception as
    ENTRY_FAILED."""
    # A log must be readable while the attempt runs, and a SIGKILL must not take the last lines with it.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    channel = socket.socket(fileno=channel_fd)
    try:
        return resolve(entry)(payload, channel) or 0
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        sys.stderr.write(f"{stop.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - user code may raise anything; the log keeps it
        traceback.print_exc()
        return ENTRY_FAILED


def resolve(entry: str) -> Entry:
    """'package.module:function' as the function."""
    module, _, name = entry.partition(":")
    found: Entry = getattr(importlib.import_module(module), name)
    return found


def leave(code: int) -> NoReturn:
    """End at once. atexit and forgotten threads must not hold up an attempt whose work is done
    (INV-DEADLINE)."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # a full disk, or a stream the user's code closed: nobody is left to tell
    os._exit(code & 0xFF)


def main() -> NoReturn:
    """Entry of the fresh interpreter of `isolation="spawn"`."""
    channel_fd, request_fd = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(channel_fd, False)
    request = json.loads(protocol.read_file(request_fd))
    linux.set_name("uj:" + request["name"])
    sys.path += [path for path in request["path"] if path not in sys.path]
    leave(call(request["entry"], request["payload"], channel_fd))


if __name__ == "__main__":
    main()
