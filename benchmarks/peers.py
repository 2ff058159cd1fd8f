"""RQ and Celery as contestants: an environment of their own, a Redis of their own, one worker each.

Redis keeps nothing on disk here (no snapshot, no append-only file), which is to the peers' advantage: every
submission to unjam is on the disk when it returns.
"""

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import marks
from benchmarks.system import ROOT, TICK
from unjam.supervise import linux

PACKAGES = ("rq>=2,<3", "celery[redis]>=5,<6", "setuptools<81")
GAP = 0.03
WARM = 5


Contest = Callable[[Path, int, int], tuple[float, float, list[float]]]
"""(folder, jobs, singles) -> (jobs a second, CPU ms a job, milliseconds to the first line of each single)."""


def contests() -> dict[str, Contest]:
    """One for each peer; installs what is missing."""
    if shutil.which("redis-server") is None:
        if os.geteuid() != 0:
            raise SystemExit("type: sudo apt-get install -y redis-server")
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "redis-server"], check=True, stdout=subprocess.DEVNULL
        )
    python = _environment()

    return {peer: functools.partial(_contest, python, peer) for peer in ("rq", "celery")}


def _environment() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unjam-bench" / "peers"
    python = cache / "bin" / "python"
    if not (cache / "ready").exists():
        print(f"installing {', '.join(PACKAGES)} into {cache}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(cache)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *PACKAGES], check=True)
        (cache / "ready").touch()
    return python


def _contest(
    python: Path, peer: str, folder: Path, jobs: int, singles: int
) -> tuple[float, float, list[float]]:
    folder.mkdir()
    where = folder / "marks"
    env = {
        **os.environ,
        "BENCH_REDIS": str(folder / "redis.sock"),
        "BENCH_MARKS": str(where),
        "BENCH_PEER": peer,
        "PYTHONPATH": str(ROOT),
    }
    worker = {
        "rq": ["-m", "rq.cli", "worker", "-q", "-u", f"unix://{folder / 'redis.sock'}", "bench"],
        "celery": ["-m", "celery", "-A", "benchmarks.peer_tasks", "worker", "-l", "ERROR", "-P", "prefork"],
    }[peer]
    with (
        _process(["redis-server", *_redis_options(folder)], env, folder),
        _process([str(python), *worker], env, folder) as pid,
        _Client(python, peer, env) as submit,
    ):
        submit(0, WARM)
        marks.wait_until(where, WARM, patience=60)
        cpu, began = _cpu(pid), time.monotonic()
        submit(100, jobs)
        marks.wait_until(where, WARM + jobs)
        seconds = time.monotonic() - began
        time.sleep(0.2)  # the last job's process is to be waited for
        cpu_ms = (_cpu(pid) - cpu) / jobs * 1e3
        latencies = []
        for number in range(10_000, 10_000 + singles):
            time.sleep(GAP)
            asked = submit(number, 1)
            latencies.append((marks.wait_for(where, number) - asked) / 1e6)
    return jobs / seconds, cpu_ms, latencies


def _redis_options(folder: Path) -> list[str]:
    quiet = ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
    return ["--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder), *quiet]


@contextmanager
def _process(argv: list[str], env: dict[str, str], folder: Path) -> Iterator[int]:
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            argv,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Client:
    """A warm client of the peer: told what to submit by a line, answers when it began."""

    def __init__(self, python: Path, peer: str, env: dict[str, str]) -> None:
        argv = [str(python), "-m", "benchmarks.peer_tasks", peer]
        self._process = subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def __enter__(self) -> Callable[[int, int], int]:
        return self._submit

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def _submit(self, first: int, count: int) -> int:
        assert self._process.stdin is not None, "a pipe"
        assert self._process.stdout is not None, "a pipe"
        self._process.stdin.write(f"{first} {count}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _cpu(pid: int) -> float:
    stats = (linux.proc_stat(one) for one in (pid, *linux.descendants(pid)))
    return sum(stat.cpu_ticks for stat in stats if stat is not None) / TICK
