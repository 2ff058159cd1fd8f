"""The worker of a foreground run: started when no live worker can take its jobs, ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from unjam.client.owners import suitable
from unjam.jobs.lifecycle import LIVE
from unjam.jobs.model import Job
from unjam.jobs.states import State
from unjam.settings import Settings
from unjam.store.port import JobFilter, Store
from unjam.supervise.identity import identity_of
from unjam.supervise.keeper_env import LET_GO
from unjam.worker.spawn import environment, keeper_argv, worker_argv

CHECK_EVERY = 2.0
"""Seconds between looks whether somebody can take the jobs that wait."""
START_LIMIT = 30.0
"""A keeper and worker started by us must check in within this; else the next look starts others."""
_ENDED_AS_ASKED = (0, 130, 143)
STOP_LIMIT = 30.0
"""Beyond the grace: how long the keeper may take to stop its worker before it is asked again, harder."""


class LocalWorker:
    """At most one keeper + worker of our own, below this process."""

    def __init__(self, store: Store, settings: Settings, *, slots: int | None = None) -> None:
        self._store = store
        self._settings = settings
        self._slots = slots
        self._keeper: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._looked = -CHECK_EVERY
        self._started = -START_LIMIT
        self.told: str | None = None

    @property
    def started(self) -> bool:
        return self._keeper is not None

    @property
    def log_path(self) -> Path | None:
        return self._log

    def tick(self, jobs: Sequence[Job]) -> bool:
        """Start a worker if jobs wait and nobody lives who could take them. True when one was started now."""
        now = time.monotonic()
        if now - self._looked < CHECK_EVERY:
            return False
        self._looked = now
        waiting = [job for job in jobs if job.state in (State.QUEUED, *LIVE)]
        if not waiting or self._alive_and_starting(now):
            return False
        store_now, workers = self._store.now(), self._store.workers()
        if all(suitable(workers, job, store_now) for job in _one_of_each(waiting)):
            return False
        if self.started and self._keeper is not None and self._keeper.poll() is None:
            return False  # our keeper lives and will start its worker again
        self._start(now)
        return True

    def _alive_and_starting(self, now: float) -> bool:
        return self._keeper is not None and self._keeper.poll() is None and now - self._started < START_LIMIT

    def _start(self, now: float) -> None:
        logs = self._settings.log_root
        logs.mkdir(parents=True, exist_ok=True)
        born = logs / f"worker-attached-{os.getpid()}.log"
        parent = os.pidfd_open(os.getpid()) if hasattr(os, "pidfd_open") else None
        if parent is not None:
            os.set_inheritable(parent, True)
        try:
            with open(born, "ab") as log:
                self._keeper = subprocess.Popen(
                    keeper_argv(worker_argv(slots=self._slots), restart=True, parent_fd=parent),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment(self._settings),
                    cwd="/",
                    pass_fds=() if parent is None else (parent,),
                    # Ctrl+C belongs to this process: it pauses the jobs and then ends the worker itself.
                    start_new_session=True,
                )
        finally:
            if parent is not None:
                os.close(parent)
        # By the number of the one who writes it: that may outlive this process, and `gc` asks for it.
        self._log = born.rename(logs / f"worker-attached-{self._keeper.pid}.log")
        self._started = now

    def stop(self, own: Collection[str]) -> int:
        """End our worker: TERM, and again (which stops at once) if that takes too long. Blocks until then.

        Jobs of others than `own` that it runs are not torn from it: it takes no more, and ends after them.
        Returns how many those are.
        """
        others = self._others(own)
        if others and self._keeper is not None:
            self._keeper.send_signal(LET_GO)
            self._keeper = None
        else:
            self._signal_and_wait(self._settings.grace + STOP_LIMIT)
        return others

    def _others(self, own: Collection[str]) -> int:
        if self._keeper is None or self._keeper.poll() is not None:
            return 0
        return sum(job.id not in own for job in self._runs(self._keeper.pid))

    def _runs(self, keeper_pid: int) -> list[Job]:
        """What the worker below this keeper runs."""
        keeper = identity_of(keeper_pid)
        mine = [
            worker.id
            for worker in self._store.workers()
            if keeper is not None and worker.keeper_identity == keeper.to_json()
        ]
        jobs = [self._store.list_jobs(JobFilter(worker_id=worker_id)) for worker_id in mine]
        return [job for found in jobs for job in found]

    def kill(self, own: Collection[str]) -> None:
        """End our worker at once: at the second signal it kills its attempts instead of waiting for them.
        Not one that runs jobs of others than `own`: that is left to `stop`."""
        if self._others(own):
            return
        if self._keeper is not None and self._keeper.poll() is None:
            # Another signal than the next one: two TERMs on their way at once would be merged into one.
            self._keeper.send_signal(signal.SIGINT)
        self._signal_and_wait(2.0)

    def _signal_and_wait(self, patience: float) -> None:
        keeper = self._keeper
        if keeper is None:
            return
        for number, limit in ((signal.SIGTERM, patience), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            if keeper.poll() is not None:
                break
            # INV-ORPHAN: a keeper killed here takes its tree along by PDEATHSIG and pidfd.
            keeper.send_signal(number)
            try:
                keeper.wait(limit)
            except subprocess.TimeoutExpired:
                continue
        self._keeper = None
        if self._log is not None and keeper.returncode in _ENDED_AS_ASKED:
            # The attempts have logs of their own; that of a worker that did its duty tells nothing.
            self._log.unlink(missing_ok=True)


def _one_of_each(jobs: Sequence[Job]) -> list[Job]:
    """Jobs alike in what decides who may take them are asked about once: 10,000 cost as much as one."""
    return list({(job.spec.pipeline, job.spec.queue): job for job in jobs}.values())
