"""How the end of one attempt is written: where its job goes, what is published, what becomes of its files."""

from __future__ import annotations

import random
from dataclasses import replace

from unjam.jobs.messages import Finished
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import AttemptEnd, Claim, StagedOutput
from unjam.jobs.retry import Decision, Ending, decide
from unjam.jobs.states import AttemptState, StageState, State
from unjam.store.port import Store
from unjam.supervise.launch import TreeEnd
from unjam.worker import paths
from unjam.worker.ending import attempt_state_of
from unjam.worker.picture import Picture
from unjam.worker.preflight import Skip
from unjam.worker.publish import Refusal, artifact_of, publish_outputs
from unjam.worker.shared import WorkerState
from unjam.worker.threads import in_thread


class Closing:
    """The ways an attempt may end, each written once. All of them raise LeaseLost."""

    def __init__(self, state: WorkerState, claim: Claim, picture: Picture) -> None:
        self._state = state
        self._job = claim.job
        self._lease = claim.lease
        self._picture = picture
        self._label = label_of(claim)
        self.over = False
        """Its end is written and its lease is gone."""
        self.containment: str | None = None
        """How its tree was really held, once that is known."""

    async def skip(self, found: Skip) -> None:
        reason = Reason(ReasonCode.OK, f"done before, and still whole: {found.output}")
        # They are its results all the same: `job:ID` and whoever reads the paths find them.
        end = AttemptEnd(
            AttemptState.SUCCEEDED, reason, State.SKIPPED, reason, self._job.counters, artifacts=found.made
        )
        await self._state.line.persist(lambda s: s.unlease(self._lease, end))
        self.over = True
        self._state.say(f"{self._label}: skipped, {reason.message}")

    async def publish(self, tree: TreeEnd, finished: Finished) -> None:
        outputs = tuple(StagedOutput(**o) for o in finished.outputs)
        partial = finished.partial
        reason = Reason(ReasonCode.OK, partial or "done")
        job_state = State.PARTIAL if partial else State.SUCCEEDED
        end = AttemptEnd(
            attempt_state=AttemptState.SUCCEEDED,
            attempt_reason=reason,
            job_state=job_state,
            job_reason=reason,
            counters=self._job.counters,
            artifacts=tuple(artifact_of(o) for o in outputs),
            peak_rss_bytes=tree.peak_rss_bytes or None,
            cpu_seconds=tree.cpu_seconds or None,
            containment=self.containment,
            stages=self._picture.stages_at_end(StageState.SUCCEEDED, wall=self._state.wall()),
        )
        try:
            await publish_outputs(self._state, self._job, self._lease, outputs, end)
        except Refusal as refusal:
            await self.badly(refusal.ending, tree)
            return
        self.over = True
        self._state.say(f"{self._label}: {job_state}")
        settings, job_id = self._state.settings, self._job.id
        # A thread for what may take long; a job that left nothing costs two system calls.
        if not paths.drop_empty_work(settings, job_id, self._lease.fence):
            try:
                await in_thread(lambda: paths.drop_work(settings, job_id))
            except TimeoutError:
                self._state.say(f"{self._label}: its work folder is still being removed")

    async def badly(self, ending: Ending, tree: TreeEnd) -> None:
        """Any end but a published one: where the job goes is decided by `retry.decide`."""
        decision = self._decide(ending)
        attempt_state = attempt_state_of(ending)
        interrupted = attempt_state is AttemptState.INTERRUPTED
        end = AttemptEnd(
            attempt_state=attempt_state,
            attempt_reason=Reason(ending.code, ending.message),
            job_state=decision.state,
            job_reason=decision.reason,
            counters=decision.counters,
            peak_rss_bytes=tree.peak_rss_bytes or None,
            cpu_seconds=tree.cpu_seconds or None,
            containment=self.containment,
            stages=self._picture.stages_at_end(
                StageState.INTERRUPTED if interrupted else StageState.FAILED, wall=self._state.wall()
            ),
        )
        await self.drop_parts(self._lease.fence)
        await self._state.line.persist(lambda s: s.end(self._lease, _dated(s, end, decision)))
        self.over = True
        self._say_end(decision)

    async def give_back(self, ending: Ending) -> None:
        """The end of a claim that started nothing."""
        decision = self._decide(ending)
        end = AttemptEnd(
            attempt_state=attempt_state_of(ending),
            attempt_reason=Reason(ending.code, ending.message),
            job_state=decision.state,
            job_reason=decision.reason,
            counters=decision.counters,
        )
        await self._state.line.persist(lambda s: s.unlease(self._lease, _dated(s, end, decision)))
        self.over = True
        self._say_end(decision)

    def _decide(self, ending: Ending) -> Decision:
        return decide(self._job.counters, self._job.spec.budgets, ending, jitter=random.random())

    def _say_end(self, decision: Decision) -> None:
        again = f"; again in {decision.delay:.0f} s" if decision.delay else ""
        self._state.say(f"{self._label}: {decision.state}: {decision.reason.message}{again}")

    async def drop_parts(self, fence: int) -> None:
        if self._job.spec.output_dir is None:
            return
        try:
            left = await in_thread(lambda: paths.drop_parts(self._job, fence))
        except TimeoutError:
            left = f"{self._job.spec.output_dir} does not answer: staged files of {self._job.id} may be left"
        if left is not None:
            self._state.say(left)


def _dated(store: Store, end: AttemptEnd, decision: Decision) -> AttemptEnd:
    """With the moment from which the job may run again, by the clock that will be asked then: what we know of
    it is old when a server's clock is set back, and the backoff would last for hours."""
    return replace(end, run_at=store.now() + decision.delay) if decision.delay else end


def label_of(claim: Claim) -> str:
    """What people read of an attempt."""
    return f"{claim.job.id} {claim.job.spec.name}".rstrip()
