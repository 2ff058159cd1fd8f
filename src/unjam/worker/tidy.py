"""Tidying: a worker forgets old jobs by itself, a few at a time, and gives the room they took back.

It removes what belongs to the jobs that it forgets and nothing else: what nobody knows may belong to another
store with the same folders, and is left to `unjam gc`.
"""

from __future__ import annotations

import asyncio

from unjam.worker.garbage import forget_files, forget_some
from unjam.worker.shared import WorkerState
from unjam.worker.storeline import AWAY
from unjam.worker.threads import in_thread

FIRST, EVERY = 60.0, 3600.0
"""Seconds after the start, and from then on."""


async def tidy_loop(state: WorkerState) -> None:
    """Runs until cancelled."""
    await asyncio.sleep(FIRST)
    while True:
        if forgotten := await tidy(state):
            state.say(f"forgot {forgotten} job(s) that ended {state.settings.keep_finished_days:g} days ago")
        await asyncio.sleep(EVERY)


async def tidy(state: WorkerState) -> int:
    """Forget what is old; returns how many jobs. Each step is a short transaction of its own: whoever reaps
    or claims meanwhile waits for milliseconds."""
    settings, forgotten = state.settings, 0
    try:
        while some := await state.chores.do(lambda s: forget_some(s, settings)):
            forgotten += len(some)
            await in_thread(lambda some=some: forget_files(settings, some))  # type: ignore[misc]
        while await state.chores.do(lambda s: s.shrink()):
            continue
    except AWAY:
        return forgotten  # the renewals say it; the next round goes on
    except OSError as error:  # a mount that is stale or does not answer (TimeoutError): no reason to end
        state.say(f"the files of forgotten jobs could not be removed ({error}); `unjam gc` tries again")
    return forgotten
