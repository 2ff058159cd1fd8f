"""The short form of `python -m tests.e2e.kill_convert`: every run whole, whoever was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS = 3
SEED = 3


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_conversion_killed_again_and_again_is_the_one_nobody_touched(tmp_path: Path) -> None:
    """INV-KEEP, INV-ORPHAN, INV-TORN. A process of its own: orphans must come to the one that counts them."""
    words = ["--runs", str(RUNS), "--seed", str(SEED), "--folder", str(tmp_path / "runs")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.kill_convert", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.count("  ok\n") == RUNS
