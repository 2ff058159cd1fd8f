"""The reaper: frees what is held by workers that died, leases that ran out and watchers that vanished."""

from __future__ import annotations

import asyncio

from unjam.jobs.machines import WorkerInfo
from unjam.store.port import Store
from unjam.store.url import is_postgres
from unjam.worker.recovery import Recovery, is_gone, reap_expired, recover
from unjam.worker.shared import WorkerState
from unjam.worker.storeline import AWAY

LOOK_EVERY = 3.0
"""Seconds between two looks, at most: a server that is frozen long enough to cost healthy workers their
leases is so in the middle of a look, whose answer comes late (`store.steady_since`)."""


async def reap_loop(state: WorkerState) -> None:
    """Until cancelled; a round whenever the watch saw that there may be something, at most one a second."""
    told: set[str] = set()
    while True:
        await asyncio.sleep(min(max(1.0, state.settings.poll_every), LOOK_EVERY))
        # Over a network it looks every round: only so does its line notice each outage, in which leases run
        # out by no fault of their owners.
        if not is_postgres(state.settings.store):
            await state.reapable.wait()
            state.reapable.clear()
        try:
            workers, found, left = await state.chores.do(lambda s: _round(s, state))
        except AWAY:
            continue  # the renewals say it; there is nothing to free that could be written
        state.neighbours = tuple(
            w.wake_path for w in workers if w.host == state.host and w.id != state.id and w.wake_path
        )
        if found:
            state.say(f"recovered: {found.sentence()}")
            state.woken.set()
        # What could not be done is tried every round, and said when it is new.
        for sentence in found.left:
            if sentence not in told:
                state.say(sentence)
        told = set(found.left)
        if left:
            state.say(f"{len(left)} job(s) paused: whoever watched them is gone")
            state.woken.set()
            state.asked.set()


def _round(store: Store, state: WorkerState) -> tuple[list[WorkerInfo], Recovery, list[str]]:
    host, settings = state.host, state.settings
    found = Recovery()
    # All is judged by this one time, and read after it. When the store freezes in between, nobody looks
    # expired for that; when it was frozen before, this answer came late, and the store knows.
    now = store.now()
    workers = store.workers()
    if any(is_gone(w, host, now) for w in workers):
        # No patience here: the next round is a second away.
        found.add(recover(store, settings, host, patience=0.0))
    found.add(reap_expired(store, settings, host, now=now))
    # While the store was away, or its clock was being set, no watcher could say that it is there.
    steady = now - store.steady_since() >= settings.attach_ttl
    return workers, found, store.expire_attachments(by=now) if steady else []
