"""What the engine costs: job throughput (P1), submit to first line of user code (P3), an idle worker (P17).

`python -m benchmarks engine [--rounds N] [--jobs N] [--peers | --all]`. Every round measures everything once,
in turn, so that a busy machine is busy for all. Floors: a bare fork, and a bare Python start, one at a time.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks import marks
from benchmarks.system import System, machine, running
from unjam.jobs.model import NewJob
from unjam.supervise.nsprobe import obstacle

IDLE_SECONDS = 10.0
GAP = 0.03
"""Seconds between two single submissions: the worker has come to rest."""
LEVELS = ("tree", "pidns")


@dataclass(slots=True)
class Figures:
    """One contestant: a value a round, latencies all together."""

    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    parts_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """CPU of a job by part of ours."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=200, help="no-op jobs a round")
    parser.add_argument("--singles", type=int, default=40, help="single submissions a round")
    parser.add_argument("--peers", action="store_true", help="RQ and Celery too (installs them and redis)")
    parser.add_argument(
        "--all", action="store_true", help="Huey, Dramatiq, Procrastinate and PgQueuer as well as those"
    )
    options = parser.parse_args(argv)
    figures: dict[str, Figures] = defaultdict(Figures)
    idle: list[tuple[float, dict[str, int]]] = []
    contestants = _contestants("all" if options.all else "usual" if options.peers else "none")
    with tempfile.TemporaryDirectory(prefix="unjam-bench-") as scratch:
        for number in range(options.rounds):
            # Every second round backwards: nobody always comes first after a pause.
            for name, run in contestants.items() if number % 2 == 0 else reversed(contestants.items()):
                folder = Path(scratch) / f"{name.replace(' ', '-')}-{number}"
                run(figures[name], folder, options.jobs, options.singles)
        with running(Path(scratch) / "idle", "auto") as system:
            idle.append(_idle(system))
    print(
        f"engine: {options.rounds} rounds of {options.jobs} jobs and {options.singles} singles; {machine()}\n"
    )
    met = _show(figures, list(contestants))
    return 0 if _show_idle(*idle[0]) and met else 1


Contest = Callable[[Figures, Path, int, int], None]


def _contestants(peers: Literal["none", "usual", "all"]) -> dict[str, Contest]:
    levels = LEVELS[:1] if obstacle(insist=True) else LEVELS
    found: dict[str, Contest] = {f"unjam {level}": _unjam(level) for level in levels}
    found["python start"] = _python_start
    found["bare fork"] = _bare_fork
    if peers != "none":
        from benchmarks.peers import PEERS, USUAL, contests

        names = list(PEERS) if peers == "all" else USUAL
        found |= {name: _peer(contest) for name, contest in contests(names).items()}
    return found


def _peer(contest: Callable[[Path, int, int], tuple[float, float, list[float]]]) -> Contest:
    def run(figures: Figures, folder: Path, jobs: int, singles: int) -> None:
        per_second, cpu_ms, latency_ms = contest(folder, jobs, singles)
        figures.per_second.append(per_second)
        figures.cpu_ms.append(cpu_ms)
        figures.latency_ms += latency_ms

    return run


# -- ours ---------------------------------------------------------------------------------------------------


def _unjam(level: str) -> Contest:
    def contest(figures: Figures, folder: Path, jobs: int, singles: int) -> None:
        with running(folder, level) as system:
            _submit(system, range(5))  # imports and pages of the first jobs are not what is measured
            system.drained()
            before, began = system.cpu_by_part(), time.monotonic()
            _submit(system, range(100, 100 + jobs))
            system.drained()
            figures.per_second.append(jobs / (time.monotonic() - began))
            parts = {k: (v - before[k]) / jobs * 1e3 for k, v in system.cpu_by_part().items()}
            figures.cpu_ms.append(sum(parts.values()))
            for part, spent in parts.items():
                figures.parts_ms[part].append(spent)
            for number in range(10_000, 10_000 + singles):
                time.sleep(GAP)
                asked = time.monotonic_ns()
                _submit(system, range(number, number + 1))
                figures.latency_ms.append((marks.wait_for(system.folder / "marks", number) - asked) / 1e6)
                system.drained(0.005)

    return contest


def _submit(system: System, numbers: range) -> None:
    marks = str(system.folder / "marks")
    jobs = [
        NewJob(
            id=f"j{number:09d}",
            pipeline="noop",
            pipeline_version=1,
            params={"marks": marks, "number": number},
        )
        for number in numbers
    ]
    if len(jobs) == 1:
        system.store.submit(jobs[0])
    else:
        system.store.submit_many(jobs)


