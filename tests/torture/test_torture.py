"""The short torture: every role killed at random and aimed moments, and all of them at once; nothing is lost,
doubled, torn or left.

Each run attacks INV-ORPHAN, INV-LOST, INV-ONCE, INV-FENCE, INV-KEEP, INV-TORN, INV-STRANGER, INV-LOCK.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from tests.processes import children_of
from tests.torture import bystanders, leaves
from tests.torture.census import Doomed
from tests.torture.other_user import user_namespaces_work
from unjam.jobs.model import NewJob
from unjam.store import open_store
from unjam.supervise import nsprobe

ROOT = Path(__file__).parent.parent.parent


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.torture", *arguments, "-v"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def torture(*arguments: str) -> str:
    """What a run printed that found nothing wrong."""
    process = start(*arguments)
    try:
        told, _ = process.communicate(timeout=110)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, told
    assert "all counts are zero" in told
    assert "evidence" not in told, "the folder of a run without faults is not kept"
    return told


def number(pattern: str, told: str) -> int:
    found = re.search(pattern, told)
    assert found is not None, f"{pattern!r} is not in:\n{told}"
    return int(found[1])


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_twelve_kills_leave_all_counts_at_zero() -> None:
    assert number(r"units: committed (\d+)", torture("--kills", "12", "--seed", "5")) > 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_nothing_outlives_a_massacre() -> None:
    """One worker with namespaces, one without: nothing is left at once, nothing after the next start."""
    told = torture("--massacre", "3", "--seed", "5")
    assert number(r"processes left by them: pidns (\d+)", told) == 0
    assert number(r"after the next start .*: (\d+)\n", told) == 0
    # It proves something only if there was something to leave.
    assert number(r"in flight: .*tree (\d+)", told) > 0
    assert number(r"left by them: .*tree (\d+)", told) > 0
    if not nsprobe.obstacle():
        assert number(r"in flight: .*pidns (\d+)", told) > 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_same_on_postgresql() -> None:
    told = torture("--kills", "4", "--massacre", "1", "--seed", "4", "--store", "postgresql")
    assert "on PostgreSQL" in told


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.timeout(120)
def test_the_same_without_any_privilege() -> None:
    told = torture("--kills", "4", "--massacre", "1", "--seed", "4", "--uid", "65534")
    assert "as uid 65534" in told
    assert number(r"held by .*tree (\d+)", told) > 0
    assert number(r"processes left by them: pidns (\d+)", told) == 0
    if user_namespaces_work(65534):
        assert number(r"held by .*pidns (\d+)", told) > 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_fault_fails_the_run_and_leaves_what_is_needed_to_look_into_it() -> None:
    process = start("--kills", "1", "--seed", "4")
    try:
        bystander = wait_until(lambda: _bystander_of(process.pid), 20, "the bystanders to stand by")
        assert bystander
        os.kill(bystander, signal.SIGTERM)
        told, _ = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, told
    assert "strangers     1 " in told
    assert "1 FAULTS; again: ./run torture --kills 1 --seed 4 -v" in told
    found = re.search(r"evidence: (.*)", told)
    assert found is not None, told
    evidence = Path(found[1])
    assert "was sent SIGTERM" in (evidence / "evidence.txt").read_text()
    assert (evidence / "story.log").exists()
    shutil.rmtree(evidence)


def _bystander_of(pid: int) -> int | None:
    """Its child that is called like a guardian and blocks all signals."""
    for child in children_of([pid]):
        status = dict(line.split(":\t", 1) for line in _status(child.pid).splitlines() if ":\t" in line)
        if status.get("Name") == "uj-guardian" and int(status["SigBlk"], 16) >> (signal.SIGTERM - 1) & 1:
            return child.pid
    return None


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def test_a_store_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'used.db'}"
    store = open_store(url)
    store.submit(NewJob("t00000", "torture", 1, {}))
    process = start("--kills", "1", "--store", url)
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 2, told
    assert "is not empty (1 jobs, 0 workers)" in told
    assert [job.id for job in store.get_many(["t00000"])] == ["t00000"]
    store.close()


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


def test_the_oracle_tells_runs_beside_each_other_apart() -> None:
    """Their attempts have the same names: only what is below the run itself is its own."""
    name = "open('/proc/self/comm', 'w').write('uj:t00042/1'); input()"
    attempt = subprocess.Popen([sys.executable, "-c", name], stdin=subprocess.PIPE)
    look = "from tests.torture.census import Doomed; print(Doomed('1', attempts={'t00042/1'}).alive(set()))"
    try:
        doomed = Doomed("04711815", attempts={"t00042/1"})
        wait_until(lambda: list(doomed.alive(set())) == [attempt.pid], 10, "the attempt to be seen")
        asked = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, check=True)
        assert asked.stdout == b"{}\n"
    finally:
        attempt.kill()
        attempt.communicate()


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
