"""A process that guards one attempt at a time, each to the proof that nothing of its tree is left.

Forked by the zygote, adopted by the worker; own session, subreaper, one thread. After an attempt that ended
by itself it waits a moment for the next: a fork from a zygote full of modules costs more CPU than all the
rest of the supervision of a short job. A worker that died or does not come back ends it.
"""

import os
import select
import signal
import socket
import traceback
from typing import Any, NoReturn

from unjam.supervise import kill, linux, protocol
from unjam.supervise.ward import Ward

IDLE_LIMIT = 10.0
"""Seconds without an attempt after which a guardian leaves by itself, should its worker be frozen: whoever
recovers that worker's jobs asks whether their guardian lives, and a lease outlives this."""


class Guardian:
    """Its life from the fork on. `run` never returns."""

    def __init__(self, ctl: socket.socket, worker: int) -> None:
        self._ctl = ctl
        self._worker = worker

    def run(self, request: dict[str, Any], channel_fd: int, log: int) -> NoReturn:
        try:
            self._prepare()
            self._append_to(log)
            while Ward(request, self._ctl, channel_fd, self._worker).guard():
                request, (channel_fd, log) = self._next()
                self._append_to(log)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - whatever went wrong, the tree must not outlive its guardian
            traceback.print_exc()
            kill.kill_my_children()
        finally:
            os._exit(71)

    def _prepare(self) -> None:
        os.setsid()
        linux.set_name("uj-guardian")
        linux.become_subreaper()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # CONT, not KILL: a job may have SIGSTOPped us, and the worker's death must wake us up to clean.
        linux.set_death_signal(signal.SIGCONT)

    def _append_to(self, log: int) -> None:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def _next(self) -> tuple[protocol.Message, list[int]]:
        """The next attempt's request. What was still on its way to the one before it is none."""
        poller = select.poll()
        poller.register(self._ctl, select.POLLIN)
        poller.register(self._worker, select.POLLIN)
        leave_at = linux.boottime() + IDLE_LIMIT
        while True:
            ready = dict(poller.poll(max(0.0, leave_at - linux.boottime()) * 1000))
            if not ready or self._worker in ready:
                os._exit(0)
            message, fds = protocol.receive(self._ctl)
            if message is None:
                os._exit(0)
            if "op" not in message:
                return message, fds
