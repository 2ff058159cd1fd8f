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
_free: list[str] = []
"""Schemas that no test uses now."""


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    # Named on the command line, pytest takes it by itself.
    named = parent.session.isinitpath(file_path)
    if file_path.name.startswith("contract_") and file_path.suffix == ".py" and not named:
        return pytest.Module.from_parent(parent, path=file_path)
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Where single calls are looked at, a third kind loses its connection at every second commit: nobody may
    notice. Real processes race over real databases only."""
    module = metafunc.module.__name__.rpartition(".")[2]
    if "backend" in metafunc.fixturenames and module.startswith("contract_"):
        calls = module.removeprefix("contract_") in ("claim", "end", "submit", "work")
        kinds = ["sqlite", "postgres", *(["flaky"] if calls else [])]
        metafunc.parametrize("backend", kinds, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "sqlite":
        yield SqliteBackend(tmp_path / "unjam.db")
        return
    server: Server = request.getfixturevalue("postgres_server")
    schema = _free.pop() if _free else f"s{next(_numbers)}"
    backend = PostgresBackend(server, schema, flaky=request.param == "flaky")
    yield backend
    backend.clear()
    _free.append(schema)


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
