"""Wake-up calls between processes of one machine: hints that make a worker look at the store sooner than its
poll.

A worker binds a datagram socket and names it in its row; whoever submits or asks something pokes the
workers it knows. A call may be lost: a full buffer, a dead socket, a path that cannot be used. Polling is
the floor.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from unjam.errors import UnjamError

LONGEST = 100
"""Bytes of a socket path that fit sun_path (108 with its end) on every system we run on."""
REMEMBERED = 2.0
"""Seconds a list of workers is used again: looking for them at every submission cost more than its insert."""


class Listener:
    """A worker's ear. Register `fileno()` for reading and call `drain()` when it is readable."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            Path(path).unlink(missing_ok=True)
            with _short(path) as name:
                self._socket.bind(name)
            os.chmod(path, 0o600)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> int:
        """Take all calls that wait; returns how many."""
        calls = 0
        while True:
            try:
                self._socket.recv(16)
            except BlockingIOError:
                return calls
            calls += 1

    def close(self) -> None:
        self._socket.close()
        Path(self.path).unlink(missing_ok=True)


class Waker:
    """Pokes listeners. Never blocks, never raises: the work it announces is committed already."""

    def __init__(
        self, find: Callable[[], Sequence[str]], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._find = find
        self._now = now
        self._paths: Sequence[str] = ()
        self._found_at = float("-inf")
        self._socket: socket.socket | None = None

    def poke(self) -> int:
        """Wake every known worker; returns how many calls were delivered."""
        now = self._now()
        if now - self._found_at > REMEMBERED:
            self._found_at = now
            try:
                self._paths = self._find()
            except UnjamError:
                # A locked or lost store is told to whoever asks it for something, not by a hint.
                self._paths = ()
        return sum(self._send(path) for path in self._paths)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, path: str) -> bool:
        if self._socket is None:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)
        try:
            with _short(path) as name:
                self._socket.sendto(b"!", name)
        except OSError:
            # A full buffer means the worker is awake; a missing or dead socket has nobody behind it.
            return False
        return True


class _short:  # noqa: N801 - used like a function
    """A name for the socket at `path` that fits sun_path: a long folder is reached through its descriptor."""

    __slots__ = ("_folder", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder: int | None = None

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= LONGEST:
            return self._path
        folder, name = os.path.split(self._path)
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/{name}"

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            os.close(self._folder)
