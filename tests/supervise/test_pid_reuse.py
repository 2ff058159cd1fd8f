"""A number that was reused is nobody's business of ours (INV-STRANGER): the short form of reuse_table."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervise.reuse_table import read

SRC = Path(__file__).parents[2] / "src" / "unjam"
SIGNALS = re.compile(
    r"os\.kill\(|killpg\(|send_pidfd\(|pidfd_send_signal\(|\.send_signal\(|process\.(kill|terminate)\(\)"
)
KNOWN = {
    "supervise/linux.py": "the one call itself",
    "supervise/ward.py": "pidfd of its own child",
    "supervise/nsinit.py": "pidfd of its own child",
    "supervise/tree.py": "pidfd of a guardian, kept since it was announced",
    "supervise/pool.py": "pidfd of a guardian, kept since it was announced",
    "supervise/nursery.py": "pidfd of a zygote, kept since it was started",
    "supervise/kill.py": "own unreaped children",
    "supervise/keeper.py": "own unreaped child",
    "supervise/sweep.py": "pidfd, and the mark asked again after it was opened",
    "supervise/portable.py": "no pidfds there: a group whose leader is an unreaped child",
    "client/actions.py": "pidfd by stored identity",
    "client/local.py": "own unreaped child",
    "media/probe.py": "own unreaped child",
    "pipelines/tools.py": "own unreaped child",
    "worker/garbage.py": "signal 0: asks, and ends nobody",
}


ROUNDS = 5
"""On a busy machine the next process with a number may be born after the clock's next tick each time."""
ROOT = Path(__file__).parents[2]


def test_every_place_that_signals_is_known() -> None:
    """Who adds one says here why it cannot hit a stranger, and adds it to the table."""
    found = {str(p.relative_to(SRC)) for p in SRC.rglob("*.py") if SIGNALS.search(p.read_text())}
    assert found == KNOWN.keys()


@pytest.mark.root
def test_no_stranger_is_hit_and_the_naive_ways_hit_him(tmp_path: Path) -> None:
    trials = 6
    ticks = 0
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        # In a small process of its own: forks of one that has run a thousand tests take longer than a tick.
        program = "import sys, pathlib; from tests.supervise import reuse_table as t"
        program += "; t.table(int(sys.argv[1]), pathlib.Path(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", program, str(trials), str(folder)], check=True, cwd=ROOT)
        found, kept = read(folder)
        assert kept == trials
        ours = [one for one in found if one.ours]
        assert {one.name: (one.later, one.same_tick, one.wrong) for one in ours} == {
            one.name: (0, 0, []) for one in ours
        }
        [plain] = [one for one in found if one.name == "os.kill(stored pid)"]
        assert (plain.later, plain.same_tick) == (trials, trials)
        ticks += sum(one.ticks for one in ours)
        if ticks:
            return
    raise AssertionError("no reuse within one clock tick: nothing was tested")
