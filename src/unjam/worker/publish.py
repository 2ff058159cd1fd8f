"""From sealed files to published ones: the point of no return, the renames, the end (INV-TORN)."""

from __future__ import annotations

import os

from unjam.errors import OutputExists, UnjamError
from unjam.jobs.model import Artifact, AttemptEnd, Job, Lease, OnExists, Publishing, Request, StagedOutput
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.retry import Blame, Ending
from unjam.storage import publish as files
from unjam.worker.shared import WorkerState, in_thread


class Refusal(Exception):
    """The outputs were not published; `ending` says why and what becomes of the job."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


def artifact_of(output: StagedOutput) -> Artifact:
    """The published file that a staged one becomes."""
    return Artifact(
        output.name, output.kind, output.final_path, output.size_bytes, output.sha256, output.media
    )


async def publish_outputs(
    state: WorkerState, job: Job, lease: Lease, outputs: tuple[StagedOutput, ...], end: AttemptEnd
) -> None:
    """Publish and write the end. Killed anywhere in here, the next start rolls forward (`roll_forward`).

    Called only when the attempt's tree is gone. Raises Refusal, LeaseLost.
    """
    replace = may_replace(job)
    if outputs:
        try:
            await in_thread(lambda: _check(outputs, replace=replace), limit=None)
        except UnjamError as error:
            raise Refusal(Ending(error.code, str(error), Blame.JOB)) from error
    await state.faults.reach("verified")
    if outputs:
        if not await state.line.persist(lambda s: s.begin_publish(lease, outputs, end)):
            raise Refusal(
                Ending(
                    ReasonCode.CANCELLED_BY_USER,
                    "cancelled before it was published",
                    Blame.ASKED,
                    request=Request.CANCEL,
                )
            )
        await state.faults.reach("publishing")
        try:
            await in_thread(lambda: files.publish(outputs, replace=replace), limit=None)
        except (UnjamError, OSError) as error:
            raise Refusal(_failure(error)) from error
        await state.faults.reach("renamed")
    await state.line.persist(lambda s: s.end(lease, end))


async def roll_forward(state: WorkerState, job: Job, found: Publishing) -> None:
    """Finish what a dead worker had begun to publish. Idempotent."""
    await in_thread(lambda: files.publish(found.outputs, replace=may_replace(job)), limit=None)
    await state.line.persist(lambda s: s.end(found.lease, found.end))


def may_replace(job: Job) -> bool:
    """May the job's outputs take a name that is in use?"""
    return job.spec.on_exists is OnExists.REPLACE or job.spec.force


def _check(outputs: tuple[StagedOutput, ...], *, replace: bool) -> None:
    for output in outputs:
        files.check_sealed(output)
        # Asked before the point of no return, so that the common case ends without any file renamed.
        if not replace and output.kind != "manifest" and os.path.lexists(output.final_path):
            raise OutputExists(f"{output.final_path}: somebody made a file of this name while the job ran")


def _failure(error: UnjamError | OSError) -> Ending:
    code = error.code if isinstance(error, UnjamError) else ReasonCode.PERMISSION
    return Ending(code, f"could not be published: {error}", Blame.JOB)
