"""Any sequence of calls by several workers and people: the store says and holds what the model does.

Long form: UNJAM_TEST_EXAMPLES=2000 pytest tests/store/test_model.py
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.postgres import Server
from tests.store.rig import Backend, PostgresBackend, SqliteBackend
from tests.store.rules import StoreMachine

EXAMPLES = int(os.environ.get("UNJAM_TEST_EXAMPLES", "0"))


def run(backends: Callable[[], Backend], examples: int) -> None:
    """The same examples each time, unless many are asked for."""

    class Fresh(StoreMachine):
        def __init__(self) -> None:
            super().__init__(backends())

    run_state_machine_as_test(
        Fresh,
        settings=settings(
            max_examples=EXAMPLES or examples,
            stateful_step_count=50 if EXAMPLES else 40,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            print_blob=bool(EXAMPLES),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a folder: some thousand transactions, each of them fsynced."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="unjam-model-", dir=memory))
    yield made
    shutil.rmtree(made)


@pytest.mark.slow
@pytest.mark.timeout(36_000 if EXAMPLES else 120)
def test_sqlite_does_what_the_model_says(folder: Path) -> None:
    def fresh() -> Backend:
        shutil.rmtree(folder)
        folder.mkdir()
        return SqliteBackend(folder / "unjam.db")

    run(fresh, 200)


@pytest.mark.slow
@pytest.mark.timeout(36_000 if EXAMPLES else 120)
def test_postgresql_does_what_the_model_says(postgres_server: Server) -> None:
    PostgresBackend(postgres_server, "model").open().close()

    def fresh() -> Backend:
        backend = PostgresBackend(postgres_server, "model")
        backend.clear()
        return backend

    run(fresh, 30)
