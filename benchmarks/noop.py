"""The pipelines that do nothing but say when their first line ran."""

import ctypes
import signal
import subprocess

from benchmarks import marks
from unjam.pipelines.api import pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.params import Params


class NoopParams(Params):
    """`marks`: the file to say it in (see marks.py)."""

    marks: str
    number: int


@pipeline("noop", version=1, takes_input=False)
def noop(_ctx: Context, params: NoopParams) -> None:
    """Nothing, and a mark."""
    marks.write(params.marks, params.number)


@pipeline("idle", version=1, takes_input=False)
def idle(_ctx: Context, params: NoopParams) -> None:
    """A mark, and a child that sleeps: what most of a long job looks like from here."""
    marks.write(params.marks, params.number)
    subprocess.run(["sleep", "600"], check=False)


@pipeline("hang", version=1, takes_input=False)
def hang(_ctx: Context, params: NoopParams) -> None:
    """A mark, then native code that never returns to Python and so never sees a TERM; it has a daemon."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    marks.write(params.marks, params.number)
    while True:
        ctypes.PyDLL(None).sleep(600)
