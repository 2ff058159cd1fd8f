"""Exit codes of jobs: what a script sees of one and of many."""

from dataclasses import replace

import pytest

from tests.client.world import World
from unjam.cli.exits import of_jobs
from unjam.jobs.model import Job
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.states import State


@pytest.fixture
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    world = World(tmp_path_factory.mktemp("world"))
    world.file("a.mov")
    job = world.submit_one(world.ask("a.mov", output_dir="out"))
    world.store.close()
    return job


def ended(job: Job, state: State, code: ReasonCode = ReasonCode.OK) -> Job:
    return replace(job, state=state, reason=Reason(code, "so it was"))


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        (State.SUCCEEDED, ReasonCode.OK, 0),
        (State.SKIPPED, ReasonCode.OK, 0),
        (State.FAILED, ReasonCode.CRASHED, 1),
        (State.FAILED, ReasonCode.DISK_FULL, 1),
        (State.FAILED, ReasonCode.PERMISSION, 1),
        (State.CANCELLED, ReasonCode.CANCELLED_BY_USER, 5),
        (State.FAILED, ReasonCode.TIMEOUT, 6),
        (State.FAILED, ReasonCode.STALLED, 6),
        (State.FAILED, ReasonCode.INPUT_BAD, 8),
        (State.FAILED, ReasonCode.INPUT_MISSING, 8),
        (State.PARTIAL, ReasonCode.OK, 10),
        (State.PAUSED, ReasonCode.INTERRUPTED, 130),
    ],
)
def test_one_job(job: Job, state: State, code: ReasonCode, expected: int) -> None:
    assert of_jobs([ended(job, state, code)]) == expected
    assert of_jobs([ended(job, state, code)] * 3) == expected


def test_several(job: Job) -> None:
    good = ended(job, State.SUCCEEDED)
    bad = ended(job, State.FAILED, ReasonCode.INPUT_BAD)
    late = ended(job, State.FAILED, ReasonCode.TIMEOUT)
    assert of_jobs([good, ended(job, State.SKIPPED)]) == 0
    assert of_jobs([good, bad]) == 10
    assert of_jobs([bad, late]) == 1
    assert of_jobs([good], refused=1) == 10
    assert of_jobs([good, ended(job, State.PAUSED)]) == 130
    assert of_jobs([]) == 0
