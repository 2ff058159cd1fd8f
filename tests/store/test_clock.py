"""The store's clock: the same for every process of a boot, and no jump of the wall clock moves it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.store.rig import ROOT, job, raw, take_one
from unjam.store import clock, open_store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/unjam.db"


def test_it_is_wall_time_at_first(url: str) -> None:
    store = open_store(url)
    assert store.now() == pytest.approx(time.time(), abs=2)
    store.close()


def test_a_jump_of_the_wall_clock_moves_nobody(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those who run nor those who start after it: leases neither expire early nor live on."""
    old = open_store(url)
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + 86_400)
    new = open_store(url)
    assert new.now() == pytest.approx(old.now(), abs=2)
    assert new.now() == pytest.approx(real(), abs=2)
    old.close()
    new.close()


def test_the_next_boot_asks_the_wall_clock_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(url).close()
    real = time.time
    monkeypatch.setattr(clock, "boot_id", lambda: "another boot")
    monkeypatch.setattr("time.time", lambda: real() + 86_400)
    store = open_store(url)
    assert store.now() == pytest.approx(real() + 86_400, abs=2)
    store.close()
    with raw(Path(url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("SELECT count(*) FROM meta").fetchone() == (1,)


def test_a_boot_whose_wall_clock_is_behind_does_not_put_jobs_off(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-LOST: a machine without a battery begins in 1970, and is told the time when the store is open."""
    store = open_store(url)
    store.submit(job())
    store.close()
    monkeypatch.setattr(clock, "boot_id", lambda: "another boot")
    monkeypatch.setattr("time.time", lambda: 60.0)
    store = open_store(url)
    assert take_one(store).job.id == "job-1"
    store.close()


def test_another_process_reads_the_same_time(url: str) -> None:
    store = open_store(url)
    program = "import sys; from unjam.store import open_store; print(open_store(sys.argv[1]).now())"
    before = store.now()
    told = float(subprocess.check_output([sys.executable, "-c", program, url], text=True, cwd=ROOT))
    assert before <= told <= store.now()
    store.close()


def test_without_a_boot_id_wall_time_has_to_do(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "no-such-file")
    store = open_store(url)
    assert store.now() == pytest.approx(time.time(), abs=2)
    store.close()


def test_it_runs_through_suspend() -> None:
    assert clock.since_boot() >= time.monotonic() - 1
