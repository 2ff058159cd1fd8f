"""kill -9 of every role at every point of an attempt's life: the full product; and that its judge can see."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.torture.ledger import Pen
from tests.worker.crew import Crew, crew
from tests.worker.fault_cells import CONTAINMENTS, STORES, VOLLEYS, cells_of, full_product, run_volley
from tests.worker.fault_promises import judge
from unjam.supervise.faults import OWNERS, POINTS
from unjam.supervise.mark import new_mark

JOB = "j00abcdef"
MARKED = """
import sys, time
from unjam.supervise.mark import set_mark
print(set_mark(int(sys.argv[1])), flush=True)
time.sleep(60)
"""
SRC = Path(__file__).parents[2] / "src" / "unjam"
PRODUCT = [
    pytest.param(store, kind, volley, marks=pytest.mark.root if kind == "pidns" else ())
    for store in STORES
    for kind in CONTAINMENTS
    for volley in VOLLEYS
    if cells_of(store, kind, volley)
]


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize(("store", "containment", "volley"), PRODUCT)
def test_killed_there(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    store: str,
    containment: str,
    volley: str,
) -> None:
    """INV-LOST, INV-ONCE, INV-FENCE, INV-ORPHAN, INV-TORN, INV-KEEP, INV-LOCK, INV-TRUTH."""
    url = f"sqlite:///{tmp_path / 'unjam.db'}"
    if store == "postgres":
        url = request.getfixturevalue("postgres_server").url(f"cells_{containment}_{volley}")
    result = run_volley(tmp_path / "volley", store, url, containment, volley)
    record_property("fault cells", len(result.cells))
    assert result.faults == []
    assert result.cells == cells_of(store, containment, volley)


def test_no_cell_is_dropped() -> None:
    """Every point is in the code, every role dies at every point where it exists, on both stores."""
    passed = r'(?:\.reach|\.pass_by|\._pass_by|passed)\("(\w+)"|: "(\w+)"'
    found = {
        a or b
        for p in SRC.rglob("*.py")
        if p.name != "faults.py"
        for a, b in re.findall(passed, p.read_text())
    }
    assert set(POINTS) <= found
    product = full_product()
    assert len(product) == len(set(product)) == 474
    assert {cell for p in PRODUCT for cell in cells_of(*map(str, p.values))} == set(product)
    for owner in set(OWNERS.values()):
        roles = {owner, "keeper", "worker", "zygote", "all"}
        points = {point for point in POINTS if OWNERS[point] == owner}
        assert {(c.role, c.point) for c in product} >= {(role, point) for role in roles for point in points}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Crew, Path]]:
    """A crew that has done one job well and ended, and the output folder."""
    folder = tmp_path_factory.mktemp("finished")
    out = folder / "out"
    out.mkdir()
    with crew(folder / "home", pipelines=("tests.worker.fault_recipes",)) as c:
        c.start()
        params = {"folder": str(c.home), "token": f"{os.getpid()}77"}
        c.wait(c.submit("test-steps", params, id=JOB, output=out / f"{JOB}.txt"))
        c.stop()
        assert judge(c, out, {JOB: {1}}, set(), set()) == []
        yield c, out


def told(c: Crew, out: Path, *marks: int, attempts: int = 1) -> str:
    return "\n".join(judge(c, out, {JOB: {attempts}}, set(marks), set()))


def test_the_judge_sees_wrong_files_and_living_processes(finished: tuple[Crew, Path]) -> None:
    c, out = finished
    assert "1 attempts, not {2}" in told(c, out, attempts=2)
    output = out / f"{JOB}.txt"
    whole = output.read_bytes()
    output.write_bytes(whole[:-1])
    assert "INV-TORN" in told(c, out)
    output.write_bytes(whole)
    for stray in (out / ".unjam-part", c.settings.work_root / JOB, c.home / "run" / "socket"):
        stray.mkdir(parents=True)
        assert stray.name in told(c, out)
        if stray.exists():
            stray.rmdir()
    mark = new_mark(7)
    left = subprocess.Popen([sys.executable, "-c", MARKED, str(mark)], stdout=subprocess.PIPE)
    with left:
        assert left.stdout is not None
        left.stdout.readline()
        assert f"{left.pid} python" in told(c, out, mark)
        left.kill()
    assert told(c, out, mark) == ""


@pytest.mark.parametrize(
    ("statement", "sign"),
    [
        ("UPDATE event SET state_from = 'paused' WHERE kind = 'claimed'", "INV-TRUTH"),
        ("DELETE FROM event WHERE kind = 'claimed'", "INV-TRUTH"),
        ("UPDATE event SET attempt = 0 WHERE kind = 'publishing'", "INV-FENCE"),
        ("UPDATE event SET data = '{\"unit\":\"u0\"}' WHERE kind = 'unit_committed'", "committed twice"),
        ("UPDATE event SET kind = 'units_voided' WHERE kind = 'unit_committed'", "INV-KEEP"),
        (
            "UPDATE attempt SET ended_at = NULL, reason_code = NULL, reason_message = NULL, "
            "state = 'running'",
            "has no end",
        ),
        ("UPDATE attempt SET state = 'failed'", "INV-ONCE"),
        ("DELETE FROM artifact", "artifacts []"),
        ("UPDATE job SET state = 'failed', reason_code = 'crashed', reason_message = ''", "INV-LOST"),
    ],
)
def test_the_judge_sees_a_wrong_history(
    finished: tuple[Crew, Path], tmp_path: Path, statement: str, sign: str
) -> None:
    """Written straight into the database, as no call of the store could."""
    c, out = finished
    shutil.copytree(c.home, tmp_path / "home")
    database = sqlite3.connect(tmp_path / "home" / "unjam.db")
    assert database.execute(statement).rowcount > 0
    database.commit()
    database.close()
    with crew(tmp_path / "home", pipelines=("tests.worker.fault_recipes",)) as spoiled:
        assert sign in told(spoiled, out)


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        (("work", "u0", 2), "done again"),
        (("commit", "u0", 2), "as by attempt 1"),
        (("seal", "u9", 0), "overlap"),
    ],
)
def test_the_judge_reads_the_ledger(
    finished: tuple[Crew, Path], tmp_path: Path, line: tuple[str, str, int], sign: str
) -> None:
    c, out = finished
    shutil.copytree(c.home, tmp_path / "home")
    kind, unit, attempt = line
    pen = Pen(tmp_path / "home", JOB, attempt)
    pen.write(kind, unit)
    pen.close()
    with crew(tmp_path / "home", pipelines=("tests.worker.fault_recipes",)) as spoiled:
        assert ("after attempt 1 began" if sign == "overlap" else sign) in told(spoiled, out)
