"""How soon after a death: user code running again (P5), an empty tree after a cancel (P7).

`python -m benchmarks deaths [--rounds N]`. Nothing is compared with a peer here: none of them ends the job's
own child when its worker is killed, and most wait for minutes.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.system import System, machine, running
from unjam.jobs.model import NewJob
from unjam.jobs.states import State
from unjam.supervise import linux

TTL = 6.0
GRACE = 1.0
PATIENCE = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks deaths", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args(argv).rounds
    print(f"deaths: {rounds} rounds; {machine()}\n")
    with tempfile.TemporaryDirectory(prefix="unjam-bench-") as scratch:
        folder = Path(scratch)
        met = [
            _show("P5 same machine, kill -9 of the worker", _worker_killed(folder / "here", rounds), 2.0),
            _show(
                f"P5 another machine, TTL {TTL:g} s, all of the first killed",
                _machine_killed(folder, max(3, rounds // 4)),
                TTL + 2,
            ),
            *(
                _show(
                    f"P7 cancel, TERM ignored, native code, grace {GRACE:g} s, {level}",
                    _cancelled(folder / level, level, rounds),
                    GRACE + 1,
                )
                for level in ("tree", "auto")
            ),
        ]
    return 0 if all(met) else 1


def _worker_killed(folder: Path, rounds: int) -> list[float]:
    """Seconds from the kill to the first line of the same job's next attempt."""
    found = []
    with running(folder, "auto") as system:
        for number in range(rounds):
            job = _submit(system, "idle", number)
            _marked(system, number, 1)
            (worker,) = (w for w in linux.children(system.keeper) if _is_worker(w))
            killed = time.monotonic()
            os.kill(worker, signal.SIGKILL)
            found.append(_marked(system, number, 2) / 1e9 - killed)
            _cancel(system, job)
            # The keeper waits before it restarts one that dies again at once: deaths are that rare in life.
            time.sleep(3.0)
    return found


def _machine_killed(folder: Path, rounds: int) -> list[float]:
    """The same when everything of one machine dies at once and another machine shares the store."""
    found = []
    for number in range(rounds):
        with ExitStack() as stack:
            shared = {
                "UNJAM_STORE": f"sqlite:///{folder}/shared{number}.db",
                "UNJAM_LEASE_TTL": str(TTL),
                "UNJAM_RENEW_EVERY": str(TTL / 3),
            }
            first, second = (shared | {"UNJAM_HOST_ID": f"machine-{name}"} for name in "ab")
            doomed = stack.enter_context(running(folder / f"a{number}", "auto", settings=first))
            _submit(doomed, "idle", number)
            _marked(doomed, number, 1)
            stack.enter_context(running(folder / f"b{number}", "auto", settings=second))
            killed = time.monotonic()
            for pid in (doomed.keeper, *linux.descendants(doomed.keeper)):
                os.kill(pid, signal.SIGKILL)
            found.append(_marked(doomed, number, 2) / 1e9 - killed)
    return found


def _cancelled(folder: Path, level: str, rounds: int) -> list[float]:
    """Seconds from the request until the job is `cancelled`, which is written when its tree is gone."""
    found = []
    with running(folder, level, settings={"UNJAM_GRACE": str(GRACE)}) as system:
        for number in range(rounds):
            job = _submit(system, "hang", number)
            _marked(system, number, 1)
            asked = time.monotonic()
            _cancel(system, job)
            found.append(time.monotonic() - asked)
            left = [
                pid for pid in linux.descendants(system.keeper) if _comm(pid).startswith(("uj:", "sleep"))
            ]
            assert left == [], f"left after the cancel: {left}"
    return found


def _submit(system: System, pipeline: str, number: int) -> str:
    job = NewJob(
        id=f"j{number:09d}",
        pipeline=pipeline,
        pipeline_version=1,
        params={"marks": str(system.folder / "marks"), "number": number},
    )
    system.store.submit(job)
    return job.id


def _marked(system: System, number: int, times: int) -> int:
    """CLOCK_MONOTONIC nanoseconds of this job's so manieth first line."""
    wanted = f"{number} ".encode()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        path = system.folder / "marks"
        lines = (
            [line for line in path.read_bytes().splitlines() if line.startswith(wanted)]
            if path.exists()
            else []
        )
        if len(lines) >= times:
            return int(lines[times - 1].split()[1])
        time.sleep(0.002)
    raise TimeoutError(f"job {number} did not run {times} times in {PATIENCE:g} s")


def _cancel(system: System, job: str) -> None:
    system.store.request_cancel([job], by="the benchmark")
    end = time.monotonic() + PATIENCE
    while (found := system.store.get(job)) is None or found.state is not State.CANCELLED:
        if time.monotonic() > end:
            raise TimeoutError(f"{job} was not cancelled in {PATIENCE:g} s")
        time.sleep(0.002)


def _comm(pid: int) -> str:
    return (linux.read_small(f"/proc/{pid}/comm") or b"").decode(errors="replace").strip()


def _is_worker(pid: int) -> bool:
    return b"unjam.worker" in (linux.read_small(f"/proc/{pid}/cmdline") or b"")


def _show(what: str, seconds: Sequence[float], limit: float) -> bool:
    p50, worst = statistics.median(seconds), max(seconds)
    met = worst <= limit
    print(
        f"{'met   ' if met else 'MISSED'}  {what}: p50 {p50:.2f} s, max {worst:.2f} s (target <= {limit:g} s)"
    )
    return met


if __name__ == "__main__":
    sys.exit(main())
