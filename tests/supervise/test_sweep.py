"""The mark that survives everything, and the sweep that finds it after all of us died."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.helpers import process_alive, wait_until
from tests.torture import leaves
from unjam.supervise import linux
from unjam.supervise.mark import get_mark, new_mark
from unjam.supervise.sweep import living_marks, marked_processes, sweep

GROW = """
import sys
from tests.torture import leaves
from unjam.supervise.mark import set_mark
assert set_mark(int(sys.argv[1]))
leaves.grow(sys.argv[2], 0.003)
"""


def escape(mark: int, token: str) -> None:
    """A marked tree whose top is gone: what is left when everything of ours was killed at once."""
    subprocess.run([sys.executable, "-c", GROW, str(mark), token], check=True, cwd=os.getcwd())
    wait_until(lambda: len(leaves.alive(token)) == leaves.COUNT - 1, what="four sleepers")


@pytest.fixture
def mark() -> Iterator[int]:
    one = new_mark(3)
    yield one
    sweep([one])


@pytest.fixture
def other_mark() -> Iterator[int]:
    one = new_mark(3)
    yield one
    sweep([one])


def test_marks_differ_and_name_their_installation() -> None:
    marks = {new_mark(5) for _ in range(1000)}
    assert len(marks) == 1000
    assert {mark >> 45 & 0xFFFF for mark in marks} == {5}
    assert all(1 << 61 <= mark < 1 << 62 for mark in marks)


def test_nobody_is_looked_at_for_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every start where nobody had died comes by here; of thousands of processes a look at all takes long."""
    looks: list[None] = []
    look = linux.all_pids

    def counted() -> list[int]:
        looks.append(None)
        return look()

    monkeypatch.setattr(linux, "all_pids", counted)
    assert living_marks([]) == set()
    assert looks == []
    assert living_marks([new_mark(3)]) == set()
    assert looks == [None]


def test_an_unmarked_process_has_no_mark() -> None:
    assert get_mark(os.getpid()) is None
    assert get_mark(2**22 + 1) is None


def test_the_mark_survives_sessions_double_forks_and_scrubbing(mark: int) -> None:
    escape(mark, token := f"{os.getpid()}1")
    assert set(leaves.alive(token)) <= set(marked_processes(mark))


def test_a_sweep_ends_all_and_spares_the_living_incarnation(mark: int, other_mark: int) -> None:
    """INV-STRANGER: a second worker of the same installation on the same machine keeps its tree."""
    escape(mark, doomed := f"{os.getpid()}2")
    escape(other_mark, spared := f"{os.getpid()}3")
    report = sweep([mark])
    assert report.left == ()
    assert report.killed >= leaves.COUNT
    assert leaves.alive(doomed) == []
    assert marked_processes(mark) == []
    assert len(leaves.alive(spared)) == leaves.COUNT - 1
    assert all(process_alive(pid) for pid in leaves.alive(spared))


def test_a_sweep_for_nobody_kills_nobody(mark: int) -> None:
    escape(mark, token := f"{os.getpid()}4")
    assert sweep([]).killed == 0
    assert sweep([new_mark(3)]).killed == 0
    assert len(leaves.alive(token)) == leaves.COUNT - 1
