"""The worker's line to the store: one thread, one connection, urgent calls first."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from unjam.errors import DiskFull, LeaseLost, StoreUnavailable
from unjam.store.port import Store
from unjam.worker.threads import in_thread

T = TypeVar("T")
RETRY_EVERY = 0.5
"""Seconds between tries of a write that must not be lost."""
CLOSE_LIMIT = 5.0
"""Seconds that the calls under way may take when the worker ends."""
URGENT, NORMAL = 0, 1
AWAY = (StoreUnavailable, DiskFull)
"""Nothing was written and a later try may succeed: no duty of a worker ends by one of these."""


@dataclass(order=True)
class _Call:
    priority: int
    number: int
    work: Callable[[Store], Any] | None = field(compare=False)
    answer: asyncio.Future[Any] | None = field(compare=False, default=None)


class StoreLine:
    """Calls the store off the loop. Renewals are urgent: a slow listing must not cost a lease (INV-DRAIN)."""

    def __init__(self, open_store: Callable[[], Store], name: str) -> None:
        self._open = open_store
        self._calls: queue.PriorityQueue[_Call] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.patient = True
        """False: a worker that is to end at once does not wait for a store that is away."""

    async def start(self) -> None:
        """Open the store in its thread. Raises what opening raises."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        await self.do(lambda _: None)

    async def do(self, work: Callable[[Store], T], *, urgent: bool = False) -> T:
        """Run `work` with the store and return what it returns, or raise what it raises."""
        if self._loop is None:
            raise RuntimeError("StoreLine is not started")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._calls.put(_Call(URGENT if urgent else NORMAL, next(self._numbers), work, answer))
        return await answer

    async def persist(self, work: Callable[[Store], T]) -> T:
        """Like `do`, but an unreachable store is asked again until it answers: the end of an attempt is not
        to be lost because a disk was full for a minute (INV-LOST). A lost lease still raises, and so does one
        that is given up by a worker without patience: the next start finds it and goes on."""
        while True:
            try:
                return await self.do(work, urgent=True)
            except AWAY as error:
                if not self.patient:
                    raise LeaseLost(f"its end could not be stored: {error}") from error
                await asyncio.sleep(RETRY_EVERY)

    async def close(self) -> None:
        """Finish the calls already made, then close the connection."""
        if self._thread.is_alive():
            self._calls.put(_Call(NORMAL + 1, next(self._numbers), None))
            try:
                await in_thread(self._thread.join, limit=CLOSE_LIMIT)
            except TimeoutError:
                return  # it hangs on a dead mount; what it would have done is done by the next start

    def _run(self) -> None:
        store: Store | None = None
        while True:
            call = self._calls.get()
            if call.work is None:
                break
            try:
                if store is None:
                    store = self._open()
                result = call.work(store)
            except BaseException as error:  # noqa: BLE001 - it is handed to whoever asked, whatever it is
                self._answer(call, None, _away(error))
            else:
                self._answer(call, result, None)
        if store is not None:
            store.close()

    def _answer(self, call: _Call, result: Any, error: BaseException | None) -> None:
        def tell() -> None:
            if call.answer is None or call.answer.done():
                return
            if error is not None:
                call.answer.set_exception(error)
            else:
                call.answer.set_result(result)

        if self._loop is not None:
            # The loop is closed when the worker dies of an error of its own: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(tell)


def _away(error: BaseException) -> BaseException:
    """Without a descriptor a store is as good as away: what was begun is rolled back, a later try works."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return StoreUnavailable(f"no file descriptors left to use the store: {error}")
    return error
