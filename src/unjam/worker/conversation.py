"""What an attempt says to its worker and what it is answered: progress, plans, units, tokens, the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from unjam.errors import LeaseLost, StoreUnavailable, UnjamError
from unjam.jobs.messages import (
    Ack,
    Failed,
    Finished,
    InputProbed,
    Message,
    PlanAccepted,
    PlanProposed,
    Progress,
    Refused,
    StageEnded,
    StageStarted,
    Stop,
    TokenReturned,
    TokenWanted,
    UnitCommitted,
    UnitsDeclared,
    UnitsVoided,
)
from unjam.jobs.model import InputFile
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.records import Claim, PlanOutcome, UnitRecord
from unjam.jobs.states import Request, UnitState
from unjam.store.port import Store
from unjam.supervise.portable import AnyTree
from unjam.worker.link import Link
from unjam.worker.picture import Picture
from unjam.worker.shared import WorkerState, boottime
from unjam.worker.storeline import RETRY_EVERY
from unjam.worker.tokens import Tokens

T = TypeVar("T")


class Conversation:
    """Serves the channel of one attempt. Every commit is answered only after the store has it."""

    def __init__(
        self,
        state: WorkerState,
        claim: Claim,
        picture: Picture,
        tree: AnyTree,
        *,
        requested: Callable[[], Request | None],
        on_lease_lost: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._state = state
        self._claim = claim
        self._lease = claim.lease
        self._picture = picture
        self._requested = requested
        self._on_lease_lost = on_lease_lost
        self._on_broken = on_broken
        self._link = Link(tree.channel, self._hear)
        self._inputs: tuple[InputFile, ...] = claim.job.spec.inputs
        self._tokens: dict[str, int] = {}
        self._gone = False
        self.finished: Finished | None = None
        self.failed: Failed | None = None
        self.told_to_stop: Request | None = None
        """What the last commit was answered: the attempt ends for it."""
        self.broken = ""
        """What came instead of a message, if the attempt broke the protocol."""

    async def serve(self) -> None:
        """Until nobody holds the attempt's end any more; tokens it held are then free."""
        try:
            await self._link.serve(self._break)
        except Exception as error:
            # An attempt that is never answered would hang until its stall limit: end it now, and say why.
            self._break(f"{type(error).__name__}: {error}")
            raise
        finally:
            for fd in self._tokens.values():
                Tokens.give_back(fd)

    def hang_up(self) -> None:
        """Its tree is gone: what it said last is still heard, but nobody waits for a token any more."""
        self._gone = True

    def tell_why(self, why: str, message: str) -> None:
        """An attempt is told why before it is signalled."""
        self._link.tell_now(Stop(why, message))

    def _break(self, what: str) -> None:
        self.broken = what
        self._on_broken()

    async def _hear(self, message: Message) -> Message | None:
        now, wall = boottime(), self._state.wall()
        match message:
            case Progress():
                self._picture.progressed(message, now=now)
            case StageStarted():
                self._picture.stage_started(message, now=now, wall=wall)
            case StageEnded():
                self._picture.stage_ended(message, now=now, wall=wall)
            case UnitsDeclared():
                self._picture.units_declared(message, now=now)
            case InputProbed():
                await self._note_media(message)
            case TokenReturned():
                if (fd := self._tokens.pop(message.name, None)) is not None:
                    Tokens.give_back(fd)
            case TokenWanted():
                return await self._take_token(message.name)
            case PlanProposed():
                return await self._plan(message)
            case UnitCommitted():
                return await self._commit_unit(message)
            case UnitsVoided():
                lost = await self._fenced(lambda s: s.void_units(self._lease, message.stage, message.names))
                return lost if isinstance(lost, Refused) else Ack()
            case Finished():
                self.finished = message
                return Ack()
            case Failed():
                self.failed = message
                return Ack()
            case _:
                self._break(f"an attempt does not send {message.kind}")
        return None

    async def _note_media(self, message: InputProbed) -> None:
        self._inputs = tuple(
            replace(source, media=message.media) if index == message.index else source
            for index, source in enumerate(self._inputs)
        )
        await self._fenced(lambda s: s.set_input_media(self._lease, self._inputs))

    async def _plan(self, message: PlanProposed) -> Message:
        body = dict(message.body)

        def store_plan(store: Store) -> PlanOutcome:
            if message.revise:
                return store.revise_plan(self._lease, message.stage, message.digest, body)
            return store.put_plan(self._lease, message.stage, message.digest, body, host=self._state.host)

        outcome = await self._fenced(store_plan)
        if isinstance(outcome, Refused):
            return outcome
        kept = tuple(
            {
                "name": unit.name,
                "uri": unit.uri,
                "size_bytes": unit.size_bytes,
                "sha256": unit.sha256,
                "result": dict(unit.result) if unit.result is not None else None,
            }
            for unit in outcome.committed
        )
        return PlanAccepted(outcome.plan.body, outcome.plan.revision, kept, outcome.voided)

    async def _commit_unit(self, message: UnitCommitted) -> Message:
        unit = UnitRecord(
            stage=message.stage,
            name=message.name,
            state=UnitState.COMMITTED,
            progress=1.0,
            fence=self._lease.fence,
            uri=message.uri,
            size_bytes=message.size_bytes,
            sha256=message.sha256,
            result=message.result,
            # What is in the row alone is at hand on every machine.
            host=self._state.host if message.uri else None,
        )
        outcome = await self._fenced(lambda s: s.commit_unit(self._lease, unit))
        if isinstance(outcome, Refused):
            return outcome
        self._picture.unit_committed(message, now=boottime())
        await self._state.faults.reach("unit_committed", self._claim.job.id)
        request = self.told_to_stop = self._requested()
        return Ack(stop=request.value if request else None)

    async def _take_token(self, name: str) -> Message:
        if name not in self._tokens:
            try:
                fd = await self._state.tokens.take(name, self._claim.job.id, lambda: self._waits_for(name))
            finally:
                self._picture.hold(None)
            if fd is None:
                return Refused(ReasonCode.INTERRUPTED, f"ended while it waited for {name}")
            self._tokens[name] = fd
        return Ack()

    def _waits_for(self, name: str) -> bool:
        """Asked at each try: who has the token may be another one by now. False: nobody waits any more."""
        owner = self._state.tokens.owner(name)
        self._picture.hold(f"{name}, held by {owner}" if owner else name)
        return not self._gone

    async def _fenced(self, work: Callable[[Store], T]) -> T | Refused:
        """A write for the attempt. A refusal is its answer; a lost lease ends it (INV-FENCE).

        A store that is away is no refusal: the attempt waits, and goes on or ends with its lease.
        """
        give_up = boottime() + self._state.settings.lease_ttl
        while True:
            try:
                return await self._state.line.do(work, urgent=True)
            except LeaseLost as error:
                self._on_lease_lost()
                return Refused(ReasonCode.WORKER_LOST, str(error))
            except StoreUnavailable as error:
                if boottime() >= give_up:
                    return Refused(error.code, str(error))
                await asyncio.sleep(RETRY_EVERY)
            except UnjamError as error:
                return Refused(error.code, str(error))
