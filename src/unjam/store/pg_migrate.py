"""Brings a PostgreSQL schema to this version: numbered files in one transaction, one starter at a time.

And its events to this server, where they come from another one by a dump.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from unjam.errors import StoreUnavailable
from unjam.store.migrate import numbered
from unjam.store.pg_connect import Connection, Place

FOLDER = Path(__file__).parent / "migrations" / "postgres"
LOCK = 0x756E6A616D
"""Advisory lock of migrations; taken for one transaction, so that no starter can leave it held."""
_FOREIGN = b"""
SELECT max(id) >> 20 >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS found FROM event
"""
_RENUMBER = b"""
UPDATE event
SET id = -new.number
FROM (
    SELECT id, row_number() OVER (
        ORDER BY id >> 20 < pg_snapshot_xmax(pg_current_snapshot())::text::bigint, id
    ) AS number
    FROM event
) AS new
WHERE event.id = new.id
"""


def upgrade(connection: Connection, where: Place, folder: Path = FOLDER) -> None:
    """Apply the migrations that the schema lacks. Raises StoreUnavailable for a newer or a foreign one."""
    files = numbered(folder)
    if _version(connection, where, len(files)) == len(files):
        return
    with _locked(connection):
        _upgrade(connection, where, files)


def adopt_events(connection: Connection) -> None:
    """Give the events of a dump numbers of this server. Theirs begin with transactions of the old one, which
    this one may not have had yet: it would count them as not written yet, and show none of the history."""
    if not _has_foreign(connection):
        return
    with _locked(connection):
        connection.execute(b"LOCK TABLE event IN SHARE ROW EXCLUSIVE MODE")
        if _has_foreign(connection):
            # In two steps: a number may be another one's until that has its own.
            connection.execute(_RENUMBER, prepare=False)
            connection.execute(b"UPDATE event SET id = -id", prepare=False)


def _has_foreign(connection: Connection) -> bool:
    row = connection.execute(_FOREIGN, prepare=False).fetchone()
    return row is not None and bool(row["found"])


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    """A transaction of one starter at a time, which may take long."""
    # Somebody else may migrate for long; whoever waits for it must not be cut off.
    connection.silence = math.inf
    try:
        with connection.transaction():
            connection.execute("SET LOCAL statement_timeout TO 0; SET LOCAL lock_timeout TO 0", prepare=False)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            yield
    finally:
        connection.silence = Connection.silence


def _upgrade(connection: Connection, where: Place, files: Sequence[Path]) -> None:
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
