"""What the documents say is what the code does."""

import re

from tests.helpers import ROOT
from unjam.client.waits import Cause
from unjam.jobs.lifecycle import TRANSITIONS
from unjam.jobs.states import State


def test_the_drawing_of_a_jobs_life_is_the_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.findall(r"^    (\w+) --> (\w+)", text, re.MULTILINE)
    assert {(State(a), State(b)) for a, b in drawn} == TRANSITIONS


def test_every_cause_of_a_wait_is_explained() -> None:
    _, table = (ROOT / "docs" / "verbs.md").read_text().split("| cause |")
    rows = re.findall(r"^\| (`\w+`(?: `\w+`)*) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"\w+", row)} == {cause.value for cause in Cause}


def test_every_promise_has_code_that_keeps_it_and_a_test_that_attacks_it() -> None:
    promised = set(
        re.findall(r"^\| (INV-[A-Z]+) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    )
    assert len(promised) == 13
    for folder in ("src", "tests"):
        text = "\n".join(
            p.read_text() for p in sorted((ROOT / folder).rglob("*.py")) if p.name != "test_docs.py"
        )
        assert promised - set(re.findall(r"INV-[A-Z]+", text)) == set(), folder
