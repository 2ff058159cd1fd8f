"""kill -9 of the worker at every named point of an attempt's life; then the promises are checked on disk."""

import os
import signal
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from tests.worker.crew import Crew, crew
from unjam.jobs.model import State
from unjam.supervise.faults import OWNERS, VARIABLE

POINTS = [point for point, owner in OWNERS.items() if owner == "worker"]


def hold(folder: Path, point: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / point).touch()


def held_pid(folder: Path, point: str) -> int | None:
    found = [p for p in folder.iterdir() if p.name.startswith(f"{point}.at.")]
    return int(found[0].name.rsplit(".", 1)[1]) if found else None


def check_promises(c: Crew, job_id: str, output: Path) -> None:
    """INV-LOST, INV-TORN, INV-KEEP, INV-LOCK: judged by files, by the store only where files cannot tell."""
    assert c.job(job_id).state is State.SUCCEEDED
    assert output.read_bytes() == b"0\n1\n2\n"
    names = [line.split()[0] for line in c.lines()]
    # A unit whose commit was in the store when its worker died was not yet written to the ledger.
    assert len(names) == len(set(names)), names
    assert sorted(p.name for p in output.parent.iterdir()) == ["result.txt", "result.txt.unjam.json"]
    assert c.store.live_jobs() == []
    events = c.store.events_since(0, job_ids=[job_id])
    assert sum(1 for e in events if e.state_to is State.SUCCEEDED) == 1


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(tmp_path: Path, point: str) -> None:
    faults, output = tmp_path / "faults", tmp_path / "out" / "result.txt"
    with crew(tmp_path / "home") as c:
        hold(faults, point)
        c.start(env={VARIABLE: str(faults)})
        params = {"ledger": str(c.ledger), "count": 3}
        job_id = c.submit("test-units", params, output=output)
        pid = wait_until(lambda: held_pid(faults, point), 20, f"the worker at {point}") or 0
        guardians = [a.pid for a in c.store.attempts(job_id) if a.pid]
        os.kill(pid, signal.SIGKILL)
        (faults / point).unlink()
        wait_until(lambda: not any(process_alive(g) for g in guardians), 2, "INV-ORPHAN")
        c.wait(job_id)
        # The end is in the store before the worker removes the job's work folder.
        wait_until(lambda: not (c.settings.work_root / job_id).exists() or point == "ended", 5)
        check_promises(c, job_id, output)
