"""The worker's side of one attempt: what it may ask of the guardian, what it hears, and the clock behind the
guardian."""

import asyncio
import math
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from unjam.supervise import linux, protocol
from unjam.supervise.clocks import LEASE_KILL_MARGIN
from unjam.supervise.identity import Identity, identity_of
from unjam.supervise.limits import Limits
from unjam.supervise.pool import IdleGuardian
from unjam.supervise.values import LaunchFailed, Started, Stuck, TreeEnd, Usage

OVERDUE_SLACK = 0.5  # seconds a guardian may be late (worst seen on a machine under load 20: 0.24)
SILENCE_WHILE_KILLING = 10.0  # a guardian that kills reports every 2 s; silent for this long it is frozen


class Tree:
    """One attempt's process tree. Made by Launcher.launch(); all methods belong to the event loop's thread.

    identity: the guardian's. Store it, then call `go`: nothing of the attempt runs before.
    channel: the worker's end of a SEQPACKET pair, non-blocking; the attempt has the other. Yours to close.
    guardian: one that has served before; without it a new one announces itself over `ctl`.
    on_idle: takes the guardian over when the attempt is gone and it can serve again; without it no guardian
        is asked to stay.
    """

    def __init__(
        self,
        limits: Limits,
        ctl: socket.socket,
        channel: socket.socket,
        *,
        guardian: IdleGuardian | None = None,
        on_idle: Callable[[IdleGuardian], None] | None = None,
    ) -> None:
        self.channel = channel
        self.usage: Usage | None = None
        self.on_usage: Callable[[Usage], None] | None = None
        self.on_stuck: Callable[[Stuck], None] | None = None
        self.pid: int | None = None  # the guardian's, from the moment it is announced
        self.short = False  # it could not be taken care of, for want of descriptors
        self.on_orphaned: Callable[[Tree], None] = lambda _tree: (
            None
        )  # the Launcher's: sweep, then `orphan_end`
        self.on_ended: Callable[[Tree], None] = lambda _tree: None
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._ctl = ctl
        self._pidfd = -1
        self._identity: Identity | None = None
        self._lost = ""
        self._peak = 0
        self._end: TreeEnd | None = None
        self._hello: asyncio.Future[bool] = self._loop.create_future()
        self._started: asyncio.Future[Started | None] = self._loop.create_future()
        self._done: asyncio.Future[TreeEnd] = self._loop.create_future()
        self._stuck: asyncio.Future[None] = self._loop.create_future()
        self._gone = False
        self._due: dict[str, float] = {}  # reason -> CLOCK_BOOTTIME when the guardian is overdue for it
        self._asked: str | None = None
        self._heard_killing: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        ctl.setblocking(False)
        channel.setblocking(False)
        self._on_idle = on_idle
        if guardian is not None:
            self.pid, self._pidfd, self._identity = guardian.identity.pid, guardian.pidfd, guardian.identity
            self._loop.add_reader(self._pidfd, self._on_guardian_dead)
        self._loop.add_reader(ctl, self.drain)

    # -- what the worker asks ------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        assert self._identity is not None, "launch() returns only after hello"
        return self._identity

    def go(self, lease_until: float) -> None:
        """Start the attempt. `lease_until`: CLOCK_BOOTTIME seconds until which its lease holds (math.inf: no
        lease).

        Our own clock starts here and not at `started`: a job can stop its guardian before that is said.
        """
        if self._limits.deadline is not None:
            self._due["deadline"] = (
                linux.boottime() + self._limits.deadline + self._limits.grace + OVERDUE_SLACK
            )
        self._due["lease"] = lease_until - LEASE_KILL_MARGIN + OVERDUE_SLACK
        self._arm()
        self._send({"op": "go", "lease_until": lease_until})

    def renew(self, lease_until: float) -> None:
        due = lease_until - LEASE_KILL_MARGIN + OVERDUE_SLACK
        self._due["lease"] = max(due, self._due.get("lease", -math.inf))
        self._arm()
        self._send({"op": "renew", "lease_until": lease_until})

    def stop(self, reason: str, grace: float | None = None) -> None:
        """TERM and CONT once, KILL after `grace` seconds (default: the limits'). Idempotent; the first reason
        stays, a shorter grace counts."""
        seconds = self._limits.grace if grace is None else grace
        self._expect_end(reason, seconds)
        self._send({"op": "stop", "reason": reason, "grace": seconds})

    def kill(self, reason: str) -> None:
        """KILL the whole tree now."""
        self._expect_end(reason, 0.0)
        self._send({"op": "kill", "reason": reason})

    def abandon(self) -> None:
        """Before `go`: the guardian leaves without starting anything, and done() says "abandoned"."""
        self._expect_end("abandoned", 0.0)
        self._send({"op": "abandon"})

    async def started(self) -> Started:
        """Raises LaunchFailed when the tree ended before anything ran."""
        found = await asyncio.shield(self._started)
        if found is None:
            raise LaunchFailed(self._lost)
        return found

    async def done(self) -> TreeEnd:
        """The end of the whole tree: only after the kernel said that no process of it is left (INV-TRUTH)."""
        return await asyncio.shield(self._done)

    async def done_or_stuck(self) -> None:
        """Like `done`, but does not wait for what cannot die: its SIGKILL is sent, and its guardian stays
        until the kernel lets go."""
        either: list[asyncio.Future[Any]] = [self._done, self._stuck]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    # -- what the launcher needs ---------------------------------------------------------------------------

    async def hello(self) -> bool:
        """False when the zygote or the guardian died first: nothing ran, the launch may be tried again."""
        return await asyncio.shield(self._hello)

    @property
    def failure(self) -> str:
        return self._lost

    def kill_guardian(self) -> None:
        """For one that does not answer. Before `go` it has nothing below it."""
        if self._pidfd >= 0:
            linux.send_pidfd(self._pidfd, signal.SIGKILL)

    def drain(self) -> None:
        """Take every message that is there."""
        while not self._gone:
            try:
                message, _ = protocol.receive(self._ctl)
            except BlockingIOError:
                return
            if message is None:
                self._on_ctl_end()
                return
            self._hear(message)

    def orphan_end(self, killed: int) -> None:
        """The guardian was killed and everything it left has been ended by the launcher."""
        last = self.usage
        self._finish(
            TreeEnd(
                exit_code=None,
                signal=None,
                reason=self._asked,
                peak_rss_bytes=self._peak,
                cpu_seconds=0.0 if last is None else last.cpu_seconds,
                killed=killed,
                guardian_died=True,
            )
        )

    # -- hearing -------------------------------------------------------------------------------------------

    def _hear(self, message: dict[str, Any]) -> None:
        match message["ev"]:
            case "forked" | "hello" as event:
                self._meet(message["pid"])
                if event == "hello" and not self._hello.done() and not self.short:
                    self._identity = self._identity or identity_of(message["pid"])
                    if self._identity is None and not linux.pidfd_dead(self._pidfd):
                        self._give_up("its guardian cannot be identified")
                    self._hello.set_result(self._identity is not None)
            case "failed":
                self._lost = message["reason"]
            case "started":
                if not self._started.done():
                    self._started.set_result(Started(message["pid"], message["containment"], message["at"]))
            case "usage":
                self.usage = Usage(message["cpu"], message["rss"], message["processes"], message["at"])
                self._peak = max(self._peak, self.usage.rss_bytes)
                if self.on_usage:
                    self.on_usage(self.usage)
            case "killing":
                self._heard_killing = linux.boottime()
                self._arm()
            case "stuck":
                self._heard_killing = linux.boottime()
                self._arm()
                self.report_stuck(tuple(message["pids"]), tuple(message["states"]))
            case "done":
                self._lost = self._lost or message["failure"] or message["reason"] or "ended before it began"
                self._end = _end_of(message)
                if message["stays"]:
                    self._let_go(self._end)

    def _let_go(self, end: TreeEnd) -> None:
        """The tree is gone and its guardian lives on: whoever keeps the idle ones has it now."""
        self._loop.remove_reader(self._pidfd)
        assert self._on_idle is not None, "it was not asked to stay"
        guardian, self._pidfd = IdleGuardian(self._ctl, self._pidfd, self.identity), -1
        self._finish(end, ctl_stays=True)
        self._on_idle(guardian)

    def report_stuck(self, pids: tuple[int, ...], states: tuple[str, ...]) -> None:
        if not self._stuck.done():
            self._stuck.set_result(None)
        if self.on_stuck:
            self.on_stuck(Stuck(pids, states))

    def _meet(self, pid: int) -> None:
        """The guardian's number, announced before we could have reaped it, so the pidfd is surely of it."""
        if self.pid is None and not self.short:
            try:
                self._pidfd = os.pidfd_open(pid)
            except OSError as error:
                self._give_up(f"its guardian cannot be watched: {error.strerror}")
                return
            self.pid = pid
            self._loop.add_reader(self._pidfd, self._on_guardian_dead)

    def _give_up(self, why: str) -> None:
        """Before `go`, for want of a descriptor: the guardian is nobody's, the launcher's sweep ends it."""
        self.short, self._lost = True, self._lost or why
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        self.pid, self._pidfd = None, -1
        self.on_orphaned(self)

    def _on_ctl_end(self) -> None:
        self._loop.remove_reader(self._ctl)
        self._gone = True
        if self.pid is None:  # the request died with the zygote
            self._lost = self._lost or "the zygote died before it forked the guardian"
            self._finish(TreeEnd(None, None, self._asked, 0, 0.0, 0, guardian_died=False))

    def _on_guardian_dead(self) -> None:
        self.drain()
        if self._pidfd < 0:
            return  # its last word was that it stays: whoever has it now sees its death too
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._reap(tries=100)
        if self._end is not None:
            self._finish(self._end)
        else:
            self._lost = self._lost or self._asked or "the guardian was killed"
            self.on_orphaned(self)

    def _reap(self, tries: int) -> None:
        """The process between zygote and guardian may need a moment to die and leave the guardian to us."""
        assert self.pid is not None
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            if tries and linux.proc_stat(self.pid) is not None:
                self._loop.call_later(0.01, self._reap, tries - 1)

    def _finish(self, end: TreeEnd, *, ctl_stays: bool = False) -> None:
        if not self._gone:
            self._loop.remove_reader(self._ctl)
            self._gone = True
        if not ctl_stays:
            self._ctl.close()
        if self._timer:
            self._timer.cancel()
        if not self._hello.done():
            self._hello.set_result(False)
        if not self._started.done():
            self._started.set_result(None)
        if not self._done.done():
            self._done.set_result(end)
        self.on_ended(self)

    # -- the clock behind the guardian ---------------------------------------------------------------------

    def _expect_end(self, reason: str, seconds: float) -> None:
        self._asked = self._asked or reason
        due = linux.boottime() + seconds + OVERDUE_SLACK
        self._due["asked"] = min(due, self._due.get("asked", math.inf))
        self._arm()

    def _next_due(self) -> tuple[float, str]:
        if self._heard_killing is not None:
            return self._heard_killing + SILENCE_WHILE_KILLING, "killing"
        return min((at, why) for why, at in self._due.items())

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due, _ = self._next_due()
        if math.isfinite(due) and not self._done.done():
            self._timer = self._loop.call_later(max(0.0, due - linux.boottime()), self._check_overdue)

    def _check_overdue(self) -> None:
        """INV-DEADLINE: a guardian that is frozen or stopped by its own job is killed; its orphans come to
        us."""
        self.drain()
        due, why = self._next_due()
        if linux.boottime() < due or self._end is not None or self._pidfd < 0:
            if self._pidfd >= 0 and self._end is None:
                self._arm()
            return
        if why in ("deadline", "lease"):
            self._asked = self._asked or why
        self.kill_guardian()

    def _send(self, message: protocol.Message) -> None:
        """A guardian that does not read is frozen or dead: the clock above and its pidfd deal with that, not
        we."""
        if self._gone:
            return
        try:
            protocol.send(self._ctl, message)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return


def _end_of(message: dict[str, Any]) -> TreeEnd:
    status = message["status"]
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return TreeEnd(
        exit_code=code if code is not None and code >= 0 else None,
        signal=-code if code is not None and code < 0 else None,
        reason=message["reason"],
        peak_rss_bytes=message["peak"],
        cpu_seconds=message["cpu"],
        killed=message["killed"],
        guardian_died=False,
        oom=message["oom"],
    )
