"""P15: CPU of `unjam --help` and `unjam ls` as multiples of `python -c pass`, alternating in one run."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

ROUNDS = 15
CASES: dict[str, tuple[Sequence[str], float | None]] = {
    # name: command, target as a multiple of the floor
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "unjam --help": ([sys.executable, "-m", "unjam.cli.main", "--help"], 8.0),
    "unjam ls": ([sys.executable, "-m", "unjam.cli.main", "ls"], 15.0),
    "python -c 'import click'": ([sys.executable, "-c", "import click"], None),
}


def cpu_seconds(command: Sequence[str], env: Mapping[str, str]) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> int:
    """Print the table; 1 when a target is missed."""
    with tempfile.TemporaryDirectory() as home:
        env = {name: value for name, value in os.environ.items() if not name.startswith("UNJAM_")}
        env["UNJAM_HOME"] = home
        for number in range(20):
            job = ["exec", "--detach", "--", "true", str(number)]
            subprocess.run(
                [sys.executable, "-m", "unjam.cli.main", *job], env=env, capture_output=True, check=True
            )
        taken: dict[str, list[float]] = {name: [] for name in CASES}
        for _ in range(ROUNDS):
            for name, (command, _target) in CASES.items():
                taken[name].append(cpu_seconds(command, env))
    floor = statistics.median(taken["python -c pass"])
    missed = False
    print(
        f"{'command':<28}{'CPU ms':>8}{'ratio':>8}{'target':>8}"
        f"   load {os.getloadavg()[0]:.1f}, {ROUNDS} rounds"
    )
    for name, (_, target) in CASES.items():
        cpu = statistics.median(taken[name])
        ratio = cpu / floor
        missed = missed or (target is not None and ratio > target)
        wanted = "" if target is None else f"<= {target:g}"
        print(f"{name:<28}{cpu * 1000:>8.1f}{ratio:>8.1f}{wanted:>8}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
