"""What attempts do in the tests: entries of the kind function(payload, channel)."""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unjam.supervise import linux
from unjam.supervise.mark import get_mark

Payload = dict[str, Any]


def nothing(_payload: Payload, _channel: socket.socket) -> int:
    return 0


def code(payload: Payload, _channel: socket.socket) -> int:
    return int(payload["code"])


def leave_by_exit(_payload: Payload, _channel: socket.socket) -> int:
    sys.exit(9)


def die_by_signal(_payload: Payload, _channel: socket.socket) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def fail(_payload: Payload, _channel: socket.socket) -> int:
    raise RuntimeError("the entry went wrong")


def touch(payload: Payload, _channel: socket.socket) -> int:
    Path(payload["path"]).write_text("ran")
    return 0


def speak(_payload: Payload, _channel: socket.socket) -> int:
    print("python speaks")
    print("python complains", file=sys.stderr)
    subprocess.run(["/bin/sh", "-c", "echo the child speaks; echo the child complains >&2"], check=True)
    return 0


def speak_then_sleep(_payload: Payload, channel: socket.socket) -> int:
    print("a line before the kill")
    channel.send(b"said")
    return sleep({}, channel)


def sleep(payload: Payload, channel: socket.socket) -> int:
    if payload.get("announce"):
        channel.send(b"up")
    time.sleep(payload.get("seconds", 600))
    return 0


def echo(_payload: Payload, channel: socket.socket) -> int:
    while message := channel.recv(65536):
        channel.send(message[::-1])
    return 0


def size_of_payload(payload: Payload, channel: socket.socket) -> int:
    channel.send(str(len(payload["text"])).encode())
    return 0


def situation(_payload: Payload, channel: socket.socket) -> int:
    """What an attempt finds around itself, one fact a line."""
    facts = {
        "pid": os.getpid(),
        "proc_self": os.readlink("/proc/self"),
        "session_leader": os.getsid(0) == os.getpid(),
        "cwd": os.getcwd(),
        "mark": get_mark(os.getpid()),
        "greeting": os.environ.get("GREETING"),
        "blas": os.environ.get("OPENBLAS_NUM_THREADS"),
        "keeper": os.environ.get("UNJAM_KEEPER_FD"),
        "oom": Path("/proc/self/oom_score_adj").read_text().strip(),
        "nice": os.nice(0),
        "fds": sorted(map(int, os.listdir("/proc/self/fd"))),
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "json_preloaded": "colorsys" in sys.modules,
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "executable": Path("/proc/self/cmdline").read_bytes().split(b"\0")[3].decode(),
    }
    channel.send("\n".join(f"{key}={value}" for key, value in facts.items()).encode())
    return 0


def who_am_i(payload: Payload, channel: socket.socket) -> int:
    """Ids, capabilities and user namespace; makes a file, and tries to take its /proc away."""
    Path(payload["path"]).write_text("made")
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    facts = {
        "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()],
        "groups": os.getgroups(),
        "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
        "namespace": os.readlink("/proc/self/ns/user"),
        "unmounts_proc": ctypes.CDLL(None).umount2(b"/proc", 2) == 0,
        "read": Path(payload["secret"]).read_text() if "secret" in payload else None,
    }
    channel.send(json.dumps(facts).encode())
    return 0


def count_terms(payload: Payload, channel: socket.socket) -> int:
    """Counts SIGTERMs, and sends the count when asked."""
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    channel.send(b"up")
    end = time.monotonic() + payload.get("seconds", 600)
    while time.monotonic() < end:
        time.sleep(0.05)
    channel.send(str(len(seen)).encode())
    return 0


def leave_daemons(_payload: Payload, _channel: socket.socket) -> int:
    subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sleep", ["/bin/sleep", "600"], {})
        os._exit(0)
    return 0


def leave_on_term(_payload: Payload, channel: socket.socket) -> int:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
    channel.send(b"up")
    time.sleep(600)
    return 0


