"""The manifest beside an output: what work made it, so that finished work is found again and skipped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unjam.jobs.digest import digest_of
from unjam.jobs.model import InputFile
from unjam.jobs.records import Artifact

SCHEMA = 1
SUFFIX = ".unjam.json"
"""Ends the name of a manifest: no input, whatever folder it lies in."""


def manifest_path(output: Path) -> Path:
    """`clip.mp4` -> `clip.mp4.unjam.json`; a name too long for that gets a digest instead."""
    name = output.name + SUFFIX
    if len(os.fsencode(name)) > 255:
        name = f"{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:32]}{SUFFIX}"
    return output.with_name(name)


def build(
    *,
    job_id: str,
    pipeline: str,
    version: int,
    inputs: Sequence[InputFile],
    params: Mapping[str, Any],
    outputs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The manifest of sealed outputs (fields of StagedOutput)."""
    return {
        "schema": SCHEMA,
        "job": job_id,
        "work": work_digest(pipeline, version, inputs, params),
        "pipeline": pipeline,
        "version": version,
        "inputs": [_input(i) for i in inputs],
        "params": dict(params),
        "outputs": [
            {
                "name": o["name"],
                "kind": o["kind"],
                "size_bytes": o["size_bytes"],
                "sha256": o["sha256"],
                "mtime_ns": os.stat(o["staged_path"]).st_mtime_ns,
            }
            for o in outputs
        ],
    }


def proven(
    output: Path,
    pipeline: str,
    version: int,
    inputs: Sequence[InputFile],
    params: Mapping[str, Any],
    *,
    on_block: Callable[[], None] = lambda: None,
) -> list[Artifact] | None:
    """The files of which the manifest beside `output` proves that exactly this work made them and that they
    are still whole; None when it does not.

    Inputs are compared by path, size and mtime; outputs by size, and by sha256 unless nothing can have
    touched them; `on_block` is called for each block that is hashed.
    """
    path = manifest_path(output)
    try:
        with open(path, encoding="utf-8") as file:
            body = json.load(file)
            stamp = os.fstat(file.fileno())
    except (OSError, ValueError):
        return None  # what is not there, may not be read or is no JSON proves nothing
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        return None
    if body.get("work") != work_digest(pipeline, version, inputs, params):
        return None
    outputs = body.get("outputs")
    if not isinstance(outputs, list) or not outputs or not all(map(_is_output, outputs)):
        return None
    if not all(_whole(output.parent / o["name"], o, stamp.st_ctime_ns, on_block) for o in outputs):
        return None
    return [
        Artifact(
            o["name"], o.get("kind", "media"), str(output.parent / o["name"]), o["size_bytes"], o["sha256"]
        )
        for o in outputs
    ]


def work_digest(pipeline: str, version: int, inputs: Sequence[InputFile], params: Mapping[str, Any]) -> str:
    """The identity of a piece of work: pipeline, version, inputs by path, size and mtime, parameters."""
    return digest_of(
        {
            "pipeline": pipeline,
            "version": version,
            "inputs": [_input(i) for i in inputs],
            "params": dict(params),
        }
    )


def _input(source: InputFile) -> dict[str, Any]:
    return {"uri": source.uri, "size_bytes": source.size_bytes, "mtime_ns": source.mtime_ns}


def _is_output(recorded: object) -> bool:
    """Anybody may have written the manifest: a name in it leads to no other folder."""
    return (
        isinstance(recorded, dict)
        and isinstance(name := recorded.get("name"), str)
        and os.path.basename(name) == name not in ("", ".", "..")
        and all(isinstance(recorded.get(key), int) for key in ("size_bytes", "mtime_ns"))
        and isinstance(recorded.get("sha256"), str)
    )


def _whole(
    path: Path, recorded: Mapping[str, Any], manifest_ctime_ns: int, on_block: Callable[[], None]
) -> bool:
    try:
        stat = os.stat(path)
    except OSError:
        return False
    if stat.st_size != recorded["size_bytes"]:
        return False
    # The manifest is renamed last, so an output's ctime is older than the manifest's until somebody writes to
    # it, and no program can set a ctime: hashing 1,000 untouched films again would make "all skipped" take
    # hours.
    if stat.st_mtime_ns == recorded["mtime_ns"] and stat.st_ctime_ns <= manifest_ctime_ns:
        return True
    try:
        return sha256_of(path, on_block) == str(recorded["sha256"])
    except OSError:
        return False


def sha256_of(path: str | Path, on_block: Callable[[], None]) -> str:
    """The digest of a file; `on_block` is called for each block that was read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            on_block()
    return digest.hexdigest()
