"""The short torture: every role killed at random and aimed moments, nothing lost, doubled, torn or left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import process_alive
from tests.torture import bystanders, leaves
from tests.torture.census import Doomed

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_fifteen_kills_leave_all_counts_at_zero() -> None:
    """INV-ORPHAN, INV-LOST, INV-ONCE, INV-FENCE, INV-KEEP, INV-TORN, INV-STRANGER, INV-LOCK."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--kills", "15", "--seed", "3", "-v"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all counts are zero" in result.stdout


def test_the_oracle_sees_a_leaf_that_outlived_its_attempt() -> None:
    doomed = Doomed("04711815", attempts={"t00042/1"})
    assert doomed.alive(set()) == {}
    leaf = subprocess.Popen(leaves.argv("04711815" + "00042" + "0001"))
    try:
        assert list(doomed.alive(set())) == [leaf.pid]
        assert doomed.alive({leaf.pid}) == {}
    finally:
        leaf.kill()
        leaf.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGCONT, signal.SIGKILL])
def test_a_bystander_that_is_signalled_says_so(number: int) -> None:
    crowd = bystanders.start("4711")
    try:
        assert bystanders.harmed(crowd) == []
        os.kill(crowd[0].pid, number)
        while number == signal.SIGKILL and process_alive(crowd[0].pid):
            pass  # the pytest timeout bounds it
        assert len(bystanders.harmed(crowd)) == 1
    finally:
        bystanders.end(crowd)
    assert not any(process_alive(one.pid) for one in crowd)
