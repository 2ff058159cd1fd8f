"""What is settled before a process starts: the work is done already, the name is taken, the disk is full."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unjam.errors import DiskFull, InputMissing, NotPermitted, OutputExists
from unjam.jobs.model import Job
from unjam.jobs.records import Artifact
from unjam.jobs.states import OnExists
from unjam.measures import show_size
from unjam.storage import manifest
from unjam.storage.inputs import inspect, refuse
from unjam.storage.room import fullest

FREE_FLOOR = 16 << 20
"""Bytes that must be free where the output goes, whatever the job says it needs."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The manifest proves the same work; nothing is to be done."""

    output: Path
    made: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class Go:
    """Start; `output_path` is where the main output goes (another name than asked for with `rename`)."""

    output_path: str | None


def preflight(job: Job, on_block: Callable[[], None] = lambda: None) -> Skip | Go:
    """Blocking: stats files, and hashes outputs that were touched (`on_block` is called for each block).

    Raises UnjamError (input_missing, input_bad, output_exists, permission, disk_full) and OSError.
    """
    spec = job.spec
    if spec.output_path is None:
        return Go(None)
    output = Path(spec.output_path)
    if not spec.force:
        made = manifest.proven(
            output, spec.pipeline, spec.pipeline_version, spec.inputs, spec.params, on_block=on_block
        )
        if made is not None:
            return Skip(output, tuple(made))
    for source in spec.inputs:
        if "://" in source.uri:
            continue
        if not os.path.lexists(source.uri):
            raise InputMissing(f"{source.uri}: not there any more")
        # What can be told from outside costs no process, and is told in the words of the submission.
        refuse(inspect(source.uri))
    _writable(output.parent)
    _room(output.parent, max(FREE_FLOOR, spec.needs.disk_bytes))
    if os.path.lexists(output):
        output = _taken(job, output)
    return Go(str(output))


def _taken(job: Job, output: Path) -> Path:
    match job.spec.on_exists:
        case OnExists.REPLACE:
            if output.is_dir():
                raise OutputExists(f"{output}: is a folder and will not be replaced by a file")
            return output
        case OnExists.RENAME:
            return free_name(output)
        case _ if job.spec.force:
            return output
    raise OutputExists(
        f"{output}: exists and is not proven to be this job's own work; "
        "use --on-exists replace or rename, or another folder with -o"
    )


def free_name(output: Path) -> Path:
    """`clip.mp4` -> `clip (2).mp4`, the first that is free."""
    number = 2
    while os.path.lexists(candidate := output.with_name(f"{output.stem} ({number}){output.suffix}")):
        number += 1
    return candidate


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotPermitted(f"{folder}: is a file, not a folder") from error
    except OSError as error:
        raise NotPermitted(f"{folder}: cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotPermitted(f"{folder}: no permission to write here")


def _room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise DiskFull(
            f"{folder}: {show_size(free)} free, {show_size(wanted)} wanted; free some room, then resume "
            f"({fullest([str(folder)])})"
        )