def spin(payload: Payload, channel: socket.socket) -> int:
    """Two busy processes and some memory, for as long as asked."""
    ballast = bytearray(payload["bytes"])
    ballast[::4096] = b"x" * len(ballast[::4096])
    if os.fork() == 0:
        channel.close()
    end = time.monotonic() + payload["seconds"]
    while time.monotonic() < end:
        pass
    return 0


def grow_memory(_payload: Payload, _channel: socket.socket) -> int:
    held = []
    while True:
        block = bytearray(4 << 20)
        block[::4096] = b"x" * len(block[::4096])
        held.append(block)
        time.sleep(0.02)


def wait_for_a_hungry_child(payload: Payload, channel: socket.socket) -> int:
    """Of a tree whose child is killed for memory: sleeps for ever, or ends with the code asked for."""
    if os.fork() == 0:
        grow_memory({}, channel)
    os.wait()
    return int(payload["code"]) if "code" in payload else sleep({}, channel)


def write_on(payload: Payload, channel: socket.socket) -> int:
    with open(payload["path"], "wb", buffering=0) as file:
        channel.send(b"up")
        while True:
            file.write(b"x" * 4096)
            file.seek(0)
            time.sleep(0.01)


# -- every way to hang -------------------------------------------------------------------------------------


def _native_sleep() -> None:
    ctypes.PyDLL(None).sleep(600)  # holds the GIL


def _regex() -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")  # a loop in C, no handler ever runs


def _handler_that_cannot_run() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    mutex, libc = ctypes.create_string_buffer(64), ctypes.PyDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def _ignore_everything() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:
            continue  # glibc keeps two real-time signals to itself
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(600)


def _stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)


def _deadlock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _kill_own_group() -> None:
    os.kill(0, signal.SIGKILL)


def _guardian() -> int:
    """Our parent in tree containment."""
    return os.getppid()


def _stop_guardian() -> None:
    os.kill(_guardian(), signal.SIGSTOP)
    time.sleep(600)


def _kill_guardian() -> None:
    subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    os.kill(_guardian(), signal.SIGKILL)
    time.sleep(600)


def _vfork() -> None:
    """The parent waits in state D (killable) for its vfork child."""
    libc = ctypes.CDLL(None)
    if libc.vfork() == 0:
        libc.sleep(600)
    time.sleep(600)


def _full_pipe() -> None:
    child = subprocess.Popen(["/bin/sleep", "600"], stdin=subprocess.PIPE)
    assert child.stdin
    child.stdin.write(b"x" * 10_000_000)


def _flood() -> None:
    for _ in range(100):
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
    time.sleep(600)


def _spinners() -> None:
    for _ in range(2):
        if os.fork() == 0:
            break
    while True:
        pass


def _threads_gone_by_fork() -> None:
    """A library whose threads were started before the fork, and a handler that then never runs."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    decode_on({}, None)
    time.sleep(600)


def decode_on(_payload: Payload, _channel: socket.socket | None) -> int:
    """Hangs when the module was imported before the fork, and only then."""
    from tests.supervise.decoder_before_fork import FRAMES

    return 0 if sum(1 for _ in zip(range(50), FRAMES, strict=False)) == 50 else 1


HANGS: dict[str, Callable[[], None]] = {
    "native_sleep": _native_sleep,
    "regex": _regex,
    "handler_that_cannot_run": _handler_that_cannot_run,
    "ignore_everything": _ignore_everything,
    "stop_itself": _stop_itself,
    "deadlock": _deadlock,
    "kill_own_group": _kill_own_group,
    "stop_guardian": _stop_guardian,
    "kill_guardian": _kill_guardian,
    "vfork": _vfork,
    "full_pipe": _full_pipe,
    "flood": _flood,
    "spinners": _spinners,
    "threads_gone_by_fork": _threads_gone_by_fork,
}


def hang(payload: Payload, channel: socket.socket) -> int:
    channel.send(str(linux.boottime()).encode())
    HANGS[payload["kind"]]()
    return 0
