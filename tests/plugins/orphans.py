"""A test fails when a process that it started outlives it; the process is killed."""

import os
from collections.abc import Generator

import pytest

from tests.processes import Process, children_of, end_all
from tests.reaper import ENVIRONMENT_NAME

# What INV-ORPHAN grants: a tree that is being ended may take this long.
GRACE_SECONDS = 2.0

# Helpers of the standard library that live as long as pytest itself.
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

# What was there before the first test: pytest itself, below its reaper.
_siblings: set[Process] = set()

# Processes of fixtures that outlive one test: a database server, say.
_of_fixtures: set[Process] = set()


def _parents() -> set[int]:
    """Where orphans turn up: here, and at the reaper (see tests/reaper.py)."""
    parents = {os.getpid()}
    if os.environ.get(ENVIRONMENT_NAME) == str(os.getppid()):
        parents.add(os.getppid())
    return parents


def pytest_configure() -> None:
    _siblings.update(children_of(_parents()))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    if fixturedef.scope == "function":
        return (yield)
    before = children_of(_parents())
    try:
        return (yield)
    finally:
        _of_fixtures.update(children_of(_parents()) - before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    yield
    # After the last test the fixtures of every scope are torn down, so theirs must be gone too.
    spared = _siblings if nextitem is None else _siblings | _of_fixtures
    helpers = {p for p in children_of(_parents()) if any(name in p.command() for name in HELPERS)}
    late = end_all(_parents(), spared=spared | helpers, grace=GRACE_SECONDS)
    if late:
        names = "\n".join(f"  {process.pid}: {command}" for process, command in late.items())
        pytest.fail(f"left processes behind (now killed):\n{names}", pytrace=False)
