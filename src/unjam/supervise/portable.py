"""The weakest containment, for systems without pidfds and subreapers (macOS): one process group per attempt.

Level "group", and it says so: a descendant that starts its own session escapes; a frozen worker stops the
clocks; a killed worker is noticed by a thread inside the attempt, which native code that holds the GIL keeps
from acting. Nothing before go, deadline, lease, grace and reasons hold as in `launch`.
"""

import asyncio
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

from unjam.supervise import linux, protocol
from unjam.supervise.clocks import Clocks
from unjam.supervise.identity import Identity, identity_of
from unjam.supervise.launch import Launcher, LaunchSpec
from unjam.supervise.nsprobe import Obstacle
from unjam.supervise.tree import Tree
from unjam.supervise.values import LaunchFailed, Started, Stuck, TreeEnd, Usage

LOOK_SECONDS = 0.05  # how often an ended attempt's group is looked at until it is empty


class GroupTree:
    """The same to the worker as tree.Tree; see there."""

    def __init__(
        self, spec: LaunchSpec, process: subprocess.Popen[bytes], gate: int, channel: socket.socket
    ) -> None:
        self.channel = channel
        self.usage: Usage | None = None  # stays None: this level does not sample
        self.on_usage: Callable[[Usage], None] | None = None
        self.on_stuck: Callable[[Stuck], None] | None = None
        self.identity = identity_of(process.pid) or Identity("", process.pid, 0, None)
        self._spec = spec
        self._process = process
        self._gate = gate
        self._clocks = Clocks(spec.limits.deadline, spec.limits.grace)
        self._reason: str | None = None
        self._kill = False
        self._started: asyncio.Future[Started | None] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()
        channel.setblocking(False)
        self._end = asyncio.get_running_loop().create_task(self._watch())

    def go(self, lease_until: float) -> None:
        now = linux.boottime()
        self._clocks.go(lease_until, now)
        os.write(self._gate, b"g")
        if not self._started.done():
            self._started.set_result(Started(self._process.pid, "group", now))
        self._changed.set()

    async def started(self) -> Started:
        found = await asyncio.shield(self._started)
        if found is None:
            raise LaunchFailed(self._reason or "ended before it began")
        return found

    def renew(self, lease_until: float) -> None:
        self._clocks.renew(lease_until)
        self._changed.set()

    def stop(self, reason: str, grace: float | None = None) -> None:
        self._clocks.stop(linux.boottime(), self._spec.limits.grace if grace is None else grace)
        self._ask(reason)

    def kill(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._kill = True
        self._changed.set()

    def abandon(self) -> None:
        self.kill("abandoned")

    async def done(self) -> TreeEnd:
        return await asyncio.shield(self._end)

    def _ask(self, reason: str) -> None:
        if self._reason is None and self._process.returncode is None:
            self._reason = reason
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)
        self._changed.set()

    async def _watch(self) -> TreeEnd:
        gone = asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        while not gone.done():
            verdict = self._clocks.act(linux.boottime())
            if verdict.ask is not None:
                self._ask(verdict.ask)
            if verdict.kill or self._kill:
                break
            self._changed.clear()
            wait = verdict.next_at - linux.boottime()
            change = asyncio.ensure_future(self._changed.wait())
            either: set[asyncio.Future[Any]] = {gone, change}
            timeout = wait if math.isfinite(wait) else None
            await asyncio.wait(either, timeout=timeout, return_when="FIRST_COMPLETED")
            change.cancel()
        killed = await self._kill_group()
        code = await gone
        os.close(self._gate)
        if not self._started.done():
            self._started.set_result(None)
        return TreeEnd(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            reason=self._reason,
            peak_rss_bytes=0,
            cpu_seconds=0.0,
            killed=killed,
            guardian_died=False,
        )

    async def _kill_group(self) -> int:
        """Until the group is empty. Its number cannot be given to a stranger while a member lives."""
        rounds = 0
        while True:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
                return rounds
            rounds += 1
            await asyncio.sleep(LOOK_SECONDS)


class GroupLauncher:
    """The same to the worker as launch.Launcher; see there. Every attempt is a fresh interpreter."""

    pidns_obstacle = Obstacle("this system has none", "a Linux machine")

    def __init__(
        self,
        *,
        mark: int,
        base_preload: tuple[str, ...] = (),
        keeper_pidfd: int | None = None,
        on_keeper_death: Callable[[], None] | None = None,
        default_containment: Literal["auto", "pidns", "tree"] = "auto",
        keep_guardians: int = 0,
    ) -> None:
        if default_containment == "pidns":
            raise LaunchFailed("a PID namespace was asked for, but this system has none")
        self._trees: set[GroupTree] = set()

    async def start(self) -> None:
        """Nothing to prepare: there is no zygote at this level."""

    async def launch(self, spec: LaunchSpec) -> GroupTree:
        wire = {"name": spec.name, "entry": spec.entry, "payload": spec.payload, "path": sys.path}
        request = protocol.anonymous_file(json.dumps(wire).encode())
        gate, our_gate = os.pipe()
        channel, theirs = protocol.pair()
        try:
            with open(spec.log_path, "ab", opener=_private) as log:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(request), str(gate)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=spec.cwd,
                    env={**os.environ, **spec.env},
                    pass_fds=(theirs.fileno(), request, gate),
                    start_new_session=True,
                )
        except OSError as error:
            channel.close()
            os.close(our_gate)
            raise LaunchFailed(f"{spec.name}: {error}") from error
        finally:
            theirs.close()
            os.close(request)
            os.close(gate)
        tree = GroupTree(spec, process, our_gate, channel)
        self._trees.add(tree)
        tree._end.add_done_callback(lambda _end: self._trees.discard(tree))
        return tree

    async def close(self) -> None:
        for tree in list(self._trees):
            tree.kill("closing")
            await tree.done()


def make_launcher(
    *,
    mark: int,
    base_preload: tuple[str, ...] = (),
    keeper_pidfd: int | None = None,
    on_keeper_death: Callable[[], None] | None = None,
    default_containment: Literal["auto", "pidns", "tree"] = "auto",
    keep_guardians: int = 0,
) -> Launcher | GroupLauncher:
    """The strongest launcher that this system allows."""
    kind = Launcher if sys.platform == "linux" and hasattr(os, "pidfd_open") else GroupLauncher
    return kind(
        mark=mark,
        base_preload=base_preload,
        keeper_pidfd=keeper_pidfd,
        on_keeper_death=on_keeper_death,
        default_containment=default_containment,
        keep_guardians=keep_guardians,
    )


AnyTree = Tree | GroupTree
AnyLauncher = Launcher | GroupLauncher


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _end_with(gate: int) -> None:
    """The worker holds the other end for as long as it lives; its death ends our group."""
    os.read(gate, 1)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """The attempt: waits for go, then watches the gate while the entry runs."""
    from unjam.supervise import attempt

    channel_fd, request_fd, gate = map(int, sys.argv[1:4])
    for fd in (channel_fd, gate):
        os.set_inheritable(fd, False)
    request = json.loads(protocol.read_file(request_fd))
    if os.read(gate, 1) != b"g":
        os._exit(0)
    threading.Thread(target=_end_with, args=(gate,), daemon=True).start()
    sys.path += [path for path in request["path"] if path not in sys.path]
    attempt.leave(attempt.call(request["entry"], request["payload"], channel_fd))


if __name__ == "__main__":
    main()
