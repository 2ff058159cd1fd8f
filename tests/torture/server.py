"""The database server under torture. It belongs to the outer process, its parent, and is a stranger to the
inner one, which can only ask for what is to be done to it."""

import json
import os
import random
import select
import signal
import socket
import time
from dataclasses import asdict, dataclass

import psutil

from tests.postgres import Server

ONE, ALL, STOP, FREEZE = "pg-one", "pg-all", "pg-stop", "pg-freeze"
KINDS = (ONE, ALL, STOP, FREEZE)
"""One of its processes is killed, and it recovers by itself; all of them are, and it is started anew at once;
it is stopped in good order (for a while, or not) and started; it is stopped by SIGSTOP for a while."""
LONGEST = 12.0
"""Seconds that it is away on purpose at most: longer than the patience of a call (postgres.PATIENCE)."""
SHORTEST_FREEZE = 2.0
_LARGEST = 1 << 16
_READY, _GO = b"ready", b"go"


@dataclass(frozen=True, slots=True)
class Order:
    """`seconds`: how long it is away on purpose. `draw`: chooses the victim, 0 <= draw < 1."""

    kind: str
    seconds: float
    draw: float


@dataclass(frozen=True, slots=True)
class Outage:
    """`began`, `ended`: CLOCK_MONOTONIC seconds of the strike and of the first answer after it."""

    kind: str
    began: float
    ended: float
    told: str

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Operator:
    """The outer side: does what is asked to the server, and says when it answers again."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._began = 0.0
        self.theirs.set_inheritable(True)  # another user's process is a program of its own

    def serve(self, child: int) -> None:
        """Until this child of ours has ended."""
        pidfd = os.pidfd_open(child)
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.register(self._ours, select.POLLIN)
            while pidfd not in dict(poller.poll()):
                outage = self._strike(Order(**json.loads(self._ours.recv(_LARGEST))))
                self._ours.send(json.dumps(asdict(outage)).encode())
        finally:
            os.close(pidfd)

    def _strike(self, order: Order) -> Outage:
        told = f"for {order.seconds:.1f} s"
        if order.kind == ONE:
            told = self._kill_one(order)
        elif order.kind == ALL:
            self._now()
            self._server.kill()
            self._server.start()
            told = "started at once"
        elif order.kind == STOP:
            self._now()
            self._server.stop(signal.SIGINT)
            time.sleep(order.seconds)
            self._server.start()
        else:
            self._now()
            with self._server.frozen():
                time.sleep(order.seconds)
        return Outage(order.kind, self._began, time.monotonic(), told)

    def _kill_one(self, order: Order) -> str:
        while True:
            try:
                return self._server.kill_one(order.draw, self._now)
            except psutil.NoSuchProcess:
                continue  # it has just ended by itself

    def _now(self) -> None:
        """All is prepared: the blow falls when the inner side says so."""
        self._ours.send(_READY)
        self._ours.recv(_LARGEST)
        self._began = time.monotonic()

    def close(self) -> None:
        self._ours.close()
        self.theirs.close()


class Remote:
    """The inner side."""

    def __init__(self, fd: int, longest: float = LONGEST) -> None:
        """`fd`: of `Operator.theirs`. `longest`: seconds of an outage on purpose."""
        self._socket = socket.socket(fileno=os.dup(fd))
        self._socket.setblocking(False)
        self._longest = longest
        self._kinds: list[str] = []
        self._away = False
        self.last: Outage | None = None
        """The newest that is over."""

    def choose(self, rng: random.Random) -> Order:
        """All kinds, in any order, before one comes again: a short run has them all."""
        if not self._kinds:
            self._kinds = rng.sample(KINDS, len(KINDS))
        kind = self._kinds.pop()
        seconds = {
            FREEZE: rng.uniform(SHORTEST_FREEZE, self._longest),
            STOP: rng.choice([0.0, rng.uniform(0.0, self._longest)]),
        }
        return Order(kind, seconds.get(kind, 0.0), rng.random())

    def close(self) -> None:
        self._socket.close()

    def prepare(self, order: Order) -> None:
        """Returns when nothing is left to do but to strike."""
        self._socket.setblocking(True)
        self._socket.send(json.dumps(asdict(order)).encode())
        self._received(self._socket.recv(_LARGEST))
        self._socket.setblocking(False)

    def strike(self) -> None:
        """Less than a millisecond later the blow falls."""
        self._away = True
        self._socket.send(_GO)

    def is_away(self) -> bool:
        """It may be: the operator has not said that it answers again."""
        if self._away:
            try:
                data = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return True
            self._away, self.last = False, Outage(**json.loads(self._received(data)))
        return False

    @staticmethod
    def _received(data: bytes) -> bytes:
        if not data:
            raise RuntimeError("the server's operator is gone")
        return data
