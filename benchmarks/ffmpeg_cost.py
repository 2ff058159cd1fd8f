"""What supervision costs a real ffmpeg: the same command line, supervised and bare, in turn (P8).

`python -m benchmarks ffmpeg [--pairs N] [--loops N]`. Supervised is a whole job: submitted, claimed,
run under its guardian, ended in the store.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.system import ROOT, System, machine, running
from unjam.jobs.model import NewJob
from unjam.jobs.states import ENDED, State
from unjam.media.ffmpeg import find

SOURCE = ROOT / "tests" / "media" / "demo.mp4"
_BENCH = re.compile(rb"bench: utime=([0-9.]+)s stime=([0-9.]+)s")
WALL_TARGET, CPU_TARGET = 1.01, 0.005


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds: of the wall, of ffmpeg's CPU by its own account, and of everything ours."""

    wall: float
    child_cpu: float
    our_cpu: float


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks ffmpeg", description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--loops", type=int, default=16, help="the 60 s clip, so often, is what is encoded")
    options = parser.parse_args(argv)
    command = _command(options.loops)
    pairs: list[tuple[Run, Run]] = []
    with (
        tempfile.TemporaryDirectory(prefix="unjam-bench-") as scratch,
        running(Path(scratch) / "system", "auto") as system,
    ):
        _supervised(system, command, 0)
        for number in range(1, options.pairs + 1):
            if number % 2:
                bare, ours = _bare(command), _supervised(system, command, number)
            else:
                ours, bare = _supervised(system, command, number), _bare(command)
            pairs.append((ours, bare))
    return _show(pairs)


def _command(loops: int) -> list[str]:
    tool = [str(find("pinned").path), "-nostdin", "-hide_banner", "-benchmark", "-v", "info", "-nostats"]
    source = ["-stream_loop", str(loops - 1), "-i", str(SOURCE), "-map", "0:v:0"]
    return [*tool, *source, "-c:v", "libx264", "-preset", "medium", "-threads", "2", "-f", "null", "-"]


def _bare(command: list[str]) -> Run:
    began = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return Run(time.monotonic() - began, _child_cpu(done.stderr), 0.0)


def _supervised(system: System, command: list[str], number: int) -> Run:
    job = NewJob(id=f"j{number:09d}", pipeline="exec", pipeline_version=1, params={"argv": command})
    before, began = system.cpu_seconds(), time.monotonic()
    system.store.submit(job)
    while (now := system.store.get(job.id)) is not None and now.state not in ENDED:
        time.sleep(0.01)
    wall = time.monotonic() - began
    assert now is not None, "nobody removes jobs here"
    if now.state is not State.SUCCEEDED:
        raise RuntimeError(f"ffmpeg under supervision: {now.state}, {now.reason}")
    log = system.store.attempts(job.id)[-1].log_path
    child = _child_cpu(Path(log or "").read_bytes())
    return Run(wall, child, system.cpu_seconds() - before - child)


def _child_cpu(said: bytes) -> float:
    found = _BENCH.search(said)
    if found is None:
        raise RuntimeError(f"ffmpeg did not tell its CPU time: {said[-500:].decode(errors='replace')}")
    return float(found[1]) + float(found[2])


def _show(pairs: list[tuple[Run, Run]]) -> int:
    walls = [ours.wall / bare.wall for ours, bare in pairs]
    extra = [ours.wall - bare.wall for ours, bare in pairs]
    shares = [ours.our_cpu / ours.child_cpu for ours, _ in pairs]
    bare = statistics.median(run.wall for _, run in pairs)
    ratio, share = statistics.median(walls), statistics.median(shares)
    print(f"supervised and bare ffmpeg, {len(pairs)} alternating pairs, bare {bare:.2f} s; {machine()}")
    print(
        f"wall ratio: median {ratio:.4f}, {min(walls):.4f} to {max(walls):.4f}; "
        f"difference: median {1e3 * statistics.median(extra):.0f} ms"
    )
    ours_ms = 1e3 * statistics.median(ours.our_cpu for ours, _ in pairs)
    print(f"CPU of everything ours / of ffmpeg: median {100 * share:.2f} % ({ours_ms:.0f} ms a job)")
    met = ratio <= WALL_TARGET, share <= CPU_TARGET
    print(f"{'met   ' if met[0] else 'MISSED'}  P8 wall ratio (target <= {WALL_TARGET})")
    print(f"{'met   ' if met[1] else 'MISSED'}  P8 CPU share (target <= {100 * CPU_TARGET:g} %)")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
