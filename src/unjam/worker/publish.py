"""From sealed files to published ones: the point of no return, the renames, the end (INV-TORN)."""

from __future__ import annotations

import os

from unjam.errors import OutputExists, UnjamError
from unjam.jobs.model import Job
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.records import Artifact, AttemptEnd, Lease, StagedOutput
from unjam.jobs.retry import Blame, Ending
from unjam.jobs.states import OnExists, Request
from unjam.storage import publish as files
from unjam.worker.shared import WorkerState
from unjam.worker.threads import in_thread


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
    """Publish and write the end. Killed anywhere in here, the next start rolls forward (`recovery`).

    Called only when the attempt's tree is gone. Raises Refusal, LeaseLost.
    """
    replace = may_replace(job)
    if outputs:
        try:
            await in_thread(lambda: _check(outputs, replace=replace))
        except (UnjamError, OSError) as error:
            raise Refusal(_failure(error)) from error
    await state.faults.reach("verified", job.id)
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
        await state.faults.reach("publishing", job.id)
        try:
            # No limit: a thread left to its fate here might rename long after the job was given to another.
            await in_thread(
                lambda: files.publish(
                    outputs, replace=replace, passed=lambda point: state.faults.pass_by(point, job.id)
                ),
                limit=None,
            )
        except (UnjamError, OSError) as error:
            raise Refusal(_failure(error)) from error
        await state.faults.reach("dir_synced", job.id)
    await state.line.persist(lambda s: s.end(lease, end))
    await state.faults.reach("ended", job.id)


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
