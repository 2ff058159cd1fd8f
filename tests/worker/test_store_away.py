"""A store that cannot write for a while (unreachable, disk full) costs a worker none of its duties."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.worker.crew import Crew
from unjam.errors import DiskFull, LeaseLost, StoreUnavailable, UnjamError
from unjam.jobs.machines import WorkerInfo
from unjam.jobs.records import Lease
from unjam.store import open_store
from unjam.store.port import Store
from unjam.supervise.faults import FaultPoints
from unjam.worker.claim import Claims
from unjam.worker.reap import reap_loop
from unjam.worker.renew import renew_loop, request_loop
from unjam.worker.shared import WorkerState
from unjam.worker.storeline import StoreLine
from unjam.worker.tokens import Tokens
from unjam.worker.watch import watch_loop


class Sick:
    """The real store, except that every call fails while `error` is set; counts the calls."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.error: UnjamError | None = None
        self.failed = 0
        self.served = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found) or name == "close":
            return found

        def call(*words: Any, **named: Any) -> Any:
            if self.error is not None:
                self.failed += 1
                raise self.error
            self.served += 1
            return found(*words, **named)

        return call


def test_an_end_waits_for_the_store_but_not_once_the_worker_is_to_end_at_once(tmp_path: Path) -> None:
    """A second Ctrl+C ends a worker whose store is gone for good; its leases run out (INV-LOST)."""
    c = Crew(tmp_path)
    sick = Sick(c.store)
    sick.error = DiskFull("full")

    async def life() -> None:
        line = StoreLine(lambda: cast(Store, sick), "test")
        await line.start()
        ending = asyncio.create_task(line.persist(lambda s: s.now()))
        async with asyncio.timeout(10):
            while sick.failed < 3:
                await asyncio.sleep(0.01)
            assert not ending.done()
            line.patient = False
            with pytest.raises(LeaseLost, match="full"):
                await ending
        await line.close()

    asyncio.run(life())


async def wake(state: WorkerState) -> None:
    """What calls and the watch do for the duties that wait for them."""
    for event in (state.woken, state.asked, state.reapable):
        event.set()
    await asyncio.sleep(0.01)


def watch(state: WorkerState) -> Coroutine[Any, Any, None]:
    return watch_loop(state, queues=None, pipelines=("none",))


def claims(state: WorkerState) -> Coroutine[Any, Any, None]:
    return Claims(state, queues=None, pipelines=("none",)).run()


@pytest.mark.parametrize("error", [DiskFull("full"), StoreUnavailable("away")], ids=["full", "away"])
@pytest.mark.parametrize("duty", [renew_loop, request_loop, reap_loop, watch, claims])
def test_a_duty_outlives_a_store_that_cannot_write(
    tmp_path: Path, error: UnjamError, duty: Callable[[WorkerState], Coroutine[Any, Any, None]]
) -> None:
    c = Crew(tmp_path, poll_every=0.01, renew_every=0.01)
    c.store.check_in(WorkerInfo("w1", "elsewhere", "", None, 0, None, 1, (), None), ttl=30)
    sick: list[Sick] = []

    def opened() -> Store:
        sick.append(Sick(open_store(c.settings.store)))
        return cast(Store, sick[-1])

    async def life() -> None:
        line = StoreLine(opened, "test")
        await line.start()
        state = WorkerState(
            id="w1", host="here", settings=c.settings, slots=1, line=line, chores=line,
            launcher=cast(Any, None), tokens=Tokens(tmp_path / "tokens"), faults=FaultPoints(None),
        )  # fmt: skip
        [store] = sick
        if duty is request_loop:
            # It asks only while something runs.
            state.running[Lease("j1", 1)] = cast(Any, SimpleNamespace(asked_to_pause=False))
        store.error = error
        task = asyncio.create_task(duty(state))
        async with asyncio.timeout(10):
            while not store.failed and not task.done():
                await wake(state)
            assert not task.done(), task
            store.error = None
            while not store.served and not task.done():
                await wake(state)
        assert not task.done(), task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await line.close()

    asyncio.run(life())
    c.store.close()
