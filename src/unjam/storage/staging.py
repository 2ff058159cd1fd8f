"""Staged files: written under a hidden name beside their final one, sealed before anybody may rename them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unjam.errors import InputBad

PART = re.compile(r"^\.unjam-(?P<job>[a-z0-9]+)-f(?P<fence>\d+)-(?P<number>\d+)\.part$")
BLOCK = 1 << 20


def part_path(folder: Path, job_id: str, fence: int, number: int) -> Path:
    """The hidden name of staged file `number` of one attempt. It does not hold the final name, which may
    already be as long as a file system allows."""
    return folder / f".unjam-{job_id}-f{fence}-{number}.part"


def parts_in(folder: Path) -> Iterator[tuple[Path, str, int]]:
    """Every staged file in `folder` as (path, job id, fence)."""
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if match := PART.match(entry.name):
            yield Path(entry.path), match["job"], int(match["fence"])


def staged_output(
    part: Path,
    final: Path,
    *,
    name: str,
    kind: str,
    media: Mapping[str, Any] | None,
    on_bytes: Callable[[int], None],
) -> dict[str, Any]:
    """Seal `part`: fsync, sha256, and the inode, size and ctime by which the publisher will know it again.

    Returns the fields of `jobs.records.StagedOutput`. `on_bytes` is told the number of bytes hashed since the
    last call.
    """
    import hashlib  # in here: see jobs/digest.py

    digest = hashlib.sha256()
    with open(part, "rb") as file:
        os.fsync(file.fileno())
        while block := file.read(BLOCK):
            digest.update(block)
            on_bytes(len(block))
        stat = os.fstat(file.fileno())
        if file.tell() != stat.st_size:
            raise InputBad(f"{part}: was written to while it was sealed")
    return {
        "name": name,
        "kind": kind,
        "staged_path": str(part),
        "final_path": str(final),
        "inode": stat.st_ino,
        "size_bytes": stat.st_size,
        "ctime_ns": stat.st_ctime_ns,
        "sha256": digest.hexdigest(),
        "media": dict(media) if media is not None else None,
    }
