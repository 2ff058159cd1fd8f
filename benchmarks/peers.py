"""Other engines as contestants: an environment of their own, a Redis or PostgreSQL of their own, one worker
each with its defaults.

Redis keeps nothing on disk here (no snapshot, no append-only file) and PostgreSQL does not sync, which is to
the peers' advantage: every submission to unjam is on the disk when it returns.
"""

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import marks
from benchmarks.system import ROOT, TICK
from tests.postgres import Server
from unjam.supervise import linux

PACKAGES = (
    "rq>=2,<3",
    "celery[redis]>=5,<6",
    "huey>=3,<4",
    "dramatiq[redis]>=2,<3",
    "procrastinate>=3,<4",
    "pgqueuer[asyncpg]>=1,<2",
    "setuptools<81",
)
GAP = 0.03
WARM = 5
TASKS = "benchmarks.peer_tasks"


@dataclass(frozen=True, slots=True)
class Peer:
    """How one engine is run. `worker` and `prepare` are commands of its environment."""

    service: Literal["redis", "postgres", "none"]
    worker: tuple[str, ...]
    prepare: tuple[str, ...] = ()


PEERS = {
    "rq": Peer("redis", ("rq", "worker", "-q", "-u", "unix://{redis}", "bench")),
    "celery": Peer("redis", ("celery", "-A", TASKS, "worker", "-l", "ERROR", "-P", "prefork")),
    "huey": Peer("none", ("huey_consumer", f"{TASKS}.app", "-k", "process", "-w", "{cpus}", "-q")),
    "dramatiq": Peer("redis", ("dramatiq", f"{TASKS}:app")),
    "procrastinate": Peer(
        "postgres",
        ("procrastinate", f"--app={TASKS}.app", "worker", "--concurrency", "{cpus}"),
        ("procrastinate", f"--app={TASKS}.app", "schema", "--apply"),
    ),
    "pgqueuer": Peer(
        "postgres",
        # What `pgq run` does; that itself fails with the newest release of its command line library.
        ("python", "-c", f"from {TASKS} import run_pgqueuer; run_pgqueuer()"),
        ("pgq", "--pg-dsn", "{postgres}", "install"),
    ),
}
USUAL = ("rq", "celery")


Contest = Callable[[Path, int, int], tuple[float, float, list[float]]]
"""(folder, jobs, singles) -> (jobs a second, CPU ms a job, milliseconds to the first line of each single)."""


def contests(names: Sequence[str] = USUAL) -> dict[str, Contest]:
    """One for each peer; installs what is missing."""
    if shutil.which("redis-server") is None:
        if os.geteuid() != 0:
            raise SystemExit("type: sudo apt-get install -y redis-server")
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "redis-server"], check=True, stdout=subprocess.DEVNULL
        )
    programs = _environment()
    return {name: functools.partial(_contest, programs, name) for name in names}


def _environment() -> Path:
    """The folder of the programs of an environment with these packages; made when they change."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unjam-bench" / "peers"
    ready, wanted = cache / "ready", "\n".join(PACKAGES)
    if not ready.exists() or ready.read_text(encoding="utf-8") != wanted:
        print(f"installing {', '.join(PACKAGES)} into {cache}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(cache)], check=True)
        subprocess.run([str(cache / "bin" / "pip"), "install", "-qq", *PACKAGES], check=True)
        ready.write_text(wanted, encoding="utf-8")
    return cache / "bin"


def _contest(
    programs: Path, name: str, folder: Path, jobs: int, singles: int
) -> tuple[float, float, list[float]]:
    folder.mkdir()
    peer, where, redis = PEERS[name], folder / "marks", folder / "redis.sock"
    with ExitStack() as stack:
        postgres = stack.enter_context(_postgres()) if peer.service == "postgres" else ""
        env = {
            **os.environ,
            "BENCH_REDIS": str(redis),
            "BENCH_POSTGRES": postgres,
            "BENCH_FOLDER": str(folder),
            "BENCH_MARKS": str(where),
            "BENCH_PEER": name,
            "PGDSN": postgres,
            "PYTHONPATH": str(ROOT),
        }

        def command(words: Sequence[str]) -> list[str]:
            filled = [w.format(redis=redis, postgres=postgres, cpus=os.cpu_count()) for w in words[1:]]
            return [str(programs / words[0]), *filled]

        if peer.service == "redis":
            stack.enter_context(_process(["redis-server", *_redis_options(folder)], env, folder))
        if peer.prepare:
            subprocess.run(command(peer.prepare), env=env, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        pid = stack.enter_context(_process(command(peer.worker), env, folder))
        submit = stack.enter_context(_Client(programs / "python", name, env))
        return _measure(pid, submit, where, jobs, singles)


def _measure(
    pid: int, submit: Callable[[int, int], int], where: Path, jobs: int, singles: int
) -> tuple[float, float, list[float]]:
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
def _postgres() -> Iterator[str]:
    server = Server()
    try:
        server.start()
        yield server.url()
    finally:
        server.close()


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
    except TimeoutError as error:
        raise TimeoutError(f"{argv[0]}: {error}\n{(folder / 'log').read_text()[-2000:]}") from error
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
        # Imported, not run: Huey and Procrastinate name a task by its module, which must not be __main__.
        argv = [str(python), "-c", f"from {TASKS} import main; main()", peer]
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
