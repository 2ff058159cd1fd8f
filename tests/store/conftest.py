"""The contract of the store runs over every backend: contract_*.py are tests too."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Server
from tests.store.rig import Backend, Clock, PostgresBackend, SqliteBackend
from unjam.store import Store

# contract_*.py does not match the usual names: collected and given readable assertions here.
pytest.register_assert_rewrite(
    *(f"tests.store.{file.stem}" for file in Path(__file__).parent.glob("contract_*.py"))
)

_numbers = itertools.count()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    # Named on the command line, pytest takes it by itself.
    named = parent.session.isinitpath(file_path)
    if file_path.name.startswith("contract_") and file_path.suffix == ".py" and not named:
        return pytest.Module.from_parent(parent, path=file_path)
    return None


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "sqlite":
        return SqliteBackend(tmp_path / "unjam.db")
    server: Server = request.getfixturevalue("postgres_server")
    return PostgresBackend(server, f"s{next(_numbers)}")


@pytest.fixture
def clock(backend: Backend) -> Clock:
    return backend.clock


@pytest.fixture
def store(backend: Backend) -> Iterator[Store]:
    """An open store; at the end of every test it must be free of contradictions."""
    store = backend.open()
    yield store
    assert store.check() == []
    store.close()
