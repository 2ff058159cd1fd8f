"""The attempt's end of the channel to its worker: send, or ask and wait for the answer."""

from __future__ import annotations

import socket
import threading
from typing import Protocol

from unjam.errors import LeaseLost, UnjamError
from unjam.jobs.messages import (
    Ack,
    BadMessage,
    Decoder,
    Finished,
    Message,
    PlanProposed,
    Refused,
    StageEnded,
    Stop,
    UnitCommitted,
    encode,
)
from unjam.jobs.reasons import ReasonCode
from unjam.supervise.faults import NOBODY_HELD, FaultPoints

_BEFORE: dict[type[Message], str] = {
    UnitCommitted: "unit_sealed", StageEnded: "stage_finished", Finished: "sealed",
}  # fmt: skip
"""Fault points of an attempt: it tells its worker of every step, so here all of them come by."""


class Channel(Protocol):
    """What a Context needs of its worker. Tests use an in-memory one (pipelines/testing.py)."""

    def send(self, message: Message) -> None:
        """Tell; no answer is awaited."""

    def ask(self, message: Message) -> Message:
        """Ask, and return the answer. Raises LeaseLost when the worker is gone, UnjamError when it
        refuses."""

    def why_stopped(self) -> Stop | None:
        """What the worker said before it had the attempt signalled, if anything."""


class SocketChannel:
    """A channel over the SEQPACKET socket that the guardian passed on. Safe for several threads."""

    def __init__(self, sock: socket.socket, *, name: str = "", faults: FaultPoints = NOBODY_HELD) -> None:
        self._sock = sock
        self._name = name
        self._faults = faults
        self._sock.setblocking(True)
        self._decoder = Decoder()
        self._lock = threading.RLock()
        self._stop: Stop | None = None
        self.stopped: BaseException | None = None
        """What the TERM handler raised. It is raised again at the attempt's next word: Python swallows what
        is raised in a destructor or in a hook of fork(), and the stop would be lost until the KILL."""

    def send(self, message: Message) -> None:
        if self.stopped is not None and threading.current_thread() is threading.main_thread():
            raise self.stopped
        if (point := _BEFORE.get(type(message))) is not None:
            self._faults.pass_by(point, self._name)
        with self._lock:
            try:
                for packet in encode(message):
                    self._sock.sendall(packet)
            except OSError as error:
                raise LeaseLost("the worker is gone; what was committed is kept") from error

    def ask(self, message: Message) -> Message:
        with self._lock:
            self.send(message)
            while True:
                answer = self._receive()
                if isinstance(answer, Stop):
                    self._stop = answer
                    continue
                if isinstance(answer, Refused):
                    raise _refusal(answer)
                if isinstance(message, PlanProposed):
                    self._faults.pass_by("planned", self._name)
                return answer

    def why_stopped(self) -> Stop | None:
        # Called from the TERM handler: take what is there, never wait (the worker may be gone or busy).
        if self._stop is None and self._lock.acquire(blocking=False):
            try:
                self._sock.setblocking(False)
                while self._stop is None:
                    self._stop = self._stop_said()
            except (LeaseLost, BlockingIOError):
                return None
            finally:
                self._sock.setblocking(True)
                self._lock.release()
        return self._stop

    def _stop_said(self) -> Stop | None:
        try:
            message = self._receive()
        except BadMessage:
            return None  # the end of an answer whose beginning is in the hands of whom the signal interrupted
        return message if isinstance(message, Stop) else None

    def _receive(self) -> Message:
        while True:
            try:
                packet = self._sock.recv(1 << 17)
            except BlockingIOError:
                raise
            except OSError:
                packet = b""  # SEQPACKET says ECONNRESET, not EOF, when the peer died with unread data
            if not packet:
                raise LeaseLost("the worker is gone; what was committed is kept")
            message = self._decoder.feed(packet)
            if message is not None:
                return message


def _refusal(answer: Refused) -> UnjamError:
    code = ReasonCode(answer.code)
    if code is ReasonCode.WORKER_LOST:
        return LeaseLost(answer.message)
    return UnjamError(answer.message, code=code)


def stop_asked(answer: Message) -> str | None:
    """The request (`pause`, `cancel`) that rode on an answer."""
    return answer.stop if isinstance(answer, Ack) else None
