"""Pipelines that hang where no handler and no second thread helps."""

import os
import time
from pathlib import Path

from pydantic import Field

from unjam.pipelines.api import pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.params import Params


class DiskParams(Params):
    path: str = Field(description="file to write to, over and over")


@pipeline("test-disk", version=1, takes_input=False)
def writing(ctx: Context, params: DiskParams) -> None:
    """Writes for as long as it may. On a frozen disk each write waits in the kernel, beyond any signal."""
    with ctx.stage("write", stall_after=60) as stage, open(params.path, "wb", buffering=0) as file:
        for number in range(10**9):
            file.write(b"x" * 4096)
            file.seek(0)
            stage.progress(0.5, evidence=str(number))
            time.sleep(0.01)


class WaitParams(Params):
    folder: str
    name: str


@pipeline("test-wait", version=1, takes_input=False)
def waiting(ctx: Context, params: WaitParams) -> None:
    """Says that it runs by a file of its name, and runs until there is a file `go`."""
    folder = Path(params.folder)
    (folder / params.name).write_text(f"{os.getpid()} {ctx.attempt.number}")
    with ctx.stage("wait", stall_after=60) as stage:
        while not (folder / "go").exists():
            stage.progress(0.5, evidence=str(time.monotonic()))
            time.sleep(0.02)


DECODER = "tests.supervise.decoder_before_fork"


class NoParams(Params):
    pass


@pipeline("test-decode-forked", version=1, takes_input=False, preload=(DECODER,))
def decoding_after_fork(ctx: Context, params: NoParams) -> None:
    """The mistake: a library that has its threads before the fork."""
    _decode(ctx)


@pipeline("test-decode-spawned", version=1, takes_input=False, preload=(DECODER,), isolation="spawn")
def decoding_in_a_fresh_interpreter(ctx: Context, params: NoParams) -> None:
    _decode(ctx)


def _decode(ctx: Context) -> None:
    from tests.supervise.decoder_before_fork import FRAMES

    with ctx.stage("decode", stall_after=60) as stage:
        for number, _ in zip(range(50), FRAMES, strict=False):
            stage.progress(number / 50, evidence=str(number))
