"""Named points in an attempt's life where a test can hold a process and kill it; else they cost nothing.

One folder for all processes, named by an environment variable that they inherit from the worker: a file POINT
holds whoever comes by, a file POINT@NAME only the attempt of that name. Whoever is held says so with a file
POINT.at.PID (or POINT@NAME.at.PID) beside it and goes on when the first file is gone.
"""

import os
import time
from collections.abc import Iterator

VARIABLE = "UNJAM__FAULTS"

OWNERS = {
    "claimed": "worker",
    "prepared": "worker",  # its folders are made, nothing is launched
    "hello": "worker",  # its guardian waits, the store does not know it
    "begun": "worker",  # the guardian's identity is committed
    "gone": "worker",  # "go" is sent
    "go_heard": "guardian",  # nothing is forked
    "entered": "attempt",  # the pipeline has not begun
    "planned": "attempt",  # the plan is committed
    "unit_sealed": "attempt",  # its file is written and synced, its row is not
    "unit_committed": "worker",  # its row is, and the attempt does not know
    "stage_finished": "attempt",
    "sealed": "attempt",  # all outputs are verified, hashed and synced; the worker does not know
    "attempt_over": "guardian",  # the attempt has ended, what it left has not
    "tree_gone": "worker",
    "verified": "worker",
    "publishing": "worker",  # the point of no return is committed
    "first_renamed": "worker",  # the first of several files has its name
    "renamed": "worker",  # all have, and the folder is not synced
    "dir_synced": "worker",
    "ended": "worker",  # the end is committed, units and scratch still lie there
    "cleared": "worker",
}
"""Every point in the order of an attempt's life, and which process comes by there."""

POINTS = tuple(OWNERS)
LOOK_EVERY = 0.005


class FaultPoints:
    """The points of one process. `reach` on an event loop, `pass_by` anywhere else."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder

    @classmethod
    def from_environment(cls) -> "FaultPoints":
        return cls(os.environ.get(VARIABLE))

    async def reach(self, point: str, name: str = "") -> None:
        """Pass, or wait until nothing holds the attempt `name` here any more."""
        if self._folder is not None:
            import asyncio  # in here: the zygote, whose every fork would pay for it, has none

            for _ in _held(self._folder, point, name):
                await asyncio.sleep(LOOK_EVERY)

    def pass_by(self, point: str, name: str = "") -> None:
        """The same for code without a loop: a thread, the guardian, the attempt."""
        if self._folder is not None:
            for _ in _held(self._folder, point, name):
                time.sleep(LOOK_EVERY)


NOBODY_HELD = FaultPoints(None)


def _held(folder: str, point: str, name: str) -> Iterator[None]:
    if point not in OWNERS:
        raise ValueError(f"no fault point {point!r}")
    for hold in (os.path.join(folder, point), os.path.join(folder, f"{point}@{name}")):
        if os.path.exists(hold):
            with open(f"{hold}.at.{os.getpid()}", "wb"):
                pass
            while os.path.exists(hold):
                yield
