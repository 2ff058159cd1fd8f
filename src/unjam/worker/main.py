"""The worker process: starts its duties in order, ends them in order."""

from __future__ import annotations

import asyncio
import os
import secrets
import zlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from unjam.jobs.machines import WorkerInfo
from unjam.jobs.states import State
from unjam.pipelines import registry
from unjam.settings import Settings
from unjam.store import open_listener, open_store, queries
from unjam.store.port import JobFilter, Store
from unjam.store.url import is_postgres, shown
from unjam.store.wakeup import Listener
from unjam.supervise.faults import FaultPoints
from unjam.supervise.host import host_id
from unjam.supervise.identity import identity_of
from unjam.supervise.limits import new_mark
from unjam.supervise.portable import make_launcher
from unjam.worker.claim import Claims
from unjam.worker.drain import Drain
from unjam.worker.payload import RUNNER
from unjam.worker.reap import reap_loop
from unjam.worker.recovery import recover
from unjam.worker.renew import renew_loop, renew_once, request_loop
from unjam.worker.shared import WorkerState, boottime
from unjam.worker.storeline import AWAY, StoreLine
from unjam.worker.tidy import tidy_loop
from unjam.worker.tokens import Tokens
from unjam.worker.watch import watch_loop

EXIT_OK, EXIT_KEEPER_DIED, EXIT_KILLED = 0, 75, 130
IDLE_EVERY = 0.2
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What the command line of a worker says."""

    slots: int | None = None
    queues: tuple[str, ...] | None = None
    exit_when_idle: bool = False
    finish_first: bool = False
    """On the first signal let running attempts finish instead of giving their jobs back."""


class Worker:
    """One worker process. `run` is its whole life."""

    def __init__(self, settings: Settings, options: WorkerOptions, keeper: tuple[int, str] | None) -> None:
        self._settings = settings
        self._options = options
        self._keeper = keeper
        self._mark = new_mark(zlib.crc32(str(settings.home).encode()))
        launcher = make_launcher(
            mark=self._mark,
            base_preload=(RUNNER,),
            keeper_pidfd=keeper[0] if keeper else None,
            on_keeper_death=self._keeper_died,
            default_containment=cast(Literal["auto", "pidns", "tree"], settings.containment),
            keep_guardians=options.slots or settings.slots,
        )
        self.state = WorkerState(
            id="w" + "".join(secrets.choice(_ALPHABET) for _ in range(9)),
            host=host_id(settings.home, settings.host_id),
            settings=settings,
            slots=options.slots or settings.slots,
            line=StoreLine(lambda: open_store(settings.store), "store"),
            chores=StoreLine(lambda: open_store(settings.store), "chores"),
            launcher=launcher,
            tokens=Tokens(settings.home / "tokens"),
            faults=FaultPoints.from_environment(),
        )
        self._drain = Drain(self.state, finish_first=options.finish_first)
        self._exit_code = EXIT_OK
        self._loops: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Store, recovery, work; on the way out no new claims, TERM, grace, KILL, record, close."""
        state = self.state
        queries.preload("postgres" if is_postgres(self._settings.store) else None)
        await state.line.start()
        await state.chores.start()
        state.clock_offset = await state.line.do(lambda s: s.now()) - boottime()
        listener = self._listen()
        try:
            self._drain.install()
            await self._check_in(listener.path if listener else None)
            await asyncio.gather(state.launcher.start(), self._recover())
            pipelines = registry.names(self._settings.pipelines)
            claims = Claims(state, queues=self._options.queues, pipelines=pipelines)
            self._start(renew_loop(state), request_loop(state), reap_loop(state), tidy_loop(state))
            self._start(watch_loop(state, queues=self._options.queues, pipelines=pipelines))
            if self._options.exit_when_idle:
                self._start(self._drain_when_idle())
            state.say(f"worker {state.id}: ready, {state.slots} slot(s), store {shown(self._settings.store)}")
            try:
                await claims.run()
            except Exception as error:  # noqa: BLE001 - whatever it is, what runs is given back in order
                self._failed(error)
            await self._announce_drain()
            await claims.idle()
        finally:
            await self._close(listener)
        if self._drain.killed:
            return EXIT_KILLED
        return self._exit_code

    # -- start ----------------------------------------------------------------------------------------------
    def _listen(self) -> Listener | None:
        try:
            listener = open_listener(self._settings.store, self._settings.home, self.state.id)
        except OSError as error:
            self.state.say(f"no wake-up calls ({error}); looking every {self._settings.poll_every:g} s")
            return None

        def woken() -> None:
            listener.drain()
            self.state.woken.set()
            self.state.asked.set()

        asyncio.get_running_loop().add_reader(listener.fileno(), woken)
        return listener

    async def _check_in(self, wake_path: str | None) -> None:
        identity = identity_of(os.getpid())
        assert identity is not None, "we live"
        machine = self.state.capacity(self.state.slots)
        info = WorkerInfo(
            id=self.state.id,
            host=machine.host,
            host_name=machine.host_name,
            cpu=machine.cpu,
            memory_bytes=machine.memory_bytes,
            gpu=machine.gpu,
            identity=identity.to_json(),
            keeper_identity=self._keeper[1] if self._keeper else None,
            mark=self._mark,
            queues=self._options.queues,
            slots=self.state.slots,
            pipelines=registry.names(self._settings.pipelines),
            wake_path=wake_path,
        )
        ttl = self._settings.lease_ttl
        await self.state.line.do(lambda s: s.check_in(info, ttl=ttl))
        self.state.info = info

    async def _recover(self) -> None:
        """Recovery comes before work: what a dead worker held is free before anything is claimed."""
        found = await self.state.chores.do(lambda s: recover(s, self._settings, self.state.host))
        await self.state.line.do(lambda s: s.expire_attachments())
        if found:
            self.state.say(f"recovered: {found.sentence()}")
        for sentence in found.left:
            self.state.say(sentence)

    async def _announce_drain(self) -> None:
        """Nobody shall count on this worker any more: not only from the next renewal on."""
        try:
            await renew_once(self.state)
        except AWAY as error:
            self.state.say(f"leases could not be renewed: {error}")

    def _start(self, *duties: Coroutine[Any, Any, None]) -> None:
        for duty in duties:
            task = asyncio.create_task(duty)
            task.add_done_callback(self._duty_ended)
            self._loops.append(task)

    def _duty_ended(self, task: asyncio.Task[None]) -> None:
        """A duty ends only when it is cancelled: a worker that lost one would look alive and not be."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self.state.say_bug(f"worker {self.state.id}: internal error, stopping", error)
        self._exit_code = 1
        self._drain.begin("an internal error")

    # -- end ------------------------------------------------------------------------------------------------
    def _keeper_died(self) -> None:
        self._exit_code = EXIT_KEEPER_DIED
        self._drain.begin("its keeper died")

    async def _drain_when_idle(self) -> None:
        state, queues = self.state, self._options.queues
        pipelines = registry.names(self._settings.pipelines)
        while not state.draining:
            await asyncio.sleep(IDLE_EVERY)
            while state.running:
                state.ended.clear()
                await state.ended.wait()
            try:
                waiting = await state.line.do(lambda s: _waiting(s, queues, pipelines))
            except AWAY:
                continue  # the claims say it
            if not waiting and not state.running:
                self._drain.begin("nothing is left to do")
                return

    async def _close(self, listener: Listener | None) -> None:
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.state.launcher.close()
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener.fileno())
            listener.close()
        try:
            await self.state.line.do(lambda s: s.check_out(self.state.id))
        except AWAY as error:
            self.state.say(f"could not check out ({error}); the next start clears that up")
        await self.state.line.close()
        await self.state.chores.close()


def _waiting(store: Store, queues: Sequence[str] | None, pipelines: Sequence[str]) -> int:
    """Jobs that this worker could still get."""
    filters = [JobFilter(queue=q, pipeline=p) for q in queues or (None,) for p in pipelines]
    counts = [store.count_by_state(f) for f in filters]
    return sum(c.get(State.QUEUED, 0) + c.get(State.WAITING, 0) for c in counts)


def run_worker(settings: Settings, options: WorkerOptions, keeper: tuple[int, str] | None) -> int:
    """Run a worker until it is told to stop; returns the exit code."""
    for folder in (settings.home, settings.work_root, settings.log_root):
        Path(folder).mkdir(parents=True, exist_ok=True)

    async def life() -> int:
        return await Worker(settings, options, keeper).run()

    return asyncio.run(life())
