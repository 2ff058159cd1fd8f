"""Pipelines for the end-to-end tests: what they do is written down by themselves, line by line."""

import os
import signal
import time
from contextlib import nullcontext

from pydantic import Field

from unjam.jobs.model import Needs
from unjam.pipelines.api import pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.params import Params


class TurnParams(Params):
    """Where to write, and how long a turn takes."""

    ledger: str = Field(description="file that gets a line at the beginning and one at the end")
    seconds: float = Field(0.2, description="how long it takes")


def note(path: str, line: str) -> None:
    """One whole line in one write, so that those of several jobs never mix."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


@pipeline("e2e-turn", version=1, accepts=frozenset({".txt"}), output_suffix=lambda p, s: ".done")
def turn(ctx: Context, params: TurnParams) -> None:
    """Begin, take a while, end, publish."""
    mark = f"{ctx.attempt.job_id} {ctx.attempt.number}"
    note(params.ledger, f"+ {mark}")
    try:
        with ctx.stage("turn") as stage:
            until = time.monotonic() + params.seconds
            while (left := until - time.monotonic()) > 0:
                stage.progress(1 - left / params.seconds, evidence=f"{left}")
                time.sleep(min(left, 0.02))
    finally:
        note(params.ledger, f"- {mark}")
    ctx.publish(mark)


class HoldParams(Params):
    """What to take of the machine, and until when."""

    until: str = Field(description="ends when this file is there")
    cpu: int = 1
    gpu: int = 0
    token: str = ""
    number: int = Field(0, description="tells one from the others")
    deaf: bool = Field(False, description="hear no TERM")


@pipeline(
    "e2e-hold", version=1, takes_input=False, needs=lambda params, cpus: Needs(cpu=params.cpu, gpu=params.gpu)
)
def hold(ctx: Context, params: HoldParams) -> None:
    """Take it, and do nothing with it."""
    if params.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with ctx.stage("hold") as stage, ctx.token(params.token) if params.token else nullcontext():
        stage.progress(0.1, evidence="began")
        while not os.path.exists(params.until):
            time.sleep(0.02)
