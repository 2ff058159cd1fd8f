"""The worker's side: starts attempts under guardians, and ends what a killed guardian left behind."""

import asyncio
import errno
import functools
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unjam.supervise import cgroup, kill, linux, protocol
from unjam.supervise.limits import Limits
from unjam.supervise.mark import get_mark
from unjam.supervise.nsprobe import NOT_ASKED, Obstacle
from unjam.supervise.nursery import ZygoteProcess
from unjam.supervise.pool import GuardianPool, IdleGuardian
from unjam.supervise.tree import Tree
from unjam.supervise.values import Containment, LaunchFailed, Started, Stuck, TreeEnd, Usage

__all__ = [
    "Containment",
    "LaunchFailed",
    "LaunchSpec",
    "Launcher",
    "Limits",
    "Started",
    "Stuck",
    "Tree",
    "TreeEnd",
    "Usage",
]

LAUNCH_TRIES = 5  # nothing has run, so another try is free; a zygote that dies so often has a reason
LAUNCH_TIMEOUT = 60.0  # seconds for a zygote to import its modules and fork; torch on a cold disk takes ten
REUSE_TIMEOUT = 5.0  # seconds for an idle guardian to answer; it needs one millisecond, unless it is frozen
QUIET_ROUNDS = 3  # empty looks in a row before a sweep ends: one look misses who is just being reparented
STUCK_AFTER = 2.0  # seconds after SIGKILL until what is left counts as stuck


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What to start.

    name: for process titles and logs, such as "j7k2/3".
    entry: "package.module:function", called in the attempt as function(payload, channel) -> exit code.
    payload: JSON.
    log_path: stdout and stderr of the whole tree, appended; made with mode 0600.
    env: added to the environment that the worker had when its zygote started.
    preload: modules, imports only, for the zygote that forks this; one zygote for each distinct tuple.
    isolation: "spawn" runs the entry in a fresh interpreter (CUDA, torch: unsafe after a fork).
    containment: "auto" is a PID namespace with a private /proc where a trial proved it works as root, else
        the tree. "pidns" insists; to an ordinary user it means a user namespace around it, and works only if
        it is the launcher's default too.
    """

    name: str
    entry: str
    payload: dict[str, Any]
    limits: Limits
    log_path: str
    cwd: str
    env: Mapping[str, str]
    preload: tuple[str, ...] = ()
    isolation: Literal["fork", "spawn"] = "fork"
    containment: Literal["auto", "pidns", "tree"] = "auto"


class Launcher:
    """One per worker process. All methods belong to the event loop's thread, which must be the main
    thread.

    keep_guardians: how many guardians may wait for another attempt after theirs has ended by itself.
    """

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
        self._mark = mark
        self._keep = keep_guardians > 0
        self._pool = GuardianPool(keep_guardians)
        self._base_preload = base_preload
        self._keeper_pidfd = keeper_pidfd
        self._on_keeper_death = on_keeper_death
        self._default_containment = default_containment
        self._zygotes: dict[tuple[str, ...], ZygoteProcess] = {}
        self._trees: set[Tree] = set()
        self._sweeps: set[asyncio.Task[None]] = set()
        self._worker_pidfd = -1
        self._marked: bool | None = None  # can our processes be marked? The first zygote tells
        self.pidns_obstacle: Obstacle | None = NOT_ASKED
        self._closing = False

    async def start(self) -> None:
        """Become subreaper and start the base zygote. Raises LaunchFailed when that does not come up, or had
        no chance to try what we insist on."""
        linux.become_subreaper()
        cgroup.prepare()
        self._worker_pidfd = os.pidfd_open(os.getpid())
        # Before anything is waited for: a keeper may die at any moment.
        if self._keeper_pidfd is not None:
            asyncio.get_running_loop().add_reader(self._keeper_pidfd, self._keeper_died)
            linux.set_death_signal(0)  # from here on its death means to drain (see take_keeper)
        for _ in range(LAUNCH_TRIES):
            try:
                self._marked, self.pidns_obstacle = await self._zygote(self._base_preload, probe=True).up()
            except BrokenPipeError:
                continue  # killed, and nothing of ours ran in it yet
            if self._default_containment == "pidns" and self.pidns_obstacle and self.pidns_obstacle.passing:
                # Believed, it would fail every job of a worker that was only started at a bad moment.
                raise LaunchFailed(
                    f"a PID namespace could not be tried: {self.pidns_obstacle.why}", short=True
                )
            return
        raise LaunchFailed(f"the zygote died {LAUNCH_TRIES} times before it was up")

    async def launch(self, spec: LaunchSpec) -> Tree:
        """A guardian that waits for `go`. Raises LaunchFailed: then nothing of the attempt ever ran."""
        request = self._request(spec)
        for _ in range(LAUNCH_TRIES):
            tree = await self._try_launch(spec, request)
            if tree is not None:
                return tree
        raise LaunchFailed(f"{spec.name}: the zygote died {LAUNCH_TRIES} times before it forked a guardian")

    async def close(self) -> None:
        """End everything below this launcher; returns when nothing that carries its mark is left as our
        child, but for what is in uninterruptible sleep with its SIGKILL pending: that may never end."""
        self._closing = True
        if self._keeper_pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._keeper_pidfd)
        trees = list(self._trees)
        for tree in trees:
            tree.kill("closing")
        for tree in trees:
            await tree.done_or_stuck()
        self._pool.close()
        for zygote in list(self._zygotes.values()):
            zygote.kill_and_reap()
        await asyncio.gather(*self._sweeps)
        await self._sweep(None)
        if self._worker_pidfd >= 0:
            os.close(self._worker_pidfd)
            self._worker_pidfd = -1

    # -- launching -----------------------------------------------------------------------------------------

    def _request(self, spec: LaunchSpec) -> protocol.Message:
        wanted = spec.containment if spec.containment != "auto" else self._default_containment
        if wanted == "pidns" and self.pidns_obstacle:
            raise LaunchFailed(
                "a PID namespace was asked for, but this system does not give us one: "
                f"{self.pidns_obstacle.why}. To get it: {self.pidns_obstacle.way_out}. "
                "Without: containment = tree"
            ) from PermissionError(errno.EPERM, self.pidns_obstacle.why)
        return {
            "name": spec.name,
            "entry": spec.entry,
            "payload": spec.payload,
            "limits": spec.limits.to_wire(),
            "cwd": spec.cwd,
            "env": dict(spec.env),
            "isolation": spec.isolation,
            "containment": "pidns" if wanted != "tree" and not self.pidns_obstacle else "tree",
            "insist": wanted == "pidns",
            "keep": self._keep,
            "mark": self._mark,
        }

    async def _try_launch(self, spec: LaunchSpec, request: protocol.Message) -> Tree | None:
        """None when the zygote or the guardian died before it began: the launch may be tried again."""
        try:
            log = os.open(spec.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LaunchFailed(f"log {spec.log_path}: {error.strerror}") from error
        opened: list[socket.socket] = []
        try:
            channel, attempt_channel = protocol.pair()
            opened += [channel, attempt_channel]
            given = (attempt_channel.fileno(), log)
            idle = self._pool.take(spec.preload)
            if idle is not None:
                return await self._reuse(idle, self._tree(spec, idle.ctl, channel, idle), request, given)
            zygote = self._zygote(spec.preload)
            ctl, guardian_ctl = protocol.pair()
            return await self._fork(self._tree(spec, ctl, channel), zygote, request, guardian_ctl, given)
        except OSError:
            # No descriptors: what was opened must not stay open until somebody collects it.
            for one in opened:
                one.close()
            raise
        finally:
            for one in opened[1:]:
                one.close()
            os.close(log)

    def _tree(
        self,
        spec: LaunchSpec,
        ctl: socket.socket,
        channel: socket.socket,
        guardian: IdleGuardian | None = None,
    ) -> Tree:
        keep = functools.partial(self._pool.put, spec.preload)
        tree = Tree(spec.limits, ctl, channel, guardian=guardian, on_idle=keep)
        tree.on_orphaned = self._on_orphaned
        tree.on_ended = self._trees.discard
        self._trees.add(tree)
        return tree

    async def _fork(
        self,
        tree: Tree,
        zygote: ZygoteProcess,
        request: protocol.Message,
        guardian_ctl: socket.socket,
        given: tuple[int, int],
    ) -> Tree | None:
        try:
            await zygote.request(request, (guardian_ctl.fileno(), *given))
        except (BrokenPipeError, ConnectionResetError):
            zygote.kill()  # it does not listen any more; the socket that closes below ends this try
        finally:
            # Ours must go before we listen, or a zygote's death would never show as the end of `ctl`.
            guardian_ctl.close()
        return await self._await_hello(tree, zygote)

    async def _reuse(
        self, idle: IdleGuardian, tree: Tree, request: protocol.Message, given: tuple[int, int]
    ) -> Tree | None:
        """None when it was dead, just leaving or frozen: nothing ran, and another is asked."""
        try:
            protocol.send(idle.ctl, request, given)
            async with asyncio.timeout(REUSE_TIMEOUT):
                if await tree.hello():
                    return tree
                await tree.done()
        except (BlockingIOError, BrokenPipeError, ConnectionResetError, TimeoutError):
            tree.kill_guardian()
            await tree.done()
        except asyncio.CancelledError:
            tree.abandon()
            raise
        tree.channel.close()
        return None

    async def _await_hello(self, tree: Tree, zygote: ZygoteProcess) -> Tree | None:
        try:
            async with asyncio.timeout(LAUNCH_TIMEOUT):
                if await tree.hello():
                    return tree
                await tree.done()
        except TimeoutError:
            zygote.kill()  # hung in an import, or frozen
            tree.abandon()
            raise LaunchFailed(
                f"no guardian within {LAUNCH_TIMEOUT:g} s (preload {zygote.preload})"
            ) from None
        except asyncio.CancelledError:
            tree.abandon()
            raise
        tree.channel.close()
        if tree.short or tree.failure.startswith("fork:"):
            raise LaunchFailed(tree.failure, short=True)
        if tree.pid is None:
            await zygote.kill_and_wait()
        return None

    def _zygote(self, preload: tuple[str, ...], probe: bool = False) -> ZygoteProcess:
        found = self._zygotes.get(preload)
        if found is None or not found.alive:
            found = self._zygotes[preload] = ZygoteProcess(
                preload,
                mark=self._mark,
                worker_pidfd=self._worker_pidfd,
                probe=("insist" if self._default_containment == "pidns" else "ask") if probe else None,
                on_death=self._on_zygote_dead,
            )
        return found

    # -- deaths --------------------------------------------------------------------------------------------

    def _keeper_died(self) -> None:
        assert self._keeper_pidfd is not None
        asyncio.get_running_loop().remove_reader(self._keeper_pidfd)
        if self._on_keeper_death:
            self._on_keeper_death()

    def _on_zygote_dead(self, zygote: ZygoteProcess) -> None:
        """The next launch starts another. What it was forking is ours now and is swept."""
        self._zygotes.pop(zygote.preload, None)
        if not self._closing:
            self._spawn_sweep(None)

    def _on_orphaned(self, tree: Tree) -> None:
        """A guardian was killed. Its attempt dies by PDEATHSIG; whatever else it had is our child now, or
        soon."""
        self._spawn_sweep(tree)

    def _spawn_sweep(self, tree: Tree | None) -> None:
        task = asyncio.get_running_loop().create_task(self._sweep(tree))
        self._sweeps.add(task)
        task.add_done_callback(self._sweeps.discard)

    def _strangers(self) -> list[int]:
        """Children that are neither a zygote nor a known guardian. List first, ask second: a guardian
        announces itself before it is reparented, so whoever is in the list and unknown after the question is
        an orphan.

        Only what carries our mark counts: the worker's own helpers, if it runs any, are not ours to kill.
        """
        listed = linux.children()
        for tree in list(self._trees):
            tree.drain()
        known = {zygote.pid for zygote in self._zygotes.values()} | {tree.pid for tree in self._trees}
        known |= self._pool.pids()
        return [pid for pid in listed if pid not in known and self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        return self._marked is False or get_mark(pid) == self._mark

    async def _sweep(self, tree: Tree | None) -> None:
        """Kill every orphan, to the end (INV-ORPHAN), a round at a time so that the loop stays awake."""
        killed: set[int] = set()
        began = changed = next_report = linux.boottime()
        rounds = quiet = 0
        before: list[int] = []
        while quiet < QUIET_ROUNDS:
            strangers = self._strangers()
            if strangers != before:
                before, changed = strangers, linux.boottime()
            killed |= kill.strike(strangers)
            quiet = 0 if strangers else quiet + 1
            rounds += 1
            now = linux.boottime()
            await asyncio.sleep(kill.breath(rounds, now - changed) if strangers else 0.001)
            if tree is not None and strangers and now - began > STUCK_AFTER and now >= next_report:
                next_report = now + STUCK_AFTER
                # Below them too: PID 1 of a namespace only waits for the one that is really stuck.
                left = [*strangers, *(below for pid in strangers for below in linux.descendants(pid))]
                states = tuple(stat.state if (stat := linux.proc_stat(pid)) else "?" for pid in left)
                tree.report_stuck(tuple(left), states)
            if self._closing and strangers and now - changed > STUCK_AFTER:
                return
        if tree is not None:
            cgroup.remove_left([self._mark], str(tree.pid))
            tree.orphan_end(len(killed))
