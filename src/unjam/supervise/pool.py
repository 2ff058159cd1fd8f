"""Guardians whose attempt is over and that wait for another: the worker's side."""

import asyncio
import os
import signal
import socket
from collections import defaultdict
from dataclasses import dataclass

from unjam.supervise import kill, linux
from unjam.supervise.identity import Identity

IDLE_SECONDS = 5.0
"""How long one is kept. Shorter than guardian.IDLE_LIMIT: it leaves by itself only when we are frozen."""


@dataclass(frozen=True, slots=True)
class IdleGuardian:
    """A living guardian with nothing below it. `ctl` and `pidfd` belong to whoever has this."""

    ctl: socket.socket
    pidfd: int
    identity: Identity


class GuardianPool:
    """At most `limit` idle guardians, by the modules their zygote had preloaded. The latest goes first: what
    it has touched is still in memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: dict[tuple[str, ...], list[IdleGuardian]] = defaultdict(list)
        self._timers: dict[IdleGuardian, asyncio.TimerHandle] = {}
        self._leaving: dict[int, IdleGuardian] = {}

    def pids(self) -> set[int]:
        """Those that wait, and those that were told to leave and have not been reaped."""
        return {one.identity.pid for one in self._timers} | set(self._leaving)

    def put(self, preload: tuple[str, ...], guardian: IdleGuardian) -> None:
        """Keep it for a while, or let it go when there are enough."""
        loop = asyncio.get_running_loop()
        loop.add_reader(guardian.pidfd, self._on_death, preload, guardian)
        self._idle[preload].append(guardian)
        self._timers[guardian] = loop.call_later(IDLE_SECONDS, self._dismiss, preload, guardian)
        if len(self._timers) > self._limit:
            self._dismiss(*self._oldest())

    def take(self, preload: tuple[str, ...]) -> IdleGuardian | None:
        """One that is alive as far as anybody can know; None when a new one must be forked."""
        waiting = self._idle.get(preload)
        if not waiting:
            return None
        guardian = waiting.pop()
        self._timers.pop(guardian).cancel()
        asyncio.get_running_loop().remove_reader(guardian.pidfd)
        return guardian

    def close(self) -> None:
        """End all of them, now: they have nothing below them and are our unreaped children."""
        for preload, waiting in self._idle.items():
            for guardian in list(waiting):
                self._dismiss(preload, guardian)
        for guardian in list(self._leaving.values()):
            linux.send_pidfd(guardian.pidfd, signal.SIGKILL)
            self._bury(guardian, 0)

    def _oldest(self) -> tuple[tuple[str, ...], IdleGuardian]:
        oldest = next(iter(self._timers))
        return next((preload, oldest) for preload, waiting in self._idle.items() if oldest in waiting)

    def _dismiss(self, preload: tuple[str, ...], guardian: IdleGuardian) -> None:
        """The end of its socket tells it to leave; it stays known until it is reaped, or a sweep would
        take it for an orphan."""
        self._forget(preload, guardian)
        guardian.ctl.close()
        self._leaving[guardian.identity.pid] = guardian

    def _on_death(self, preload: tuple[str, ...], guardian: IdleGuardian) -> None:
        if guardian in self._timers:  # killed by somebody: nothing was lost
            self._forget(preload, guardian)
            guardian.ctl.close()
        self._bury(guardian, os.WNOHANG)

    def _forget(self, preload: tuple[str, ...], guardian: IdleGuardian) -> None:
        self._idle[preload].remove(guardian)
        self._timers.pop(guardian).cancel()

    def _bury(self, guardian: IdleGuardian, options: int) -> None:
        asyncio.get_running_loop().remove_reader(guardian.pidfd)
        self._leaving.pop(guardian.identity.pid, None)
        kill.reap(guardian.identity.pid, options)
        os.close(guardian.pidfd)
