"""Ending everything below us, whatever it does to hide (INV-ORPHAN)."""

import os
import signal
import subprocess

import pytest

from tests.helpers import wait_until
from tests.supervise.rig import in_subreaper, state_of
from tests.torture import leaves
from unjam.supervise import kill, linux


def left_to_wait_for() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


@pytest.mark.parametrize("hop", [0.001, 0.01])
def test_every_leaf_and_the_hopper_end(hop: float) -> None:
    def check() -> None:
        token = str(os.getpid())
        leaves.grow(token, hop)
        wait_until(lambda: len(leaves.alive(token)) == leaves.COUNT - 1, what="four sleepers")
        gone, killed = kill.kill_my_children(limit=10)
        assert gone
        assert killed >= leaves.COUNT
        assert not left_to_wait_for()
        assert leaves.alive(token) == []

    in_subreaper(check)


def test_a_hundred_sessions_end() -> None:
    def check() -> None:
        for _ in range(100):
            if os.fork() == 0:
                os.setsid()
                signal.pause()
        assert kill.kill_my_children(limit=10) == (True, 100)

    in_subreaper(check)


def test_the_status_of_each_child_is_told() -> None:
    def check() -> None:
        child = subprocess.Popen(["/bin/sh", "-c", "exit 7"])
        wait_until(lambda: state_of(child.pid) == "Z", what="the end of the child")
        seen: dict[int, int] = {}
        kill.kill_my_children(lambda pid, status, _used: seen.__setitem__(pid, status))
        assert {pid: os.waitstatus_to_exitcode(status) for pid, status in seen.items()} == {child.pid: 7}

    in_subreaper(check)


def test_a_process_that_is_not_our_child_is_not_signalled() -> None:
    """INV-STRANGER: `strike` is handed a number that is somebody else's."""

    def check() -> None:
        stranger = os.getppid()
        assert kill.strike([stranger, 2**22 + 1]) == set()
        assert linux.proc_stat(stranger) is not None

    in_subreaper(check)


def test_nothing_to_kill_is_done_at_once() -> None:
    in_subreaper(lambda: _same(kill.kill_my_children(limit=1), (True, 0)))


def _same(got: object, wanted: object) -> None:
    assert got == wanted