def _idle(system: System) -> tuple[float, dict[str, int]]:
    """(share of a core, PSS by process) of keeper, worker and zygote with nothing to do."""
    time.sleep(2.0)
    cpu = system.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    return (system.cpu_seconds() - cpu) / IDLE_SECONDS, system.pss_bytes()


# -- floors -------------------------------------------------------------------------------------------------


def _python_start(figures: Figures, _folder: Path, jobs: int, singles: int) -> None:
    _floor(figures, jobs, lambda: subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True))
    code = "import time; print(time.monotonic_ns())"
    for _ in range(singles):
        asked = time.monotonic_ns()
        done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True)
        figures.latency_ms.append((int(done.stdout) - asked) / 1e6)


def _bare_fork(figures: Figures, _folder: Path, jobs: int, singles: int) -> None:
    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    _floor(figures, jobs, fork)
    for _ in range(singles):
        read, write = os.pipe()
        asked = time.monotonic_ns()
        pid = os.fork()
        if pid == 0:
            os.write(write, str(time.monotonic_ns()).encode())
            os._exit(0)
        figures.latency_ms.append((int(os.read(read, 64)) - asked) / 1e6)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


def _floor(figures: Figures, jobs: int, one: Callable[[], object]) -> None:
    cpu, began = _own_cpu(), time.monotonic()
    for _ in range(jobs):
        one()
    figures.per_second.append(jobs / (time.monotonic() - began))
    figures.cpu_ms.append((_own_cpu() - cpu) / jobs * 1e3)


def _own_cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


# -- tables -------------------------------------------------------------------------------------------------


def _show(figures: dict[str, Figures], names: list[str]) -> bool:
    ours = figures["unjam tree"]
    base = (statistics.median(ours.per_second), statistics.median(ours.cpu_ms), _p(ours.latency_ms, 0.5))
    print(f"{'':16}{'jobs/s':>10}{'CPU ms/job':>13}{'to first line, ms':>28}")
    print(f"{'':16}{'median':>10}{'median':>13}{'p50':>12}{'p99':>8}{'max':>8}   ratios of unjam tree to it")
    for name in names:
        f = figures[name]
        speed, cpu, p50 = statistics.median(f.per_second), statistics.median(f.cpu_ms), _p(f.latency_ms, 0.5)
        ratios = f"x{base[0] / speed:.2f} jobs/s, x{base[1] / cpu:.2f} CPU, x{base[2] / p50:.2f} latency"
        latency = f"{p50:>12.1f}{_p(f.latency_ms, 0.99):>8.1f}{max(f.latency_ms):>8.1f}"
        print(f"{name:16}{speed:>10.1f}{cpu:>13.2f}{latency}   {ratios}")
    print()
    for name in names:
        if figures[name].parts_ms:
            parts = {part: statistics.median(spent) for part, spent in figures[name].parts_ms.items()}
            told = ", ".join(f"{part} {spent:.1f}" for part, spent in parts.items())
            print(f"CPU ms a job, {name}: {told}")
    print()
    met = [
        _target("P1 jobs/s, tree", base[0], ">=", 100),
        _target("P1 CPU ms/job, tree", base[1], "<=", 10),
        _target("P3 p50 ms, tree", base[2], "<=", 20),
        _target("P3 p99 ms, tree", _p(ours.latency_ms, 0.99), "<=", 60),
    ]
    if "unjam pidns" in figures:
        inside = statistics.median(figures["unjam pidns"].cpu_ms)
        met.append(_target("P1 CPU ms/job, pidns", inside, "<=", 18))
    if "rq" in figures:
        rq = figures["rq"]
        met.append(_target("P1 jobs/s, ratio to RQ", base[0] / statistics.median(rq.per_second), ">=", 5))
        met.append(_target("P3 p50, ratio to RQ", base[2] / _p(rq.latency_ms, 0.5), "<=", 0.2))
    if "celery" in figures:
        celery = _p(figures["celery"].latency_ms, 0.5)
        met.append(_target("P3 p50, ratio to Celery", base[2] / celery, "<=", 2.5))
    return all(met)


def _show_idle(share: float, pss: dict[str, int]) -> bool:
    parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in sorted(pss.items()))
    print(f"idle for {IDLE_SECONDS:g} s; PSS in MB: {parts}")
    met = _target("P17 CPU % of a core", 100 * share, "<", 0.5)
    return _target("P17 PSS MB", sum(pss.values()) / 1e6, "<=", 60) and met


def _target(what: str, value: float, relation: str, limit: float) -> bool:
    met = {"<=": value <= limit, ">=": value >= limit, "<": value < limit}[relation]
    print(f"{'met   ' if met else 'MISSED'}  {what}: {value:.2f} (target {relation} {limit:g})")
    return met


def _p(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


if __name__ == "__main__":
    sys.exit(main())
