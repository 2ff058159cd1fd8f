"""What one running job costs by the second while nothing happens, and what a worker without one does.

`python -m benchmarks quiet [--seconds N]`. The job is `exec` of a `sleep`. Nanoseconds of the scheduler's own
account, not ticks: a worker uses less than one tick in ten seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.system import System, machine, running
from unjam.jobs.model import NewJob
from unjam.jobs.states import State

SETTLE = 12.0
"""A guardian looks more often in its job's first ten seconds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print milliseconds of CPU a second, by part."""
    parser = argparse.ArgumentParser(prog="benchmarks quiet", description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0)
    seconds = parser.parse_args(argv).seconds
    print(f"CPU ms a second over {seconds:g} s; {machine()}")
    with (
        tempfile.TemporaryDirectory(prefix="unjam-bench-") as scratch,
        running(Path(scratch) / "quiet", "auto") as system,
    ):
        _show("no job", system, seconds)
        job = NewJob("j000000001", "exec", 1, {"argv": ["sleep", "86400"]})
        system.store.submit(job)
        while (found := system.store.get(job.id)) is None or found.state is not State.RUNNING:
            time.sleep(0.05)
        _show("one job that sleeps", system, seconds)
        system.store.request_cancel([job.id], by="the benchmark")
        system.drained()
    return 0


def _show(what: str, system: System, seconds: float) -> None:
    time.sleep(SETTLE)
    before, began = system.scheduled_by_name(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    spent = {name: (ns - before.get(name, 0)) / 1e6 / took for name, ns in system.scheduled_by_name().items()}
    parts = ", ".join(f"{name} {ms:.2f}" for name, ms in sorted(spent.items()) if ms >= 0.005)
    print(f"{what:<20} {sum(spent.values()):5.2f}   {parts}")


if __name__ == "__main__":
    sys.exit(main())
