"""The claim loop: takes jobs that fit while there are free slots, woken by calls and by the watch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from unjam.jobs.records import Claim
from unjam.store.wakeup import Waker
from unjam.worker.attempt import AttemptRun
from unjam.worker.shared import WorkerState, boottime
from unjam.worker.shortage import descriptors, room_for_attempts
from unjam.worker.storeline import AWAY

COURTESY = 0.002
"""Seconds a worker waits for its neighbours before each claim, for each attempt it runs and once more."""


class Claims:
    """Starts an AttemptRun for every job it claims."""

    def __init__(self, state: WorkerState, *, queues: Sequence[str] | None, pipelines: Sequence[str]) -> None:
        self._state = state
        self._queues = queues
        self._pipelines = pipelines
        self._runs: dict[asyncio.Task[None], AttemptRun] = {}
        self._neighbours = Waker(lambda: state.neighbours)
        self._told_short = False

    async def run(self) -> None:
        """Until the worker drains."""
        state = self._state
        while not state.draining:
            state.woken.clear()
            free = min(state.slots - len(state.running), self._room())
            if free > 0:
                await self._be_courteous()
                if await self._claim(1 if state.neighbours else free):
                    continue  # what was claimed may not be all that fits
            await state.woken.wait()

    def _room(self) -> int:
        """How many attempts the machine lets us start now."""
        state = self._state
        unborn = sum(run.unborn for run in state.running.values())
        if boottime() < state.claims_held_until:
            return 0
        room = room_for_attempts(unborn)
        if state.claims_held_until:
            # One to try it, not all of them. What publishes or hashes for minutes is no try.
            return min(room, int(not any(run.starting for run in state.running.values())))
        if unborn == 0 and (room == 0) is not self._told_short:
            self._told_short = room == 0
            state.say(descriptors() if self._told_short else "there are file descriptors again")
        return room

    async def idle(self) -> None:
        """Return once no attempt runs any more, but for those that cannot die: the kernel may never let go of
        them, and their ends are written (INV-DEADLINE)."""
        while waiting := [task for task, run in self._runs.items() if not run.quarantined]:
            await asyncio.wait(waiting, timeout=1.0)

    async def _be_courteous(self) -> None:
        """Let the other workers of this machine go first, the more so the more we run: whoever just freed a
        slot would otherwise take it again before a hungry neighbour has heard of it (measured: 3 of 200 jobs
        for one of four workers)."""
        if self._state.neighbours:
            await asyncio.sleep(COURTESY * (1 + len(self._state.running)))

    async def _claim(self, free: int) -> bool:
        state, settings = self._state, self._state.settings
        capacity = state.capacity(free)
        # The lease is counted from before it was asked for: the store's answer may come late (INV-ONCE).
        asked_at = boottime()
        try:
            claims = await state.line.do(
                lambda s: s.claim(
                    state.id,
                    capacity=capacity,
                    queues=self._queues,
                    pipelines=self._pipelines,
                    ttl=settings.lease_ttl,
                    limit=free,
                )
            )
            if claims and boottime() - asked_at > settings.renew_every / 2:
                # So late that an attempt could end with its lease before the next renewal, or at once.
                asked_at = boottime()
                claims = await self._still_held(claims)
        except AWAY as error:
            state.say(f"the store does not answer: {error}")
            return False
        for claim in claims:
            self._start(claim, asked_at + settings.lease_ttl)
        return bool(claims)

    async def _still_held(self, claims: Sequence[Claim]) -> list[Claim]:
        """Those whose leases can be renewed: the others ran out, and come round again."""
        state, leases = self._state, [claim.lease for claim in claims]
        held = await state.line.do(
            lambda s: s.renew(state.id, leases, ttl=state.settings.lease_ttl), urgent=True
        )
        kept = {one.lease for one in held}
        return [claim for claim in claims if claim.lease in kept]

    def _start(self, claim: Claim, lease_until: float) -> None:
        state = self._state
        run = AttemptRun(state, claim, lease_until)
        state.running[claim.lease] = run
        task = asyncio.create_task(run.run(), name=f"attempt {claim.job.id}")
        self._runs[task] = run

        def over(done: asyncio.Task[None]) -> None:
            del self._runs[done]
            del state.running[claim.lease]
            state.woken.set()
            state.ended.set()
            self._neighbours.poke()
            if not done.cancelled() and (error := done.exception()) is not None:
                # Its end is written where that was possible; else the lease runs out (INV-LOST).
                state.say_bug(f"{run.label}: internal error", error)
                run.lease_lost()

        task.add_done_callback(over)
