"""The schema moves forward only, whole, once, and with a way back."""

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.rig import ROOT, SqliteBackend, job, raw
from unjam.errors import StoreUnavailable
from unjam.store.migrate import FOLDER, upgrade
from unjam.store.sqlite import SqliteDatabase


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path / "unjam.db")


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The migrations of a later unjam: today's and two more."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for file in FOLDER.glob("*.sql"):
        (folder / file.name).write_text(file.read_text())
    number = len(list(FOLDER.glob("*.sql")))
    (folder / f"{number + 1:04}_colour.sql").write_text("ALTER TABLE job ADD COLUMN colour TEXT;\n")
    (folder / f"{number + 2:04}_paint.sql").write_text(
        "-- A semicolon; here.\nUPDATE job SET colour = 'a;b';\n"
    )
    return folder


def version(path: Path) -> int:
    with raw(path) as connection:
        number: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return number


def bring_to(path: Path, folder: Path) -> None:
    with raw(path) as connection:
        upgrade(connection, str(path), folder)


def test_a_new_file_gets_the_schema_and_no_backup(sqlite: SqliteBackend) -> None:
    sqlite.open().close()
    assert version(sqlite.path) == len(list(FOLDER.glob("*.sql")))
    assert [file.name for file in sqlite.path.parent.iterdir()] == ["unjam.db"]


def test_opening_again_changes_nothing(sqlite: SqliteBackend) -> None:
    store = sqlite.open()
    store.submit(job())
    store.close()
    before = sqlite.dump()
    sqlite.open().close()
    assert sqlite.dump() == before


def test_an_older_file_is_backed_up_and_brought_forward(sqlite: SqliteBackend, later: Path) -> None:
    store = sqlite.open()
    store.submit(job())
    store.close()
    old = version(sqlite.path)
    bring_to(sqlite.path, later)
    assert version(sqlite.path) == old + 2
    with raw(sqlite.path) as connection:
        assert connection.execute("SELECT id, colour FROM job").fetchall() == [("job-1", "a;b")]
    backup = sqlite.path.with_name(f"unjam.db.schema{old}.backup")
    assert stat.S_IMODE(os.stat(backup).st_mode) == 0o600
    kept = SqliteBackend(backup).open()
    assert kept.get("job-1") is not None
    assert kept.check() == []
    kept.close()


def test_a_newer_file_is_refused_and_left_as_it_is(sqlite: SqliteBackend, later: Path) -> None:
    sqlite.open().close()
    bring_to(sqlite.path, later)
    before = sqlite.path.read_bytes()
    with pytest.raises(
        StoreUnavailable, match=r"schema \d+, this unjam knows only \d+: it was used by a newer unjam"
    ):
        sqlite.open()
    assert sqlite.path.read_bytes() == before


def test_a_migration_that_fails_changes_nothing(sqlite: SqliteBackend, later: Path) -> None:
    store = sqlite.open()
    store.submit(job())
    store.close()
    before, old = sqlite.dump(), version(sqlite.path)
    broken = sorted(later.glob("*.sql"))[-1]
    broken.write_text("UPDATE job SET state = 'queued';\nUPDATE no_such_table SET x = 1;\n")
    with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
        bring_to(sqlite.path, later)
    assert (sqlite.dump(), version(sqlite.path)) == (before, old)
    sqlite.open().close()


@pytest.mark.parametrize("text", ["UPDATE job SET run_at = 0;\nUPDATE job SET", "SELECT 'open"])
def test_a_half_statement_is_an_error(sqlite: SqliteBackend, later: Path, text: str) -> None:
    sqlite.open().close()
    sorted(later.glob("*.sql"))[-1].write_text(text)
    with pytest.raises(StoreUnavailable, match="ends inside a statement"):
        bring_to(sqlite.path, later)


def test_a_missing_number_is_an_error(sqlite: SqliteBackend, later: Path) -> None:
    sorted(later.glob("*.sql"))[0].unlink()
    with pytest.raises(StoreUnavailable, match="not numbered"):
        bring_to(sqlite.path, later)


def test_many_starters_at_once_make_one_store(sqlite: SqliteBackend) -> None:
    program = """
import sys
from unjam.store import open_store
print("ready", flush=True); sys.stdin.readline()
open_store(sys.argv[1]).close()
"""
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", program, sqlite.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for _ in range(4)
    ]
    try:
        for starter in starters:
            assert starter.stdout is not None
            starter.stdout.readline()
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.close()
        assert [starter.wait(timeout=30) for starter in starters] == [0] * 4
    finally:
        for starter in starters:
            starter.kill()
            starter.wait()
            assert starter.stdout is not None
            starter.stdout.close()
    with raw(sqlite.path) as connection:
        assert connection.execute("SELECT count(*) FROM meta").fetchone() == (1,)
    assert [file.name for file in sqlite.path.parent.iterdir()] == ["unjam.db"]


def test_a_starter_that_waited_sees_the_work_done(sqlite: SqliteBackend, later: Path) -> None:
    """The second of two upgraders finds under the lock that nothing is left to do, and makes no backup of the
    new schema under the old one's name."""
    sqlite.open().close()
    bring_to(sqlite.path, later)
    (backup,) = sqlite.path.parent.glob("*.backup")
    kept = backup.read_bytes()
    bring_to(sqlite.path, later)
    assert [file.name for file in sqlite.path.parent.glob("*.backup")] == [backup.name]
    assert backup.read_bytes() == kept


def test_an_old_sqlite_is_refused(sqlite: SqliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 36, 0))
    with pytest.raises(StoreUnavailable, match=r"too old: unjam needs 3\.37"):
        SqliteDatabase(str(sqlite.path))
