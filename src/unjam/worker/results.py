"""Results of other jobs as inputs, when their jobs are done: looked up, whole, and what was published."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from unjam.errors import InputBad, InputMissing
from unjam.jobs import results
from unjam.jobs.model import InputFile
from unjam.jobs.records import Artifact
from unjam.storage.manifest import sha256_of
from unjam.store.port import Store


@dataclass(frozen=True, slots=True)
class Made:
    """What one job published, and which of it is the main output."""

    artifacts: tuple[Artifact, ...]
    main_path: str | None


def look_up(store: Store, inputs: Sequence[InputFile]) -> dict[str, Made]:
    """What the jobs made whose results these inputs are. Jobs that are gone are left out."""
    found = store.get_many([source.job_id for source in inputs if source.job_id])
    return {job.id: Made(tuple(store.artifacts(job.id)), job.spec.output_path) for job in found}


def resolve(
    inputs: Sequence[InputFile], made: Mapping[str, Made], on_block: Callable[[], None]
) -> tuple[InputFile, ...]:
    """The inputs as files. Blocking: hashes each result once (`on_block` is called for each block), and again
    when its size or time changed since. Raises InputMissing, InputBad, OSError."""
    return tuple(
        _resolved(source, made.get(source.job_id), on_block) if source.job_id else source for source in inputs
    )


def _resolved(source: InputFile, made: Made | None, on_block: Callable[[], None]) -> InputFile:
    assert source.source is not None  # asked for a result
    job_id, name = results.parse(source.source)
    if made is None:
        raise InputMissing(f"{source.source}: job {job_id} was removed; give its output as a file")
    artifact = results.pick(made.artifacts, name, made.main_path)
    if artifact is None:
        raise InputMissing(
            f"{source.source}: job {job_id} made no such output; it made: {results.listed(made.artifacts)}"
        )
    try:
        seen = os.stat(artifact.path)
    except FileNotFoundError:
        raise InputMissing(
            f"{artifact.path}: the output of job {job_id} is not there any more; make it again with "
            "`unjam run --force`"
        ) from None
    stamp = (artifact.path, seen.st_size, seen.st_mtime_ns)
    if stamp != (source.uri, source.size_bytes, source.mtime_ns):
        whole = seen.st_size == artifact.size_bytes
        if not whole or sha256_of(artifact.path, on_block) != artifact.sha256:
            raise InputBad(
                f"{artifact.path}: is not what job {job_id} published any more (size or sha256 differs); "
                "give the file itself as input if that is wanted"
            )
    name = os.path.basename(artifact.path)
    return replace(source, name=name, uri=stamp[0], size_bytes=stamp[1], mtime_ns=stamp[2])
