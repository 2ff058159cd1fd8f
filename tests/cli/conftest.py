"""A terminal for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.shell import Shell


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path) as made:
        yield made
