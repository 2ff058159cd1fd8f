"""The judge of the torture sees every fault that it claims to count."""

from pathlib import Path

import pytest

from tests.torture import names
from tests.torture.ledger import Line, Pen, Reader, Verdict, judge

GOOD = """
begin t00001 1 -
work t00001 1 u0
seal t00001 1 u0
commit t00001 1 u0
work t00001 1 u1
begin t00002 1 -
begin t00001 2 -
kept t00001 2 u0
work t00001 2 u1
seal t00001 2 u1
commit t00001 2 u1
publish t00001 2 -
seen t00001 0 -
work t00002 1 u0
"""


def lines(text: str) -> list[Line]:
    rows = (row.split() for row in text.split("\n") if row)
    return [Line(kind, job, int(attempt), unit, 0.0) for kind, job, attempt, unit in rows]


def test_an_interrupted_and_continued_job_is_in_order() -> None:
    assert judge(lines(GOOD)) == Verdict()


@pytest.mark.parametrize(
    ("added", "kind", "sentence"),
    [
        ("commit t00001 2 u1", "doubled", "t00001 attempt 2: u1 committed, as by attempt 2"),
        ("begin t00001 3 -", "doubled", "t00001 attempt 3: began though the output was in place"),
        ("work t00001 2 u0", "redone", "t00001 attempt 2: u0 done again"),
        ("held t00002 1 u0\nwork t00002 1 u0", "redone", "t00002 attempt 1: u0 done again"),
        ("work t00001 1 u5", "overlaps", "t00001 attempt 1: work u5 after attempt 2 began"),
    ],
)
def test_each_fault_is_seen(added: str, kind: str, sentence: str) -> None:
    verdict = judge(lines(GOOD + added))
    assert getattr(verdict, kind) == [sentence]
    assert sum(len(found) for found in (verdict.doubled, verdict.redone, verdict.overlaps)) == 1


def test_what_a_job_writes_is_read_once_and_whole(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    assert reader.read() == []
    pen = Pen(tmp_path, "t00007", 3)
    pen.write("begin")
    pen.write("work", "u1")
    with open(tmp_path / "ledger", "a", encoding="ascii") as file:
        file.write("commit t00007 3 u")  # a line that is still being written
    pen.close()
    first = reader.read()
    assert [(line.kind, line.job, line.attempt, line.unit) for line in first] == [
        ("begin", "t00007", 3, "-"),
        ("work", "t00007", 3, "u1"),
    ]
    with open(tmp_path / "ledger", "a", encoding="ascii") as file:
        file.write("1 4.5\n")
    assert reader.read() == [Line("commit", "t00007", 3, "u1", 4.5)]


def test_a_leaf_tells_whose_it_is() -> None:
    token = names.token_of("04711815", names.job_id(42), 13)
    assert names.attempt_of_token("04711815", token) == "t00042/13"
    assert names.attempt_of_token("99999999", token) is None
