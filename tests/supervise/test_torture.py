"""Random kill -9 of every role at random moments, counted by the kernel (INV-ORPHAN)."""

import json
import subprocess
import sys
from typing import Any

import pytest

SECONDS = 14
CONTAINMENTS = ["tree", pytest.param("pidns", marks=pytest.mark.pidns)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


def kill_at_random(containment: str, targets: str) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "tests.supervise.killing_field", containment, targets, str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    score: dict[str, Any] = json.loads(run.stdout)
    print(score)
    assert score["trials"] >= 20, "too slow to say anything"
    assert score["leaves_at_kill"] > score["trials"], "most kills must find leaves"
    return score


@pytest.mark.parametrize("containment", CONTAINMENTS)
def test_one_death_leaves_no_orphan(containment: str) -> None:
    score = kill_at_random(containment, "one")
    assert len(score["kills"]) >= 3, "too few different roles were hit"
    assert score["dirty"] == 0, score["evidence"]


@pytest.mark.pidns
def test_with_a_namespace_a_total_kill_leaves_nothing() -> None:
    score = kill_at_random("pidns", "all")
    assert score["dirty"] == 0, score["evidence"]


def test_without_a_namespace_the_next_start_finds_what_a_total_kill_left() -> None:
    score = kill_at_random("tree", "all")
    assert score["dirty"] > 0, "nothing was left to find: this test tested nothing"
    assert score["left_after_sweep"] == 0, score["evidence"]
