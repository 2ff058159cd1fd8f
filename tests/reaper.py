"""Runs pytest below a small init process, so that orphans of the tests are reaped, seen and ended.

`python -m tests.reaper [PYTEST ARGUMENTS]`, which is what `./run test` calls. The parent adopts what tests
leave behind and reaps it at once, as init would: a test sees a dead orphan disappear. The plugin
tests/plugins/orphans.py names the test that left a living one.

Without arguments all tests run, in as many streams as the machine has cores (pytest-xdist), a file in one
stream. Each stream has an init process of its own: `python -m tests.reaper --stream PYTHON ARGUMENTS`.
"""

import ctypes
import os
import shlex
import signal
import sys
from collections.abc import Callable
from types import FrameType

from tests.processes import end_all

ENVIRONMENT_NAME = "UNJAM_TEST_REAPER"
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
MOST_STREAMS = 4
"""More were not tried: tests that wait for a process within seconds need some of a core each."""


def prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def run_pytest(arguments: list[str]) -> int:
    import pytest

    return int(pytest.main(arguments))


def run_stream(arguments: list[str]) -> int:
    os.execv(sys.executable, [sys.executable, *arguments])


def in_streams(count: int) -> list[str]:
    """Arguments that make pytest run so many tests at once."""
    python = shlex.join([sys.executable, "-m", "tests.reaper", "--stream"])
    # In their usual order: else files with few tests come last, which are the longest here. And no new stream
    # for one that a test killed: it would run that test again, for ever.
    how = ["--dist=loadfile", "--no-loadscope-reorder", "--max-worker-restart=0"]
    return [*how, f"--tx={count}*popen//python={python}"]


def reap_until(child: int) -> int:
    """Reap everything; return the exit status of `child`."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def below_init(run: Callable[[list[str]], int], arguments: list[str]) -> int:
    reaper = os.getpid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != reaper:  # it died before the line above took effect
            sys.exit(1)
        os.environ[ENVIRONMENT_NAME] = str(reaper)
        # A shell without job control starts what it puts in the background with Ctrl+C ignored, and that is
        # inherited: the tests that press it would wait for ever.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(run(arguments))

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    # Ctrl+C reaches pytest from the terminal itself: twice would cut its report short.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGHUP, forward)
    code = reap_until(child)
    left = end_all([reaper], spared=set(), grace=0.0)
    if left:
        print("outlived pytest (now killed):", *left.values(), sep="\n  ", file=sys.stderr)
        return code or 1
    return code


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--stream"]:
        # Whatever ends pytest ends its streams: nobody else knows of them.
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        return below_init(run_stream, arguments[1:])
    streams = min(MOST_STREAMS, os.cpu_count() or 1)
    if not arguments and streams > 1:
        arguments = in_streams(streams)
    return below_init(run_pytest, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
