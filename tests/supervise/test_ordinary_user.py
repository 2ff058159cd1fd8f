"""What the tests of PID namespaces show as root, they show as an ordinary user too: run again as one.

He gets a copy of the program, since the checkout and Python itself may lie where only root may enter.
"""

import json
import os
import re
import sys
from collections.abc import Iterator

import pytest

from tests.torture.other_user import ProgramCopy, user_namespaces_work

UID = 65534
SOURCES = ("pyproject.toml", "src/unjam", "tests")
GROUP = 4242
AT_LEAST = 45
"""Tests that must have run: else it was another selection."""

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.fixture(scope="module")
def copy() -> Iterator[ProgramCopy]:
    if not user_namespaces_work(UID):
        pytest.skip("no PID namespace here: unshare(1) gets none for an ordinary user")
    one = ProgramCopy(UID, SOURCES)
    yield one
    one.close()


@pytest.mark.timeout(300)
def test_everything_about_pid_namespaces_as_an_ordinary_user(copy: ProgramCopy) -> None:
    process = copy.start(
        "-m", "pytest", "-q", "-m", "pidns", "-p", "no:cacheprovider", "tests/supervise",
        "-k", "not one_death",  # a long one; what all deaths at once leave is the question here
        f"--basetemp={copy.home}/tmp",
    )  # fmt: skip
    try:
        told, _ = process.communicate(timeout=280)
    finally:
        process.kill()
        process.wait()
    sys.stdout.write(told)
    assert process.returncode == 0
    summary = told.splitlines()[-1]
    assert "skipped" not in summary
    passed = re.search(r"(\d+) passed", summary)
    assert passed is not None
    assert int(passed[1]) >= AT_LEAST


def test_what_his_groups_let_him_read_he_reads_inside_too(copy: ProgramCopy) -> None:
    """They stay in force, though their numbers cannot be seen there any more."""
    secret, made = copy.folder / "secret", copy.home / "made"
    secret.write_text("for the group")
    secret.chmod(0o640)
    os.chown(secret, 0, GROUP)
    process = copy.start("-c", _IN_GROUP, str(copy.home), str(secret), str(made), groups=[GROUP])
    try:
        told, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, told
    facts = json.loads(told)
    assert (facts["read"], facts["groups"]) == ("for the group", [65534])
    assert (made.stat().st_uid, made.stat().st_gid) == (UID, UID)


_IN_GROUP = """
import math, pathlib, sys
from tests.supervise.rig import hear, launcher, run, spec

home, secret, made = map(pathlib.Path, sys.argv[1:])

async def scenario():
    async with launcher() as one:
        payload = {"path": str(made), "secret": str(secret)}
        tree = await one.launch(spec(home, "who_am_i", payload=payload, containment="pidns"))
        tree.go(math.inf)
        print((await hear(tree)).decode())
        assert (await tree.done()).exit_code == 0

run(scenario)
"""
