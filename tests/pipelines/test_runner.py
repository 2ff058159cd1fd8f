"""How an attempt ends and what its worker is told."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from tests.pipelines.rig import Job
from unjam.errors import InputBad, LeaseLost
from unjam.jobs.messages import Failed, Message, Progress, Refused, StageStarted, UnitCommitted
from unjam.jobs.reasons import ReasonCode
from unjam.pipelines.api import pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.params import Params
from unjam.pipelines.runner import EXIT_FAILED, EXIT_STOPPED, explain
from unjam.pipelines.stage import UnitSpec


class ScriptParams(Params):
    do: str = "nothing"


@pipeline("script", version=1, takes_input=False)
def script(ctx: Context, params: ScriptParams) -> None:
    """Does what a test asks."""
    match params.do:
        case "nothing":
            pass
        case "publish":
            ctx.publish("text")
        case "bug":
            raise KeyError("surprise")
        case "bad":
            raise InputBad("x.mp4: not a video")
        case "swallow":
            with ctx.stage("s") as stage:
                stage.progress(0.1, evidence="1")
                while True:
                    try:
                        signal.pause()
                    except Exception:  # noqa: BLE001, S110 - what a careless pipeline does
                        pass
        case "destructor":
            with ctx.stage("s") as stage:
                Terminated()  # dies at once
                ctx.log("went on")
                for step in range(1000):
                    stage.progress(step / 1000, evidence=str(step))
                    time.sleep(0.01)
        case "unit":
            with ctx.stage("s") as stage:
                stage.plan({})
                for unit in stage.units([_unit()]):
                    unit.commit({})


class Terminated:
    """Gets the TERM in its destructor, whose exceptions Python only prints."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def _unit() -> UnitSpec:
    return UnitSpec("u")


def job(folder: Path, do: str) -> Job:
    return Job(folder, None, "script", {"do": do})


MODULES = (__name__,)


def test_a_good_end_hands_over_outputs_and_manifest(tmp_path: Path) -> None:
    outcome = job(tmp_path, "publish").attempt(modules=MODULES)
    assert outcome.status == 0
    assert [o["kind"] for o in outcome.outputs] == ["media", "manifest"]


@pytest.mark.parametrize(
    ("do", "code", "said"),
    [("bad", "input_bad", "x.mp4: not a video"), ("bug", "internal_error", "KeyError: 'surprise'")],
)
def test_a_bad_end_is_told_with_its_reason(tmp_path: Path, do: str, code: str, said: str) -> None:
    outcome = job(tmp_path, do).attempt(modules=MODULES)
    assert (outcome.status, outcome.failed.code, outcome.failed.message) == (EXIT_FAILED, code, said)
    assert ("Traceback" in outcome.log) is (do == "bug"), "a traceback only where it helps"


def test_wrong_parameters_are_told(tmp_path: Path) -> None:
    one = job(tmp_path, "nothing")
    one.params = {"doo": 1}
    assert "did you mean do?" in one.attempt(modules=MODULES).failed.message


def test_term_stops_even_a_pipeline_that_swallows_everything(tmp_path: Path) -> None:
    def stop(message: Message, pid: int) -> None:
        if isinstance(message, Progress):
            os.kill(pid, signal.SIGTERM)

    outcome = job(tmp_path, "swallow").attempt(modules=MODULES, on_message=stop)
    assert outcome.status == EXIT_STOPPED
    assert not [m for m in outcome.said if isinstance(m, Failed)]


def test_a_stop_that_python_swallows_is_not_lost(tmp_path: Path) -> None:
    """Seen in a hook of fork(): the pipeline went on until the KILL, or to its end."""
    outcome = job(tmp_path, "destructor").attempt(modules=MODULES)
    assert (outcome.status, "went on" in outcome.log) == (EXIT_STOPPED, True)


def test_a_lost_lease_stops_it(tmp_path: Path) -> None:
    """INV-FENCE"""

    def refuse(message: Message, _job: Job) -> Message | None:
        return (
            Refused("worker_lost", "the lease is another's") if isinstance(message, UnitCommitted) else None
        )

    outcome = job(tmp_path, "unit").attempt(modules=MODULES, answer=refuse)
    assert (outcome.status, "the lease is another's" in outcome.log) == (EXIT_STOPPED, True)
    assert [m.stage for m in outcome.said if isinstance(m, StageStarted)] == ["s"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), ReasonCode.DISK_FULL),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), ReasonCode.PERMISSION),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), ReasonCode.INPUT_MISSING),
        (MemoryError(), ReasonCode.MEMORY),
        (LeaseLost("x"), ReasonCode.WORKER_LOST),
        (ValueError("x"), ReasonCode.INTERNAL_ERROR),
    ],
)
def test_exceptions_become_reasons(error: Exception, code: ReasonCode) -> None:
    assert explain(error).code is code
