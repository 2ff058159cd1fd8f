"""What a tree uses: everybody in it counts, whoever came since the last look too."""

import math
import os
import signal
import subprocess
from pathlib import Path

from tests.supervise.rig import in_subreaper, launcher, run, spec
from unjam.supervise import linux
from unjam.supervise.launch import Usage
from unjam.supervise.usage import TreeUsage

SLEEPER = ["sleep", "600"]


def test_whoever_is_born_between_two_looks_is_seen_and_whoever_died_is_not() -> None:
    def life() -> None:
        usage = TreeUsage(os.getpid())
        assert usage.sample().processes == 0
        first = subprocess.Popen(SLEEPER)
        assert usage.sample().processes == 1
        assert usage.sample().processes == 1
        nested = subprocess.Popen(["sh", "-c", "sleep 600 & echo; wait"], stdout=subprocess.PIPE)
        assert nested.stdout is not None
        nested.stdout.readline()
        assert usage.sample().processes == 3
        first.kill()
        assert first.wait() < 0
        assert usage.sample().processes == 2
        nested.kill()
        nested.wait()
        assert usage.sample().processes == 1, "its child came to us"
        (left,) = linux.children()
        os.kill(left, signal.SIGKILL)
        os.waitpid(left, 0)

    in_subreaper(life)


def test_every_birth_is_seen_by_the_last_number() -> None:
    before = linux.last_born()
    child = subprocess.Popen(["true"])
    assert linux.last_born() != before
    child.wait()


def test_a_tree_without_births_is_not_searched_for() -> None:
    """Where the kernel has no lists of children that is a look at every process of the machine."""

    def life() -> None:
        sleepers = [subprocess.Popen(SLEEPER) for _ in range(3)]
        usage = TreeUsage(os.getpid())
        for _ in range(200):  # others may start something meanwhile
            born = linux.last_born()
            usage.sample()
            found = usage._pids
            usage.sample()
            if linux.last_born() == born:
                assert usage._pids is found
                break
        else:
            raise AssertionError("this machine starts processes all the time")
        for one in sleepers:
            one.kill()
            one.wait()

    in_subreaper(life)


def test_what_uses_the_same_says_so_once(tmp_path: Path) -> None:
    """A message costs its guardian and its worker a fifth of a millisecond each."""

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "sleep", payload={"seconds": 4.6}))
            seen: list[Usage] = []
            tree.on_usage = seen.append
            tree.go(math.inf)
            await tree.done()
            figures = [(u.cpu_seconds, u.rss_bytes, u.processes) for u in seen]
            assert figures[-2:-1] == figures[-1:], "that it used nothing is told"
            assert all(figures[i] != figures[i + 2] for i in range(len(figures) - 2)), figures

    run(scenario)
