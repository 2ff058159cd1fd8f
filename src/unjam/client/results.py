"""Results of jobs as inputs of others: `job:ID` or `job:ID/ARTIFACT`."""

from __future__ import annotations

import os

from unjam.client.ids import resolve_job
from unjam.errors import InputMissing, NotFound
from unjam.jobs.lifecycle import ACTIVE
from unjam.jobs.model import InputFile
from unjam.storage.inputs import Found, inspect
from unjam.store.port import Store


def job_input(store: Store, text: str) -> tuple[Found, str | None]:
    """The input that `job:ID/ARTIFACT` names, and the job to wait for if it is not done yet.

    Without `/ARTIFACT`: the job's main output. Raises NotFound, or InputMissing if the job ended without it.
    """
    prefix, _, name = text.removeprefix("job:").partition("/")
    job_id = resolve_job(store, prefix)
    job = store.get(job_id)
    if job is None:
        raise NotFound(f"{text}: no such job")
    for artifact in store.artifacts(job_id):
        if name in ("", artifact.name, os.path.basename(artifact.path)):
            return inspect(artifact.path), None
    if job.state not in ACTIVE:
        raise InputMissing(
            f"{text}: {job_id} is {job.state} and has no such output; see `unjam show {job_id}`"
        )
    path = job.spec.output_path
    if path is not None and name in ("", os.path.basename(path)):
        return Found(InputFile(os.path.basename(path), path), ""), job_id
    if job.spec.output_dir is None or not name:
        raise InputMissing(f"{text}: {job_id} does not say beforehand what it makes; wait until it is done")
    path = os.path.join(job.spec.output_dir, name)
    return Found(InputFile(name, path), ""), job_id
