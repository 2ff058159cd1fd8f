"""What many running jobs cost while nothing happens (P9): CPU of keeper, worker, guardians and attempts.

`python -m benchmarks crowd [--jobs N]`. Each job is a Python attempt that waits for a sleeping child, as a
job with a long ffmpeg does. The server with a page open, which the target counts too, does not exist yet.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import marks
from benchmarks.system import machine, running
from unjam.jobs.model import NewJob

SECONDS = 20.0
SETTLE = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figure; 1 when the target is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks crowd", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    count = parser.parse_args(argv).jobs
    with tempfile.TemporaryDirectory(prefix="unjam-bench-") as scratch:
        folder = Path(scratch) / "crowd"
        with running(folder, "auto", slots=count) as system:
            params = {"marks": str(folder / "marks")}
            system.store.submit_many(
                [NewJob(f"j{n:09d}", "idle", 1, {**params, "number": n}) for n in range(count)]
            )
            marks.wait_until(folder / "marks", count)
            time.sleep(SETTLE)
            before, began = system.cpu_by_part(), time.monotonic()
            time.sleep(SECONDS)
            spent = {part: cpu - before[part] for part, cpu in system.cpu_by_part().items()}
            seconds = time.monotonic() - began
            system.store.request_cancel([f"j{n:09d}" for n in range(count)], by="the benchmark")
            system.drained()
    share = 100 * sum(spent.values()) / seconds
    parts = ", ".join(f"{part} {100 * cpu / seconds:.1f} %" for part, cpu in spent.items())
    print(f"crowd: {count} running jobs for {seconds:.0f} s; {machine()}; of a core: {parts}")
    met = share <= 10
    print(
        f"{'met   ' if met else 'MISSED'}  P9 CPU % of a core, without a server: {share:.1f} (target <= 10)"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
