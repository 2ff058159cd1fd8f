"""Once a second: stall checks for every attempt, logs kept in bounds, and one call to the store for all that
is to be told and looked for.

A worker wakes once for all of it, and so does the thread of its store: what is done once a second is never in
the processor's caches, and each wake of its own cost a fifth of a millisecond.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from unjam.errors import LeaseLost
from unjam.jobs.records import Due, Lease, ProgressUpdate
from unjam.store.port import Store
from unjam.supervise.launch import Started
from unjam.worker.logs import keep_in_bounds
from unjam.worker.shared import WorkerState, boottime
from unjam.worker.storeline import AWAY

EVERY = 1.0
OVERSLEPT = 5.0
"""Seconds by which it wakes late when the machine slept, or the worker was stopped: none is so busy."""


class _Look:
    """What one call to the store found."""

    def __init__(self) -> None:
        self.stale: Sequence[Lease] = ()
        self.unwritten = False
        self.due: Due | None = None


async def watch_loop(state: WorkerState, *, queues: Sequence[str] | None, pipelines: Sequence[str]) -> None:
    """Runs until cancelled. Wake-up calls are hints: this look at the store is the floor under them."""
    looked_at = 0.0
    while True:
        pause = min(EVERY, state.settings.poll_every)
        due_at = boottime() + pause
        await asyncio.sleep(pause)
        now = boottime()
        late = now - due_at
        for run in list(state.running.values()):
            if late > OVERSLEPT:
                # Else a lid that was closed for an hour made every job stalled, by its own fault (INV-STALL).
                run.picture.slept(late, now=now)
            run.tick(now)
        await write_containment(state)
        if look := now - looked_at > state.settings.poll_every - 0.01:
            looked_at = now
        await _exchange(state, queues, pipelines, look=look)
        await keep_in_bounds(state, [run.log_path for run in state.running.values() if run.log_path])


async def write_containment(state: WorkerState) -> None:
    """How the trees of new attempts are held. Those that end within a second tell it with their end: a write
    of its own for each would cost short jobs a fifth of their throughput."""
    for run in [r for r in state.running.values() if r.untold is not None and not r.over]:
        started, run.untold = run.untold, None
        if started is None:
            continue
        try:
            await state.line.do(partial(_set_containment, run.lease, started))
        except AWAY:
            run.untold = started
        except LeaseLost:
            run.lease_lost()


def _set_containment(lease: Lease, started: Started, store: Store) -> None:
    store.set_containment(lease, containment=started.containment, pid=started.pid)


async def _exchange(
    state: WorkerState, queues: Sequence[str] | None, pipelines: Sequence[str], *, look: bool
) -> None:
    """The newest pictures of all attempts in one transaction, and what waits for us."""
    now, wall = boottime(), state.wall()
    runs = [r for r in state.running.values() if r.started and not r.over and r.picture.tells(now)]
    if not (runs or look):
        return
    updates = [run.picture.update(run.lease, now=now, wall=wall) for run in runs]
    # Without a free slot nothing can be claimed: then no queue is looked at.
    served = pipelines if len(state.running) < state.slots else ()

    def ask(store: Store) -> _Look:
        found = _Look()
        _write(store, updates, found)
        if look:
            found.due = store.due(state.id, host=state.host, queues=queues, pipelines=served)
        return found

    try:
        found = await state.line.do(ask)
    except AWAY:
        found = _Look()
        found.unwritten = True
        # Whose duty it is finds out by itself, and says so where that is due.
        state.woken.set()
        state.asked.set()
    by_lease = {run.lease: run for run in runs}
    for run in runs:
        # Written with the next round then; leases are the renewals' business.
        run.picture.changed |= found.unwritten
    for lease in found.stale:
        if not by_lease[lease].over:
            by_lease[lease].lease_lost()
    if found.due is not None:
        _tell(state, found.due)


def _write(store: Store, updates: Sequence[ProgressUpdate], found: _Look) -> None:
    try:
        found.stale = store.save_progress(updates) if updates else ()
    except AWAY:
        found.unwritten = True  # a full disk: what is asked of us can be read all the same


def _tell(state: WorkerState, due: Due) -> None:
    """Wake the duties that have something to do."""
    if due.claimable:
        state.woken.set()
    # A pause that was asked for may have been withdrawn: then there is no request any more.
    if due.requested or any(run.asked_to_pause for run in state.running.values()):
        state.asked.set()
    if due.expired or due.abandoned or due.neighbours or state.neighbours:
        state.reapable.set()
