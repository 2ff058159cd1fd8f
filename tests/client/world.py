"""A store of its own with an owner for jobs that may be alive, dead or silent."""

import os
from pathlib import Path
from typing import Any

from unjam.client.ids import new_id
from unjam.client.submit import Outcome, Submission, carry_out, plan
from unjam.jobs.machines import Capacity, WorkerInfo
from unjam.jobs.model import Job
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import AttemptEnd, Claim
from unjam.jobs.states import AttemptState, State
from unjam.settings import Settings
from unjam.store import open_store
from unjam.supervise.host import host_id
from unjam.supervise.identity import Identity, boot_id, identity_of

PIPELINES = ("convert", "exec")


class World:
    """A store, its settings and a folder for inputs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = Settings(home=root / "home", slots=4)
        self.settings.home.mkdir()
        self.here = host_id(self.settings.home)
        self.store = open_store(self.settings.store)

    def file(self, name: str, text: str = "media") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def ask(self, *inputs: str, pipeline: str = "convert", **options: Any) -> Submission:
        return Submission(pipeline=pipeline, inputs=inputs, cwd=str(self.root), **options)

    def submit(self, asked: Submission) -> Outcome:
        return carry_out(
            self.store, self.settings, plan(self.store, self.settings, asked), asked, by="tester"
        )

    def submit_one(self, asked: Submission) -> Job:
        (job_id,) = self.submit(asked).job_ids
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def worker(self, *, alive: bool = True, ttl: float = 30, **fields: Any) -> WorkerInfo:
        me = identity_of(os.getpid())
        assert me is not None
        # A process that can never have lived: pids begin at 1 and ticks at 0.
        elsewhere = fields.get("host", self.here) != self.here
        gone = Identity("another boot" if elsewhere else boot_id(), 2**22 + 1, 1, 1)
        worker = WorkerInfo(
            **{
                "id": new_id("w"),
                "host": self.here,
                "identity": (me if alive else gone).to_json(),
                "keeper_identity": None,
                "mark": 1,
                "queues": None,
                "slots": 2,
                "pipelines": PIPELINES,
                "wake_path": None,
                **fields,
            }
        )
        self.store.check_in(worker, ttl=ttl)
        return worker

    def claim(self, worker: WorkerInfo, *, ttl: float = 30) -> Claim:
        (claim,) = self.take(worker, ttl=ttl)
        return claim

    def take(self, worker: WorkerInfo, *, ttl: float = 30) -> list[Claim]:
        """One job, or none."""
        capacity = Capacity(host=worker.host, cpu=64, memory_bytes=2**40, gpu=0, free_slots=1)
        return self.store.claim(
            worker.id, capacity=capacity, queues=worker.queues, pipelines=worker.pipelines, ttl=ttl
        )

    def end(self, claim: Claim, state: State, code: ReasonCode, message: str = "so it was") -> None:
        reason = Reason(code, message)
        good = state in (State.SUCCEEDED, State.SKIPPED)
        attempt = AttemptState.SUCCEEDED if good else AttemptState.FAILED
        self.store.end(claim.lease, AttemptEnd(attempt, reason, state, reason, claim.job.counters))
