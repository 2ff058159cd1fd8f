"""Results of jobs as inputs of others: `job:ID` is the main output, `job:ID/ARTIFACT` a named one. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence

from unjam.jobs.records import Artifact

PREFIX = "job:"
MANIFEST = "manifest"
"""The kind of our own file beside an output: no result."""


def parse(text: str) -> tuple[str, str]:
    """Id (or its beginning) and artifact ("" for the main output) of `job:ID/ARTIFACT`."""
    job_id, _, name = text.removeprefix(PREFIX).partition("/")
    return job_id, name


def pick(artifacts: Sequence[Artifact], name: str, main_path: str | None) -> Artifact | None:
    """The artifact of this name, or the main one; None where there is none, or no telling which."""
    made = [artifact for artifact in artifacts if artifact.kind != MANIFEST]
    if name:
        return next((a for a in artifacts if name in (a.name, os.path.basename(a.path))), None)
    main = next((a for a in made if a.path == main_path), None)
    # Published under another name where the first one was taken, it is still the only one.
    return main if main is not None or len(made) != 1 else made[0]


def listed(artifacts: Sequence[Artifact]) -> str:
    """What there is, for whoever asked for something else."""
    return ", ".join(a.name for a in artifacts if a.kind != MANIFEST) or "nothing"
