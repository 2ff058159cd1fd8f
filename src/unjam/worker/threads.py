"""Blocking file work off the loop, in threads that a dead mount may keep for ever without harm."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
FILE_LIMIT = 30.0
"""Seconds that one small file operation may take: a dead network mount must not hold a job for ever."""


class Pulse:
    """Beaten by long work as it advances, so that slow is told from dead."""

    def __init__(self) -> None:
        self._beats = self._seen = 0

    def beat(self) -> None:
        self._beats += 1

    def beaten(self) -> bool:
        """Since the last question?"""
        before, self._seen = self._seen, self._beats
        return self._beats != before


async def in_thread(
    work: Callable[[], T], *, limit: float | None = FILE_LIMIT, pulse: Pulse | None = None
) -> T:
    """Run `work` in a thread of its own. Raises TimeoutError after `limit` seconds, with a `pulse` after so
    long without a beat; the thread is left to its fate.

    Not asyncio's pool: six threads that hang would fill it, and a worker that ends would wait for them.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever asked, whatever it is
            _call(loop, _fail, answer, error)
        else:
            _call(loop, _succeed, answer, result)

    threading.Thread(target=run, name="files", daemon=True).start()
    while True:
        done, _ = await asyncio.wait([answer], timeout=limit)
        if done:
            return answer.result()
        if pulse is None or not pulse.beaten():
            answer.cancel()
            raise TimeoutError(f"no answer within {limit} s")


def _call(loop: asyncio.AbstractEventLoop, tell: Callable[..., None], *words: Any) -> None:
    # The loop is closed when the worker ended before the mount answered: then nobody waits any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(tell, *words)


def _succeed(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[T], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
