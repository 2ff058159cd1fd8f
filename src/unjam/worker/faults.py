"""Named points in an attempt's life where a test can hold a worker and kill it; else they cost nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

VARIABLE = "UNJAM__FAULTS"
POINTS = (
    "claimed", "hello", "begun", "gone", "unit_committed", "tree_gone", "verified", "publishing", "renamed",
    "ended",
)  # fmt: skip


class FaultPoints:
    """Holds at a point while a file of its name lies in `folder`; a file NAME.at.PID beside it says so."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @classmethod
    def from_environment(cls) -> FaultPoints:
        folder = os.environ.get(VARIABLE)
        return cls(Path(folder) if folder else None)

    async def reach(self, point: str) -> None:
        """Pass, or wait until the file is gone."""
        if self._folder is None:
            return
        if point not in POINTS:
            raise ValueError(f"no fault point {point!r}")
        hold = self._folder / point
        if not hold.exists():
            return
        (self._folder / f"{point}.at.{os.getpid()}").touch()
        while hold.exists():
            await asyncio.sleep(0.005)
