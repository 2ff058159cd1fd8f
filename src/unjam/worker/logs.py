"""Attempt logs in bounds: a log that grew too long loses its middle, and no byte ever changes its offset.

The whole tree of an attempt writes to one file opened for append, so the file cannot be swapped or cut. A
hole punched in its middle frees the disk and leaves every offset as it was: a reader's cursor is never
renumbered.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from unjam.supervise.linux import punch_hole
from unjam.worker.shared import WorkerState
from unjam.worker.threads import in_thread

HEAD = 1 << 20
"""Bytes at the start that are always kept: what was started, and how."""
BLOCK = 4096


def trim(path: str, longest: int) -> int:
    """Keep the head and about the last half of `longest` bytes; returns the bytes freed.

    A file system that cannot punch holes keeps the whole log.
    """
    head = min(HEAD, longest // 4)
    fd = os.open(path, os.O_RDWR)
    try:
        stat = os.fstat(fd)
        if stat.st_blocks * 512 <= longest:
            return 0
        start = -(-head // BLOCK) * BLOCK
        end = (stat.st_size - longest // 2) // BLOCK * BLOCK
        if end <= start:
            return 0
        return end - start if punch_hole(fd, start, end - start) else 0
    finally:
        os.close(fd)


async def keep_in_bounds(state: WorkerState, paths: Sequence[str]) -> None:
    """Trim these logs to the size that the settings allow."""
    longest = state.settings.log_max_bytes

    def work() -> None:
        for path in long:
            trim(path, longest)

    try:
        long = [path for path in paths if _size(path) > longest]
        if long:
            await in_thread(work)
    except (TimeoutError, OSError) as error:
        state.say(f"logs could not be trimmed: {error}")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
