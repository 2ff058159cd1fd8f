"""Clocks that move while jobs run: the wall clock set by hours, and a machine that slept.

Every process of the crew is a Python program that asks `time` what time it is; a sitecustomize of the test
moves that answer, for all of them at the same moment, as the kernel would.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.worker.crew import PYTHON, ROOT, Crew, crew
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import State
from unjam.worker.spawn import environment

HOURS = 3600.0

MOVED = """
import os, time
def moved(name):
    with open(os.path.join(os.environ["UNJAM_TEST_CLOCKS"], name)) as file:
        return float(file.read() or 0)
def patch(name, ask):
    setattr(time, name, ask)
_time, _localtime, _strftime, _clock = time.time, time.localtime, time.strftime, time.clock_gettime
patch("time", lambda: _time() + moved("wall"))
patch("time_ns", lambda: int(time.time() * 1e9))
patch("localtime", lambda at=None: _localtime(time.time() if at is None else at))
patch("strftime", lambda how, at=None: _strftime(how, time.localtime() if at is None else at))
patch("clock_gettime", lambda clock: _clock(clock) + (moved("boot") if clock == time.CLOCK_BOOTTIME else 0))
"""


class Clocks:
    """What the crew believes; the test itself keeps the true time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(MOVED)
        self.set("wall", 0)
        self.set("boot", 0)
        self.env = {"UNJAM_TEST_CLOCKS": str(folder), "PYTHONPATH": f"{folder}:{ROOT}"}

    def set(self, name: str, seconds: float) -> None:
        new = self._folder / f"{name}.new"
        new.write_text(str(seconds))
        new.rename(self._folder / name)


@contextmanager
def crew_with_clocks(home: Path) -> Iterator[tuple[Crew, Clocks, Callable[..., str]]]:
    clocks = Clocks(home / "clocks")
    with crew(home, lease_ttl=3.0, renew_every=0.5, slots=8) as c:

        def run(*argv: str) -> str:
            return subprocess.check_output(
                [PYTHON, *argv], env={**environment(c.settings), **clocks.env}, text=True, timeout=30
            )

        c.start(env=clocks.env)
        yield c, clocks, run


def units(c: Crew) -> str:
    return c.submit("test-units", {"ledger": str(c.ledger), "count": 5, "hold_at": 3})


@pytest.mark.slow
@pytest.mark.parametrize("jump", [5 * HOURS, -5 * HOURS], ids=["ahead", "back"])
def test_a_wall_clock_that_is_set_moves_no_lease_limit_or_backoff(tmp_path: Path, jump: float) -> None:
    with crew_with_clocks(tmp_path) as (c, clocks, run):
        held = units(c)
        limited = c.submit("test-hang", {"how": "sleep"}, timeout=6.0)
        wait_until(lambda: len(c.lines()) == 3 and c.job(limited).state is State.RUNNING, 20)
        clocks.set("wall", jump)
        assert abs(float(run("-c", "import time; print(time.time())")) - time.time() - jump) < 60
        # A worker that starts now, and a job whose whole life is later.
        c.start(env=clocks.env)
        failing = c.submit("test-end", {"how": "error"})

        wait_until(lambda: c.store.attempts(limited)[0].ended_at, 20, "the time limit")
        [one] = c.store.attempts(limited)
        assert one.reason is not None
        assert one.reason.code is ReasonCode.TIMEOUT
        assert one.started_at is not None
        assert one.ended_at is not None
        assert 5.5 < one.ended_at - one.started_at < 8.5

        assert c.wait(failing).state is State.FAILED
        tries = c.store.attempts(failing)
        assert len(tries) == 3
        for earlier, later, least in zip(tries, tries[1:], (1.0, 2.0), strict=False):
            assert earlier.ended_at is not None
            assert later.started_at is not None
            assert least - 0.1 < later.started_at - earlier.ended_at < 2 * least + 3, "the backoff"

        # Three TTLs of both workers have gone by.
        assert len(c.store.attempts(held)) == 1
        assert len(c.workers()) == 2
        run("-m", "unjam.cli.main", "gc")
        assert c.store.get(failing) is not None, "ended seconds ago, not a month"
        (c.home / "ledger.go").touch()
        assert c.wait(held).state is State.SUCCEEDED
        assert len(c.store.attempts(held)) == 1
        assert sorted(c.lines()) == [f"u{n} attempt 1" for n in range(5)]
        assert abs(c.store.now() - time.time()) < 60


@pytest.mark.slow
def test_a_machine_that_slept_runs_its_jobs_again_from_their_units(tmp_path: Path) -> None:
    """Its clocks say that the leases ran out long ago: by then somebody else may have the jobs."""
    with crew_with_clocks(tmp_path) as (c, clocks, _run):
        held = units(c)
        wait_until(lambda: len(c.lines()) == 3, 20)
        clocks.set("boot", 5 * HOURS)
        wait_until(lambda: len(c.store.attempts(held)) == 2, 20, "the second attempt")
        (c.home / "ledger.go").touch()
        assert c.wait(held).state is State.SUCCEEDED
        first, second = c.store.attempts(held)
        assert first.reason is not None
        assert (first.reason.code, second.units_reused) == (ReasonCode.WORKER_LOST, 3)
        assert sorted(c.lines()) == [f"u{n} attempt {1 if n < 3 else 2}" for n in range(5)]
        assert len(c.workers()) == 1, c.log()
