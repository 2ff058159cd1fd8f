"""Runs pytest below a small init process, so that orphans of the tests are reaped, seen and ended.

`python -m tests.reaper [PYTEST ARGUMENTS]`, which is what `./run test` calls. The parent adopts what tests
leave behind and reaps it at once, as init would: a test sees a dead orphan disappear. The plugin
tests/plugins/orphans.py names the test that left a living one.
"""

import ctypes
import os
import signal
import sys
from types import FrameType

from tests.processes import end_all

ENVIRONMENT_NAME = "UNJAM_TEST_REAPER"
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def run_pytest(arguments: list[str], reaper: int) -> int:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != reaper:  # it died before the line above took effect
        return 1
    import pytest

    os.environ[ENVIRONMENT_NAME] = str(reaper)
    # A shell without job control starts what it puts in the background with Ctrl+C ignored, and that is
    # inherited: the tests that press it would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return int(pytest.main(arguments))


def reap_until(child: int) -> int:
    """Reap everything; return the exit status of `child`."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    reaper = os.getpid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        sys.exit(run_pytest(arguments, reaper))

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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
