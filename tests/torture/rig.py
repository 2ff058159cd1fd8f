"""The system under torture: its folders, keepers, jobs and store; started, asked, stopped."""

import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture import names
from tests.torture.pipelines import TortureParams, output_content
from unjam.errors import UsageError
from unjam.jobs.model import Budgets, NewJob
from unjam.jobs.states import ACTIVE, State
from unjam.settings import Settings, as_environment, load
from unjam.store import open_store
from unjam.store.port import JobFilter
from unjam.store.url import shown
from unjam.supervise import nsprobe
from unjam.worker.spawn import keeper_argv, worker_argv

ROOT = Path(__file__).parent.parent.parent
SLOTS_EACH = 2
NEVER = 10**6
"""Budgets so large that no job is set aside: here every end is somebody's SIGKILL."""
LEASE_TTL, RENEW_EVERY, GRACE, POLL_EVERY = "4", "0.8", "0.5", "0.3"


@dataclass(slots=True)
class Slot:
    """One keeper with its worker, and how often it had to be started."""

    number: int
    containment: str
    faults: Path
    log: Path
    pid: int | None = None
    starts: int = 0
    killed: bool = False
    """We ended the running keeper; else its end is its own and a fault."""


@dataclass
class Rig:
    """Keepers over one store. Everything it starts is a child of this process."""

    folder: Path
    settings: Settings
    slots: list[Slot]
    run: str
    jobs: dict[str, int] = field(default_factory=dict)
    """Id to number of units."""
    gave_up: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = open_store(self.settings.store)
        self.out = self.folder / "out"

    # -- keepers --------------------------------------------------------------------------------------------
    @property
    def keepers(self) -> dict[int, int]:
        return {slot.pid: slot.number for slot in self.slots if slot.pid is not None}

    def tend(self) -> None:
        """Start a keeper wherever none runs. A killed keeper is the harness's business, as it is init's."""
        self.reap()
        for slot in self.slots:
            if slot.pid is None:
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        me = os.pidfd_open(os.getpid())
        os.set_inheritable(me, True)
        environment = {
            **os.environ,
            **as_environment(self.settings),
            "UNJAM_CONTAINMENT": slot.containment,
            "UNJAM__FAULTS": str(slot.faults),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        }
        log = os.open(slot.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        argv = keeper_argv(worker_argv(slots=SLOTS_EACH), restart=True, parent_fd=me)
        slot.pid = os.posix_spawn(
            sys.executable,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
        )
        os.close(log)
        os.close(me)
        slot.starts += 1
        slot.killed = False

    def reap(self) -> bool:
        """Take every dead child's status. True when the kernel says that nothing at all is left below us."""
        by_pid = {slot.pid: slot for slot in self.slots if slot.pid is not None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            slot = by_pid.get(pid)
            if slot is not None:
                slot.pid = None
                if not slot.killed:
                    self.gave_up.append(f"keeper {slot.number} ended by itself: status {status}")

    def stop(self, patience: float = 10.0) -> bool:
        """SIGTERM to all keepers. True when nothing was left within the patience, by word of the kernel."""
        for slot in self.slots:
            if slot.pid is not None:
                slot.killed = True
                os.kill(slot.pid, signal.SIGTERM)
        end = time.monotonic() + patience
        while not self.reap():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    def log_marks(self) -> list[int]:
        """How long each log is now."""
        return [slot.log.stat().st_size if slot.log.exists() else 0 for slot in self.slots]

    def ready_since(self, marks: Sequence[int]) -> bool:
        """Has a worker said that it is ready, its recovery done, since the logs were that long?"""
        for slot, mark in zip(self.slots, marks, strict=True):
            with open(slot.log, "rb") as log:
                log.seek(mark)
                if b": ready, " in log.read():
                    return True
        return False

    def release(self) -> None:
        """Nobody is held at a fault point any more."""
        for slot in self.slots:
            for path in slot.faults.iterdir():
                path.unlink(missing_ok=True)

    # -- jobs -----------------------------------------------------------------------------------------------
    def top_up(self, target: int, units: int, unit_seconds: float) -> None:
        """Submit until this many jobs are not over."""
        counts = self.store.count_by_state(JobFilter())
        active = sum(counts.get(state, 0) for state in ACTIVE)
        for _ in range(target - active):
            job = names.job_id(len(self.jobs))
            self.jobs[job] = units
            params = TortureParams(
                folder=str(self.folder), run=self.run, units=units, unit_seconds=unit_seconds
            )
            self.store.submit(
                NewJob(
                    id=job,
                    pipeline="torture",
                    pipeline_version=1,
                    params=params.model_dump(),
                    output_dir=str(self.out),
                    output_path=str(self.output_of(job)),
                    name=job,
                    budgets=Budgets(failures=1, crashes=NEVER, losses=NEVER),
                )
            )

    def output_of(self, job: str) -> Path:
        return self.out / f"{job}.bin"

    def right_content(self, job: str) -> bytes:
        return output_content(job, self.jobs[job])

    def states(self) -> Mapping[str, State]:
        return {job.id: job.state for job in self.store.get_many(list(self.jobs))}


def build(folder: Path, *, keepers: int, containment: str, store: str | None) -> Rig:
    """Folders and settings of a fresh system below `folder`. "mixed": every second keeper with `tree`,
    the others with PID namespaces where they can be had, in a user namespace if need be.

    Raises UsageError when the store is not empty.
    """
    home = folder / "home"
    for name in ("home", "out", "config"):
        (folder / name).mkdir()
    environment = {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "UNJAM_HOME": str(home),
        "UNJAM_PIPELINES": "tests.torture.pipelines",
        "UNJAM_LEASE_TTL": LEASE_TTL,
        "UNJAM_RENEW_EVERY": RENEW_EVERY,
        "UNJAM_GRACE": GRACE,
        "UNJAM_POLL_EVERY": POLL_EVERY,
        "UNJAM_SLOTS": str(SLOTS_EACH * keepers),
        **({"UNJAM_STORE": store} if store else {}),
    }
    best = "auto" if nsprobe.obstacle(insist=True) else "pidns"
    slots = []
    for number in range(keepers):
        faults = folder / f"faults{number}"
        faults.mkdir()
        level = (best, "tree")[number % 2] if containment == "mixed" else containment
        slots.append(Slot(number, level, faults, folder / f"worker{number}.log"))
    settings = load(env=environment, cwd=folder)
    rig = Rig(folder, settings, slots, run=f"{secrets.randbelow(10**8):08d}")
    jobs, workers = sum(rig.store.count_by_state(JobFilter()).values()), len(rig.store.workers())
    if jobs or workers:
        rig.store.close()
        raise UsageError(
            f"{shown(settings.store)} is not empty ({jobs} jobs, {workers} workers); "
            "the torture fills a store and kills its workers: give it an empty database"
        )
    return rig
