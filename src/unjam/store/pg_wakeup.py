"""Wake-up calls over PostgreSQL: NOTIFY reaches the workers of every machine. Hints, as everywhere."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable

import psycopg

from unjam.errors import UnjamError
from unjam.store.pg_connect import Place, connect
from unjam.store.wakeup import Listener, Waker

CHANNEL = "unjam"
RETRY_EVERY = 1.0
CLOSE_LIMIT = 1.0
"""Seconds that a worker which ends waits for its ear, which may be connecting to a frozen server."""


class Notifier(Waker):
    """Pokes whoever listens at the server. Never raises: the work it announces is committed already."""

    def __init__(self, notify: Callable[[], object]) -> None:
        super().__init__(list)
        self._notify = notify

    def poke(self) -> int:
        try:
            self._notify()
        except UnjamError:
            # A lost store is told to whoever asks it for something, not by a hint.
            return 0
        return 1


class PostgresListener(Listener):
    """A worker's ear at the server, and its socket beside it: notifications are passed on to that one, so
    there is one descriptor to wait on, and workers of one machine can still poke each other."""

    def __init__(self, where: Place, path: str) -> None:
        super().__init__(path)
        self._where = where
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, name="listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.close()
        self._thread.join(CLOSE_LIMIT)
        if not self._thread.is_alive():  # else it ends with the process, and still looks at this
            self._stopped.close()
        super().close()

    def _listen(self) -> None:
        waker = Waker(lambda: [self.path])
        try:
            while True:
                try:
                    if self._hear(waker):
                        return
                except psycopg.Error:
                    # The worker polls meanwhile, and its own calls say that the server is away.
                    if self._asked_to_stop(RETRY_EVERY):
                        return
        finally:
            waker.close()

    def _hear(self, waker: Waker) -> bool:
        """Pass calls on; True when asked to stop. Raises psycopg.Error when the connection is lost."""
        with connect(self._where) as connection:
            connection.execute(f"LISTEN {CHANNEL}".encode())
            # Something may have been missed before this moment.
            waker.poke()
            while True:
                if self._asked_to_stop(None, beside=connection.fileno()):
                    return True
                if list(connection.notifies(timeout=0)):
                    waker.poke()

    def _asked_to_stop(self, patience: float | None, *, beside: int | None = None) -> bool:
        """Wait for the request to stop, or until `beside` can be read, or for `patience` seconds."""
        poll = select.poll()
        stopped = self._stopped.fileno()
        for descriptor in (stopped, beside):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        ready = poll.poll(None if patience is None else patience * 1000)
        return any(descriptor == stopped for descriptor, _ in ready)
