"""The worker's side of one zygote: starting it, handing it requests, noticing its death."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Literal

from unjam.supervise import linux, protocol
from unjam.supervise.nsprobe import Obstacle
from unjam.supervise.values import LaunchFailed


class ZygoteProcess:
    """One running zygote for one tuple of preloaded modules.

    Started by exec, from whatever threads the worker has. It dies with the thread that starts it (PDEATHSIG
    counts threads), so the event loop must run in a thread that lives as long as the worker: the main one.
    """

    def __init__(
        self,
        preload: tuple[str, ...],
        *,
        mark: int,
        worker_pidfd: int,
        probe: Literal["ask", "insist"] | None,
        on_death: Callable[["ZygoteProcess"], None],
    ) -> None:
        self.preload = preload
        self.alive = True
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._gone = asyncio.Event()
        self._waiting: set[asyncio.Event] = set()
        self._ended_by_itself = False
        ours, theirs = protocol.pair()
        self._sock = ours
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    __package__ + ".zygote",
                    str(theirs.fileno()),
                    str(worker_pidfd),
                ],
                pass_fds=(theirs.fileno(), worker_pidfd),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.pid = process.pid
        self._pidfd = os.pidfd_open(self.pid)
        process.returncode = 0  # we reap by ourselves; Popen must neither wait nor warn
        ours.setblocking(False)
        path = [entry or os.getcwd() for entry in sys.path]
        try:
            protocol.send(ours, {"mark": mark, "preload": list(preload), "path": path, "probe": probe})
        except (BrokenPipeError, ConnectionResetError):
            # Killed at birth: its pidfd tells, and the launch is tried again. (Raised, it failed the job.)
            pass
        self._loop.add_reader(self._pidfd, self._reap)

    async def up(self) -> tuple[bool, Obstacle | None]:
        """(marks work here, what keeps PID namespaces from us; None also where nobody asked).

        Raises BrokenPipeError when the zygote was killed, and LaunchFailed when it did not come up.
        """
        message = None
        try:
            while message is None:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
                try:
                    message, _ = protocol.receive(self._sock)
                except BlockingIOError:
                    continue
                if message is None:
                    await self._gone.wait()
        except BrokenPipeError:
            if self._ended_by_itself:
                raise LaunchFailed(
                    "the zygote did not start: its error stands on the worker's stderr"
                ) from None
            raise
        return message["marked"], Obstacle(*message["obstacle"]) if message["obstacle"] else None

    async def request(self, message: protocol.Message, fds: Sequence[int]) -> None:
        """Hand over one request. Raises BrokenPipeError or ConnectionResetError when the zygote is dead."""
        async with self._turn:
            while True:
                try:
                    protocol.send(self._sock, message, fds)
                    return
                except BlockingIOError:
                    await self._ready(self._loop.add_writer, self._loop.remove_writer)

    async def _ready(
        self,
        add: Callable[[socket.socket, Callable[[], None]], None],
        remove: Callable[[socket.socket], bool],
    ) -> None:
        ready = asyncio.Event()
        if self.alive:
            add(self._sock, ready.set)
            self._waiting.add(ready)
            try:
                await ready.wait()
            finally:
                self._waiting.discard(ready)
                if self.alive:
                    remove(self._sock)
        if not self.alive:
            raise BrokenPipeError("the zygote is dead")

    def kill(self) -> None:
        """SIGKILL; it is our unreaped child. Running attempts do not notice."""
        if self.alive:
            linux.send_pidfd(self._pidfd, signal.SIGKILL)

    async def kill_and_wait(self) -> None:
        """After this another zygote can take its place. Waiting matters: a killed process still takes
        requests for a moment, and a retry would be handed to the same dead one."""
        self.kill()
        await self._gone.wait()

    def kill_and_reap(self) -> None:
        self.kill()
        self._reap()

    def _reap(self) -> None:
        if not self.alive:
            return
        self._loop.remove_reader(self._pidfd)
        try:
            self._ended_by_itself = os.WIFEXITED(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            pass  # a sweep of somebody else's took it: dead all the same
        os.close(self._pidfd)
        self.alive = False
        # A closed socket says nothing more, not even its end: whoever waits for it must be told, and the loop
        # must not keep its number, which the next socket gets (a worker hung for ever in its start: kill -9).
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for event in self._waiting:
            event.set()
        self._gone.set()
        self._on_death(self)
