"""Renewals: every lease of this worker in one statement, until the last attempt is reaped (INV-DRAIN)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from unjam.errors import NotFound
from unjam.jobs.records import HeldLease
from unjam.store.port import Store
from unjam.worker.shared import WorkerState, boottime
from unjam.worker.storeline import AWAY


async def renew_loop(state: WorkerState) -> None:
    """Runs until cancelled, also while the worker drains."""
    while True:
        await asyncio.sleep(state.settings.renew_every)
        try:
            await renew_once(state)
        except AWAY as error:
            # The guardians count the leases themselves: what cannot be renewed ends in time.
            state.say(f"leases could not be renewed: {error}")


async def renew_once(state: WorkerState) -> None:
    """Extend all leases and the worker's own row; stop the attempts whose lease is gone."""
    ttl = state.settings.lease_ttl
    asked_at = boottime()
    runs = {lease: run for lease, run in state.running.items() if not run.over}
    draining = state.draining
    now = await state.line.do(lambda s: _beat(s, state, ttl=ttl, draining=draining), urgent=True)
    # A server's clock may be set: a backoff counted from what it said hours ago would end hours late.
    state.clock_offset = now - boottime()
    if not runs:
        return
    held = await state.line.do(lambda s: s.renew(state.id, list(runs), ttl=ttl), urgent=True)
    kept = {h.lease: h for h in held}
    for lease, run in runs.items():
        if run.over:
            continue
        if lease in kept:
            run.renewed(kept[lease], asked_at + ttl)
        else:
            run.lease_lost()


def _beat(store: Store, state: WorkerState, *, ttl: float, draining: bool) -> float:
    """Returns the time on the store's clock."""
    try:
        store.heartbeat(state.id, ttl=ttl, draining=draining, stuck=state.stuck)
    except NotFound:
        # Forgotten by mistake, or by a store that was restored: without its row nobody sees that it lives.
        if state.info is None:
            raise
        store.check_in(replace(state.info, draining=draining), ttl=ttl)
    return store.now()


async def request_loop(state: WorkerState) -> None:
    """Reads what is asked of running jobs: after a wake-up call, and when the watch saw something."""
    while True:
        await state.asked.wait()
        state.asked.clear()
        if not state.running:
            continue
        try:
            found = await state.line.do(lambda s: s.requests(state.id), urgent=True)
        except AWAY:
            continue  # the renewals say it; this is only the fast way
        asked = {held.lease for held in found}
        for lease, run in list(state.running.items()):
            if run.asked_to_pause and lease not in asked:
                run.withdraw()
        for held in found:
            deliver(state, held)


def deliver(state: WorkerState, held: HeldLease) -> None:
    run = state.running.get(held.lease)
    if run is not None:
        run.request(held)
