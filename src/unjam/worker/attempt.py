"""One attempt's whole life: preflight, launch, work, end of the tree, publish or give back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from unjam.errors import LeaseLost, UnjamError
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.records import Claim, HeldLease
from unjam.jobs.retry import Blame, Ending
from unjam.jobs.states import Request
from unjam.pipelines.runner import explain
from unjam.supervise.launch import LaunchFailed, LaunchSpec, Started, Stuck, TreeEnd, Usage
from unjam.supervise.portable import AnyTree
from unjam.worker import ending as why
from unjam.worker import paths
from unjam.worker.closing import Closing, label_of
from unjam.worker.conversation import Conversation
from unjam.worker.ending import Facts, ending_of, succeeded
from unjam.worker.logs import keep_in_bounds
from unjam.worker.payload import launch_spec
from unjam.worker.picture import Picture
from unjam.worker.preflight import Go, preflight
from unjam.worker.results import look_up, resolve
from unjam.worker.shared import WorkerState, boottime
from unjam.worker.shortage import is_shortage
from unjam.worker.storeline import AWAY
from unjam.worker.threads import Pulse, in_thread

STUCK_SECONDS = 10.0
"""A tree that does not end for this long after its SIGKILL is fenced; its slot stays taken (INV-DEADLINE)."""

NOTHING_RAN = TreeEnd(None, None, None, 0, 0.0, 0, guardian_died=False)


class _Unwanted(Exception):
    """Asked to stop before anything ran."""


class AttemptRun:
    """Runs one claim to its end. Everything happens on the loop; blocking work goes to threads."""

    def __init__(self, state: WorkerState, claim: Claim, lease_until: float) -> None:
        self.state = state
        self.claim = claim
        self.job = claim.job
        self.lease = claim.lease
        self.lease_until = lease_until
        self.picture = Picture(now=boottime(), stall_after=self.job.spec.limits.stall_after)
        self.talk: Conversation | None = None
        self._tree: AnyTree | None = None
        self.unborn = True
        """Its guardian has not said hello: what its start takes of the machine is still to be taken."""
        self._hashing = False
        self._lost = False
        self._closing = Closing(state, claim, self.picture)
        self.log_path = ""
        self.untold: Started | None = None
        """How the tree is held, while the store does not know it yet."""
        self._requested: Request | None = claim.job.requested
        self._asked_by = ""
        self._stall_evidence = ""
        self._stopping = False
        self._stuck_since: float | None = None
        self.quarantined = False
        """Its end is written, its tree cannot die: it keeps its slot until the kernel lets go."""
        self._pause_timer: asyncio.TimerHandle | None = None

    @property
    def started(self) -> bool:
        return self._tree is not None

    @property
    def starting(self) -> bool:
        """Is it being started, or about to be? Not while it hashes old outputs, which takes minutes."""
        return self.unborn and not self._hashing

    @property
    def label(self) -> str:
        return label_of(self.claim)

    @property
    def over(self) -> bool:
        """Its end is written and its lease is gone."""
        return self._closing.over

    # -- life -----------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """The attempt from claim to end. Never raises for what an attempt or a store can do."""
        try:
            await self.state.faults.reach("claimed", self.job.id)
            go = await self._preflight()
            self._hashing = False
            if go is not None:
                await self._attempt(go)
        except LeaseLost as error:
            self.state.say(f"{self.label}: the lease is lost ({error}); nothing of this attempt counts")
        except Exception as error:
            await self._internal_error(error)
            raise

    async def _internal_error(self, error: Exception) -> None:
        """A bug of ours ends this attempt with its reason; left to its lease the job would come round again
        and again without one."""
        tree, ending = (
            self._tree,
            Ending(ReasonCode.INTERNAL_ERROR, f"in the worker: {type(error).__name__}: {error}", Blame.JOB),
        )
        end = NOTHING_RAN
        if tree is not None:
            tree.kill(why.BROKEN)
            end = await tree.done()
        if not (self.over or self._lost):
            await self._closing.badly(ending, end)

    async def _preflight(self) -> Go | None:
        pulse = Pulse()

        def on_block() -> None:
            # Outputs that were touched are hashed again, and a film takes minutes: that is no dead mount.
            pulse.beat()
            self._hashing = True
            self._refuse_unwanted()

        try:
            self._refuse_unwanted()
            await self._resolve_inputs(on_block, pulse)
            if self.job.spec.output_path is None:
                return Go(None)
            found = await in_thread(lambda: preflight(self.job, on_block), pulse=pulse)
            if isinstance(found, Go):
                return found
            await self._closing.skip(found)
        except _Unwanted:
            asked = {Request.CANCEL: why.CANCEL, Request.PAUSE: why.PAUSE, None: why.DRAIN}[self._requested]
            await self._closing.give_back(ending_of(replace(NOTHING_RAN, reason=asked), self._facts))
        except TimeoutError:
            dead = "the output folder does not answer (dead mount?)"
            await self._closing.give_back(Ending(ReasonCode.PERMISSION, dead, Blame.JOB))
        except (UnjamError, OSError) as error:
            if isinstance(error, LeaseLost):
                raise
            told = explain(error)
            await self._closing.give_back(Ending(told.code, str(told), Blame.JOB))
        return None

    async def _resolve_inputs(self, on_block: Callable[[], None], pulse: Pulse) -> None:
        """Results of other jobs are files now."""
        inputs = self.job.spec.inputs
        if not any(source.source for source in inputs):
            return
        made = await self.state.line.persist(lambda s: look_up(s, inputs))
        found = await in_thread(lambda: resolve(inputs, made, on_block), pulse=pulse)
        if found != inputs:
            await self.state.line.persist(lambda s: s.set_input_media(self.lease, found))
            self.job = replace(self.job, spec=replace(self.job.spec, inputs=found))
            self.claim = replace(self.claim, job=self.job)

    def _refuse_unwanted(self) -> None:
        if self.state.draining or self._requested is not None:
            raise _Unwanted

    async def _attempt(self, go: Go) -> None:
        try:
            spec = launch_spec(self.claim, self.state, go.output_path)
            await self._prepare(spec)
            await self.state.faults.reach("prepared", self.job.id)
            tree = await self.state.launcher.launch(spec)
        except (LaunchFailed, OSError, UnjamError) as error:
            if is_shortage(error):
                self.state.hold_claims(f"{self.label}: could not be started just now: {error}")
                told = f"could not be started just now: {error}"
                await self._closing.give_back(Ending(ReasonCode.INTERRUPTED, told, Blame.ASKED))
                return
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            await self._closing.give_back(
                Ending(explain(cause).code, f"could not be started: {error}", Blame.JOB)
            )
            return
        self.unborn = False
        await self.state.faults.reach("hello", self.job.id)
        talk = await self._begin(tree, spec)
        end = await self._until_gone(tree, talk)
        await self.state.faults.reach("tree_gone", self.job.id)
        if self._lost or self.over:
            return
        if end.reason in ("lease", why.LEASE_LOST):
            raise LeaseLost("it ran out before it could be renewed")
        if end.reason in ("short", "start_failed"):
            self.state.hold_claims(f"{self.label}: its processes could not be started")
        if talk.finished is not None and succeeded(end, self._facts):
            await self._closing.publish(end, talk.finished)
        else:
            ending = ending_of(end, self._facts)
            await self._closing.badly(ending, end)
        await self.state.faults.reach("cleared", self.job.id)

    async def _prepare(self, spec: LaunchSpec) -> None:
        paths.make_folders(spec)
        await self._closing.drop_parts(self.lease.fence - 1)

    async def _begin(self, tree: AnyTree, spec: LaunchSpec) -> Conversation:
        """INV-ONCE: nothing runs that the store does not know; the guardian waits for the commit."""
        identity = tree.identity
        try:
            await self.state.line.do(
                lambda s: s.begin(
                    self.lease, identity=identity.to_json(), pid=identity.pid, log_path=spec.log_path
                )
            )
        except Exception as error:
            tree.abandon()
            await tree.done()
            tree.channel.close()
            if isinstance(error, AWAY):
                raise LeaseLost(f"its start could not be stored: {error}") from error
            raise
        await self.state.faults.reach("begun", self.job.id)
        talk = Conversation(
            self.state,
            self.claim,
            self.picture,
            tree,
            requested=lambda: self._requested,
            on_lease_lost=self.lease_lost,
            on_broken=lambda: self.kill(why.BROKEN),
        )
        self.log_path = spec.log_path
        tree.on_usage = self._on_usage
        tree.on_stuck = self._on_stuck
        self._tree, self.talk = tree, talk
        tree.go(self.lease_until)
        await self.state.faults.reach("gone", self.job.id)
        self.state.say(f"{self.label}: started (attempt {self.claim.attempt})")
        if self.state.draining:
            self.drain()  # asked while the guardian was being born
        self._obey()
        return talk

    async def _until_gone(self, tree: AnyTree, talk: Conversation) -> TreeEnd:
        serving = asyncio.create_task(talk.serve())
        knowing = asyncio.create_task(self._note_started(tree))
        end = await tree.done()
        self._tree = None
        talk.hang_up()
        try:
            await knowing
            # The tree is gone, so the channel ends by itself once what the attempt said last is read.
            await serving
        finally:
            tree.channel.close()
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        await keep_in_bounds(self.state, [self.log_path])
        return end

    async def _note_started(self, tree: AnyTree) -> None:
        try:
            self.untold = await tree.started()
        except LaunchFailed:
            return  # it ended before anything ran; TreeEnd says why
        self._closing.containment = self.untold.containment
        self.state.claims_held_until = 0.0  # the machine has room again

    # -- what others ask ------------------------------------------------------------------------------------
    def renewed(self, held: HeldLease, lease_until: float) -> None:
        self.lease_until = lease_until
        if self._tree is not None:
            self._tree.renew(lease_until)
        self.request(held)

    def request(self, held: HeldLease) -> None:
        """A cancel or pause was asked of the job, or a pause withdrawn."""
        if held.requested is None:
            self.withdraw()
        if held.requested is None or held.requested is self._requested:
            return
        self._requested = held.requested
        self._asked_by = held.request_reason.message if held.request_reason else ""
        self._obey()

    @property
    def asked_to_pause(self) -> bool:
        return self._requested is Request.PAUSE

    def withdraw(self) -> None:
        """Nobody asks for the pause any more. What is stopping already is queued again at its end."""
        if self._requested is Request.PAUSE and not self._stopping:
            self.state.say(f"{self.label}: goes on, the pause was withdrawn")
            self._requested, self._asked_by = None, ""
            if self._pause_timer is not None:
                self._pause_timer.cancel()
                self._pause_timer = None

    def _obey(self) -> None:
        if self._requested is Request.CANCEL:
            self.stop(why.CANCEL, self._asked_by or "cancelled")
        elif self._requested is Request.PAUSE and self._tree is not None and self._pause_timer is None:
            # A pause waits for the next unit commit, where it costs nothing, but not longer than the grace.
            delay = self.state.settings.grace if self.picture.has_units else 0.0
            self.state.say(
                f"{self.label}: pausing{' at its next finished unit' if delay else ''}, {self._asked_by}"
            )
            loop = asyncio.get_running_loop()
            self._pause_timer = loop.call_later(delay, self.stop, why.PAUSE, self._asked_by or "paused")

    def stop(self, reason: str, message: str) -> None:
        """Tell the attempt why, then TERM, grace, KILL."""
        if self._tree is None or self.talk is None or self._stopping:
            return
        self._stopping = True
        self.talk.tell_why(reason, message)
        self._tree.stop(reason)

    def drain(self) -> None:
        """The worker stops: the job is queued again as soon as the tree is gone."""
        self.stop(why.DRAIN, "its worker is stopping")

    def drain_now(self) -> None:
        """Like `drain`, without grace. What is only being born drains when it is there."""
        if self._tree is not None:
            self._stopping = True
            self.kill(why.DRAIN)

    def kill(self, reason: str) -> None:
        if self._tree is not None:
            self._tree.kill(reason)

    def lease_lost(self) -> None:
        """INV-FENCE: somebody else may hold the job now. Nothing this attempt does counts any more."""
        self._lost = True
        if self._tree is not None and self.talk is not None:
            self.talk.tell_why(why.LEASE_LOST, "its lease ran out")
        self.kill(why.LEASE_LOST)

    # -- what is watched ------------------------------------------------------------------------------------
    def tick(self, now: float) -> None:
        """Once a second: is it stalled, is its stage over its limit, is it stuck in the kernel?"""
        if self._tree is None or self.over:
            return
        # A worker that is to end at once does not wait whether the kernel lets go after all.
        patience = STUCK_SECONDS if self.state.line.patient else 0.0
        if self._stuck_since is not None and now - self._stuck_since > patience:
            self._closing.over = True
            asyncio.get_running_loop().create_task(self._quarantine())
        if self._stopping:
            return
        verdict = self.picture.check(now)
        if verdict.stalled:
            self._stall_evidence = self.picture.stalled = verdict.evidence
            self.state.say(f"{self.label}: stalled: {verdict.evidence}")
            self.stop(why.STALLED, verdict.evidence)
        elif (stage := self.picture.overdue(now)) is not None:
            self.stop(why.STAGE_TIMEOUT, f"stage {stage} is over its time limit")

    def _on_usage(self, usage: Usage) -> None:
        self.picture.used(
            cpu_seconds=usage.cpu_seconds, rss_bytes=usage.rss_bytes, processes=usage.processes, now=usage.at
        )

    def _on_stuck(self, stuck: Stuck) -> None:
        self._stuck_since = self._stuck_since or boottime()
        states = ", ".join(f"{p} ({s})" for p, s in zip(stuck.pids, stuck.states, strict=False))
        self.picture.stalled = f"processes that cannot be killed, stuck in the kernel: {states}"
        self.state.say(f"{self.label}: {self.picture.stalled}")

    async def _quarantine(self) -> None:
        """The tree cannot die: fence it, say so, and leave its slot taken until the kernel lets go."""
        told = self.picture.stalled or "stuck in the kernel"
        ending = Ending(ReasonCode.STALLED, told, Blame.JOB, self.picture.units_committed > 0)
        try:
            await self._closing.badly(ending, NOTHING_RAN)
        except LeaseLost:
            self.state.say(f"{self.label}: fenced by somebody else already")
        self.quarantined = True

    # -- ends -----------------------------------------------------------------------------------------------
    @property
    def _facts(self) -> Facts:
        limits = self.job.spec.limits
        return Facts(
            finished=self.talk.finished if self.talk else None,
            failed=self.talk.failed if self.talk else None,
            # A commit may have been answered with a pause that was withdrawn since.
            requested=self._requested or (self.talk.told_to_stop if self.talk else None),
            asked_by=self._asked_by,
            stall_evidence=self._stall_evidence,
            stage=self.picture.stage,
            timeout=limits.timeout,
            memory_bytes=limits.memory_bytes,
            advanced=self.picture.units_committed > 0,
            broken=self.talk.broken if self.talk else "",
        )
