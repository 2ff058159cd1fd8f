"""Real keepers and workers over a store of their own: started, watched, killed, and surely ended."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.helpers import wait_until
from unjam.jobs.machines import WorkerInfo
from unjam.jobs.model import InputFile, Job, JobLimits, NewJob
from unjam.jobs.states import ENDED, State
from unjam.settings import Settings
from unjam.store import open_store
from unjam.store.port import Store
from unjam.supervise.identity import Identity
from unjam.worker.spawn import environment, keeper_argv, worker_argv

ROOT = Path(__file__).resolve().parents[2]
RECIPES = "tests.worker.recipes"


class Crew:
    """One home, one store, any number of keepers over workers."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.home = home
        self.settings = replace(
            Settings(home=home, store=f"sqlite:///{home / 'unjam.db'}"),
            **{"pipelines": (RECIPES,), "poll_every": 0.2, "grace": 0.5, **settings},
        )
        home.mkdir(parents=True, exist_ok=True)
        self.store: Store = open_store(self.settings.store)
        self.ledger = home / "ledger"
        self.processes: list[subprocess.Popen[bytes]] = []

    # -- processes ------------------------------------------------------------------------------------------
    def start(
        self, *, keeper: bool = True, slots: int | None = None, wait: bool = True, env: Mapping[str, str] = {}
    ) -> subprocess.Popen[bytes]:
        """Start a worker (under a keeper) and wait until it has checked in."""
        known = {w.id for w in self.store.workers()}
        argv = worker_argv(slots=slots)
        if keeper:
            argv = keeper_argv(argv)
        with open(self.home / f"worker-{len(self.processes)}.log", "ab") as log:
            process = subprocess.Popen(
                argv,
                env={**environment(self.settings), "PYTHONPATH": str(ROOT), **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        if wait:
            wait_until(
                lambda: {w.id for w in self.store.workers()} - known or process.poll() is not None,
                20,
                "a worker to check in",
            )
            assert process.poll() is None, self.log()
        return process

    def workers(self) -> list[WorkerInfo]:
        return self.store.workers()

    def kill_worker(self, number: int = signal.SIGKILL) -> int:
        """Signal the newest worker process itself (not its keeper); returns its pid."""
        newest = max(self.store.workers(), key=lambda w: w.started_at)
        pid = Identity.from_json(newest.identity).pid
        os.kill(pid, number)
        return pid

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self) -> str:
        return "\n".join(p.read_text() for p in sorted(self.home.glob("worker-*.log")))

    # -- jobs -----------------------------------------------------------------------------------------------
    def submit(self, pipeline: str, params: Mapping[str, Any] | None = None, **fields: Any) -> str:
        job_id: str = fields.pop("id", None) or f"j{secrets.token_hex(5)}"
        if params is None:
            params = {"ledger": str(self.ledger)}
        limits = JobLimits(
            timeout=fields.pop("timeout", None),
            stall_after=fields.pop("stall_after", None),
            memory_bytes=fields.pop("memory_bytes", None),
        )
        if "output" in fields:
            output = Path(fields.pop("output"))
            fields |= {"output_dir": str(output.parent), "output_path": str(output)}
        self.store.submit(NewJob(job_id, pipeline, 1, params, limits=limits, **fields))
        return job_id

    def job(self, job_id: str) -> Job:
        found = self.store.get(job_id)
        assert found is not None
        return found

    def wait(self, job_id: str, *states: State, timeout: float = 20) -> Job:
        """Until the job is in one of `states` (default: any end)."""
        wanted = set(states) or ENDED
        try:
            wait_until(lambda: self.job(job_id).state in wanted, timeout, f"{job_id} to be {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.job(job_id)}\n{self.log()}") from None
        return self.job(job_id)

    def lines(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []


@contextmanager
def crew(home: Path, **settings: Any) -> Iterator[Crew]:
    """A Crew whose processes are gone when the block is left."""
    made = Crew(home, **settings)
    try:
        yield made
    finally:
        made.stop()
        made.store.close()


def source_file(path: Path) -> InputFile:
    stat = path.stat()
    return InputFile(path.name, str(path), stat.st_size, stat.st_mtime_ns)


PYTHON = sys.executable
