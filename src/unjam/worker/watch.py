"""Once a second: stall checks for every attempt, one batched progress write, logs kept in bounds."""

from __future__ import annotations

import asyncio
from functools import partial

from unjam.errors import LeaseLost
from unjam.jobs.records import Lease
from unjam.store.port import Store
from unjam.supervise.launch import Started
from unjam.worker.logs import keep_in_bounds
from unjam.worker.shared import WorkerState, boottime
from unjam.worker.storeline import AWAY

EVERY = 1.0


async def watch_loop(state: WorkerState) -> None:
    """Runs until cancelled."""
    while True:
        await asyncio.sleep(EVERY)
        now = boottime()
        for run in list(state.running.values()):
            run.tick(now)
        await write_containment(state)
        await write_progress(state)
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


async def write_progress(state: WorkerState) -> None:
    """The newest pictures of all attempts in one transaction."""
    now, wall = boottime(), state.wall()
    runs = [r for r in state.running.values() if r.started and not r.over and r.picture.changed]
    if not runs:
        return
    updates = [run.picture.update(run.lease, now=now, wall=wall) for run in runs]
    try:
        stale = await state.line.do(lambda s: s.save_progress(updates))
    except AWAY:
        for run in runs:
            run.picture.changed = True  # written with the next round; leases are the renewals' business
        return
    by_lease = {run.lease: run for run in runs}
    for lease in stale:
        if not by_lease[lease].over:
            by_lease[lease].lease_lost()
