"""Results of jobs as inputs of others, at submission: which job to wait for, and where its result will be."""

from __future__ import annotations

import os

from unjam.client.ids import resolve_job
from unjam.errors import InputMissing, NotFound
from unjam.jobs import results
from unjam.jobs.lifecycle import ACTIVE, SATISFIED
from unjam.jobs.model import InputFile
from unjam.storage.inputs import Found, inspect
from unjam.store.port import Store


def job_input(store: Store, text: str) -> tuple[Found, str | None]:
    """The input that `job:ID/ARTIFACT` names, and the job it waits for (also one that is done: it is kept as
    long as its result is needed). Without `/ARTIFACT`: the job's main output.

    Size and time are not taken down here: the worker looks the result up, whole and with its digest, when its
    job is done. Raises NotFound, or InputMissing if the job ended without it.
    """
    prefix, name = results.parse(text)
    job_id = resolve_job(store, prefix)
    job = store.get(job_id)
    if job is None:
        raise NotFound(f"{text}: no such job")
    source = f"{results.PREFIX}{job_id}{'/' if name else ''}{name}"
    if job.state not in ACTIVE:
        made = store.artifacts(job_id)
        found = results.pick(made, name, job.spec.output_path)
        if found is None:
            raise InputMissing(
                f"{text}: {job_id} is {job.state} and has no such output; it made: {results.listed(made)}"
            )
        problem = inspect(found.path).problem
        file = InputFile(os.path.basename(found.path), found.path, source=source)
        return Found(file, "", problem), job_id if job.state in SATISFIED else None
    path = job.spec.output_path
    if path is None or name not in ("", os.path.basename(path)):
        if job.spec.output_dir is None or not name:
            raise InputMissing(
                f"{text}: {job_id} does not say beforehand what it makes; wait until it is done"
            )
        path = os.path.join(job.spec.output_dir, name)
    return Found(InputFile(os.path.basename(path), path, source=source), ""), job_id
