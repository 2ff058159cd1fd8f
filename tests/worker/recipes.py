"""Pipelines for the worker's tests: small, real, each with one habit that a test wants survived."""

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from pydantic import Field

from unjam.errors import UnjamError
from unjam.jobs.reasons import ReasonCode
from unjam.pipelines.api import pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.params import Params
from unjam.pipelines.stage import UnitSpec


class Ledger(Params):
    ledger: str = Field(description="file that gets one line for everything done")


def note(params: Ledger, line: str) -> None:
    """One whole line, appended in one write: the count that no store can get wrong."""
    fd = os.open(params.ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


@pipeline("test-note", version=1, takes_input=False)
def noting(ctx: Context, params: Ledger) -> None:
    note(params, ctx.attempt.job_id)


@pipeline("test-wait", version=1, takes_input=False)
def waiting(ctx: Context, params: Ledger) -> None:
    Path(f"{params.ledger}.{ctx.attempt.job_id}").touch()
    while not Path(f"{params.ledger}.go").exists():
        time.sleep(0.02)
    note(params, ctx.attempt.job_id)


class UnitParams(Ledger):
    count: int = Field(5, description="units to do")
    seconds: float = Field(0.0, description="work of one unit")
    hold_at: int = Field(-1, description="before this unit wait for the file LEDGER.go")
    revision: int = 1
    files: bool = Field(True, description="a unit is a file; or only a row")


@pipeline("test-units", version=1, takes_input=False, output_suffix=lambda p, s: ".txt")
def with_units(ctx: Context, params: UnitParams) -> None:
    with ctx.stage("encode", stall_after=60) as stage:
        stage.plan({"count": params.count, "revision": params.revision})
        for unit in stage.units([UnitSpec(f"u{i}", suffix=".bin", data=i) for i in range(params.count)]):
            while unit.data == params.hold_at and not Path(f"{params.ledger}.go").exists():
                unit.progress(0.5, evidence=str(time.monotonic()))
                time.sleep(0.02)
            time.sleep(params.seconds)
            if params.files:
                unit.path.write_bytes(f"{unit.data}\n".encode())
            try:
                unit.commit(None if params.files else {"data": unit.data})
            finally:
                if unit.name in stage.committed:  # also when the commit's answer was to stop here
                    note(params, f"{unit.name} attempt {ctx.attempt.number}")
        parts = [stage.committed[f"u{i}"].path for i in range(params.count)]
    if ctx.attempt.output_path:
        ctx.publish(b"".join(p.read_bytes() for p in parts if p))


class EndParams(Params):
    how: str


@pipeline("test-end", version=1, takes_input=False)
def ending(ctx: Context, params: EndParams) -> None:
    match params.how:
        case "error":
            raise ValueError("a bug in a pipeline")
        case "segfault":
            signal.raise_signal(signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "garbage":
            os.write(int(os.environ.get("CHANNEL_FD", "-1")), b"x")
        case code:
            raise UnjamError(f"ended as {code}", code=ReasonCode(code))


class HangParams(Params):
    how: str = "sleep"
    daemon_seconds: int = 0
    pid_file: str = ""


@pipeline("test-hang", version=1, takes_input=False)
def hanging(ctx: Context, params: HangParams) -> None:
    if params.pid_file:
        Path(params.pid_file).write_text(str(os.getpid()))
    with ctx.stage("work") as stage:
        stage.progress(0.1, evidence="start")
        match params.how:
            case "sleep":
                time.sleep(600)
            case "native":
                # Holds the GIL and cannot run a Python signal handler.
                signal.signal(signal.SIGTERM, lambda *_: None)
                while True:
                    ctypes.PyDLL(None).sleep(600)
            case "spin":
                while True:
                    pass


class MemoryParams(Params):
    size: int


@pipeline("test-memory", version=1, takes_input=False)
def eating(ctx: Context, params: MemoryParams) -> None:
    kept = []
    for _ in range(params.size // (1 << 20)):
        kept.append(bytearray(os.urandom(4096) * 256))
        time.sleep(0.002)
    time.sleep(30)


@pipeline("test-token", version=1, takes_input=False)
def with_token(ctx: Context, params: Ledger) -> None:
    with ctx.stage("gpu", stall_after=30) as stage, ctx.token("gpu"):
        note(params, f"in {ctx.attempt.job_id}")
        stage.progress(0.5, evidence="in")
        time.sleep(0.15)
        note(params, f"out {ctx.attempt.job_id}")


@pipeline("test-temp", version=1, takes_input=False)
def with_temporary_files(ctx: Context, params: Ledger) -> None:
    """Leaves two behind, its own and a tool's, and dies of it the first time."""
    handle, path = tempfile.mkstemp()
    os.close(handle)
    note(params, path)
    note(params, subprocess.check_output(["mktemp"], text=True).strip())
    if ctx.attempt.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
