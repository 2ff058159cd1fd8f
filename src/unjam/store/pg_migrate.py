"""Brings a PostgreSQL schema to this version: numbered files in one transaction, one starter at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import psycopg

from unjam.errors import StoreUnavailable
from unjam.store.migrate import numbered
from unjam.store.pg_connect import Connection, Place

FOLDER = Path(__file__).parent / "migrations" / "postgres"
LOCK = 0x756E6A616D
"""Advisory lock of migrations; taken for one transaction, so that no starter can leave it held."""


def upgrade(connection: Connection, where: Place, folder: Path = FOLDER) -> None:
    """Apply the migrations that the schema lacks. Raises StoreUnavailable for a newer or a foreign one."""
    files = numbered(folder)
    if _version(connection, where, len(files)) == len(files):
        return
    # Somebody else may migrate for long; whoever waits for it must not be cut off.
    connection.silence = math.inf
    try:
        _upgrade(connection, where, files)
    finally:
        connection.silence = Connection.silence


def _upgrade(connection: Connection, where: Place, files: Sequence[Path]) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout TO 0; SET LOCAL lock_timeout TO 0", prepare=False)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        # Asked again under the lock: another starter may have done it meanwhile.
        version = _version(connection, where, len(files))
        if version == 0:
            if not _exists(connection, where):
                connection.execute(f"CREATE SCHEMA {where.schema}".encode())
            connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO schema_version (version) VALUES (0)")
        for file in files[version:]:
            connection.execute(file.read_bytes(), prepare=False)
        connection.execute("UPDATE schema_version SET version = %s", (len(files),))


def _exists(connection: Connection, where: Place) -> bool:
    return (
        connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (where.schema,)).fetchone()
        is not None
    )


def _version(connection: Connection, where: Place, known: int) -> int:
    try:
        with connection.transaction():
            row = connection.execute("SELECT version FROM schema_version").fetchone()
    except psycopg.errors.UndefinedTable:
        found = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s LIMIT 1", (where.schema,)
        ).fetchone()
        if found is not None:
            raise StoreUnavailable(
                f"the schema {where.schema} of {where.shown} holds the tables of another program "
                f"({found['tablename']}). Name another one: ?options=-csearch_path%3DNAME"
            ) from None
        return 0
    version: int = row["version"] if row is not None else 0
    if version > known:
        raise StoreUnavailable(
            f"the store {where.shown} has schema {version}, this unjam knows only {known}: "
            "it was used by a newer unjam. Install that version, or name another store"
        )
    return version
