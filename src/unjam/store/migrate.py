"""Brings a SQLite file to the schema of this version: numbered files, one transaction, a backup first."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from unjam.errors import StoreUnavailable

APPLICATION_ID = 0x756E6A6D
"""`unjm` in the header of the file: it tells our files from those of other programs."""
FOLDER = Path(__file__).parent / "migrations"


def missing(connection: sqlite3.Connection, path: str, folder: Path = FOLDER) -> int:
    """How many migrations the file lacks; only reads. Raises StoreUnavailable like `upgrade`."""
    return _needed(connection, path, numbered(folder))


def upgrade(connection: sqlite3.Connection, path: str, folder: Path = FOLDER) -> None:
    """Apply the migrations the file lacks. Raises StoreUnavailable for a file that is newer or not ours."""
    files = numbered(folder)
    if _needed(connection, path, files) == 0:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another starter may have done it meanwhile.
        missing = _needed(connection, path, files)
        version = len(files) - missing
        if missing and version:
            # The lock is held, so the copy is the last state of the old schema.
            other = sqlite3.connect(path, isolation_level=None)
            try:
                copy(other, f"{path}.schema{version}.backup")
            finally:
                other.close()
        for number, file in enumerate(files[version:], version + 1):
            for statement in _statements(file.read_text(encoding="utf-8")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def copy(connection: sqlite3.Connection, path: str) -> None:
    """Copy the database to `path`, private, whole and on disk before it has that name."""
    partial = f"{path}.part"
    Path(partial).unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    target = sqlite3.connect(partial)
    try:
        connection.backup(target)
        # Opening a copy in WAL mode would leave files beside it.
        target.execute("PRAGMA journal_mode = DELETE")
    finally:
        target.close()
    _sync(partial)
    Path(partial).replace(path)
    _sync(str(Path(path).parent))


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def numbered(folder: Path) -> list[Path]:
    """The migrations of a folder in their order. Raises StoreUnavailable where one is missing."""
    files = sorted(folder.glob("[0-9]*.sql"))
    numbers = [int(file.name.split("_")[0]) for file in files]
    if numbers != list(range(1, len(files) + 1)):
        raise StoreUnavailable(
            f"the migrations in {folder} are not numbered 1, 2, 3: {numbers}. Install unjam again"
        )
    return files


def _needed(connection: sqlite3.Connection, path: str, files: Sequence[Path]) -> int:
    version, application = _pragma(connection, "user_version"), _pragma(connection, "application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreUnavailable(f"{path} is a database of another program. Name another store")
    if version > len(files):
        raise StoreUnavailable(
            f"the store {path} has schema {version}, this unjam knows only {len(files)}: "
            "it was used by a newer unjam. Install that version, or name another store"
        )
    return len(files) - version


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _statements(text: str) -> Iterator[str]:
    """One statement at a time: executescript() would commit our transaction before the first one."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise StoreUnavailable(f"a migration ends inside a statement: {statement.strip()[:60]!r}")
