"""Connections to PostgreSQL: a lost peer is noticed on either side, and nothing stays open for it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from unjam.errors import DiskFull, StoreUnavailable, UsageError
from unjam.store.again import Again
from unjam.store.database import NotUnique
from unjam.store.url import shown

OLDEST = 13
"""Tells what became of a transaction whose commit was not answered; on Debian since 2021."""
SCHEMA = "unjam"
"""Ours in a database that others may use too; `?options=-csearch_path%3DNAME` in the URL names another."""
STATEMENT_TIMEOUT = 30
LOCK_TIMEOUT = 4
"""Less than an outage (`pg_clock.OUTAGE`): a worker that waits in a line for a row must not take that for a
server that was away, or it would not reap for as long as somebody is in its way (INV-LOST). The call is made
again, for longer than IDLE_TIMEOUT in all."""
IDLE_TIMEOUT = 10
"""Seconds that a transaction of a worker that was cut off may hold its rows (by keepalives alone: 11 s;
with the defaults of Linux two hours)."""
SILENCE = STATEMENT_TIMEOUT + 5.0
"""Seconds without a byte from a server that owes an answer. It ends its statements itself before that, so it
is frozen then (stopped, swapping, its disk hangs) while its kernel still acknowledges all that we send: no
keepalive sees that."""
_LINK: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "unjam",
}
_WANTED_PATH = re.compile(r"search_path\s*=\s*\"?([\w]+)")

T = TypeVar("T")

# It warns of a pipeline that ends with an error: whoever made the call is told that, in our words.
logging.getLogger("psycopg").setLevel(logging.ERROR)


class Connection(psycopg.Connection[DictRow]):
    """A connection whose every answer is waited for within bounds."""

    silence: float = SILENCE

    def wait(self, gen: Generator[Any, Any, T], *words: Any, **named: Any) -> T:
        return super().wait(self._bounded(gen), *words, **named)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """What psycopg waits for, given up when nothing comes: psycopg looks in every 0.1 s."""
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self.silence:
                    self.close()
                    raise psycopg.OperationalError(f"the server has not answered for {self.silence:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store lives: how to connect, in which schema, and how to call it."""

    conninfo: str
    schema: str
    shown: str


def place(url: str) -> Place:
    """Raises UsageError for a URL that libpq does not understand."""
    try:
        given = conninfo_to_dict(url)
        path = _WANTED_PATH.search(str(given.get("options") or ""))
        defaults = {key: value for key, value in _LINK.items() if key not in given}
        return Place(make_conninfo(url, **defaults), path[1] if path else SCHEMA, shown(url))
    except psycopg.ProgrammingError as error:
        raise UsageError(f"{shown(url)!r} is not the URL of a store: {_line(error)}") from error


def connect(where: Place) -> Connection:
    """A connection that commits each statement by itself. Raises psycopg.Error."""
    connection = Connection.connect(
        where.conninfo, autocommit=True, prepare_threshold=2, row_factory=dict_row
    )
    try:
        version = connection.info.server_version // 10_000
        if version < OLDEST:
            raise StoreUnavailable(
                f"the store {where.shown} is PostgreSQL {version}: unjam needs {OLDEST} or newer"
            )
        connection.prepared_max = 500
        settings = (
            f"SET search_path TO {where.schema}; SET client_encoding TO 'UTF8';"
            f"SET statement_timeout TO '{STATEMENT_TIMEOUT}s'; SET lock_timeout TO '{LOCK_TIMEOUT}s';"
            f"SET idle_in_transaction_session_timeout TO '{IDLE_TIMEOUT}s'"
        )
        connection.execute(settings.encode(), prepare=False)
    except BaseException:
        connection.close()
        raise
    return connection


def is_lost(connection: Connection, error: psycopg.Error) -> bool:
    """Did this error end the connection? A FATAL one does, seen before the end itself is."""
    if error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
        connection.close()
    if isinstance(error, psycopg.errors.InvalidSqlStatementName):
        # psycopg takes a statement for prepared that it sent behind one that failed, in the same pipeline: on
        # this connection it would fail for ever.
        connection.close()
    return connection.closed


def told(error: psycopg.Error, where: Place) -> Exception:
    """What to raise in place of an error of a statement, on a connection that lives."""
    name = f"the store {where.shown}"
    match error:
        case psycopg.errors.UniqueViolation():
            return NotUnique(_line(error))
        case (
            psycopg.errors.DeadlockDetected()
            | psycopg.errors.SerializationFailure()
            | psycopg.errors.LockNotAvailable()
        ):
            return Again(f"{name} is busy: {_line(error)}")
        case psycopg.errors.QueryCanceled():
            return StoreUnavailable(f"{name} did not answer in {STATEMENT_TIMEOUT} s; nothing was changed")
        case psycopg.errors.DiskFull():
            return DiskFull(f"the disk of {name} is full: free some space, nothing was changed")
        case psycopg.errors.InsufficientPrivilege():
            return StoreUnavailable(
                f"{name}: {_line(error)}. Grant this user the schema {where.schema} and what is in it"
            )
        case psycopg.errors.ReadOnlySqlTransaction():
            return StoreUnavailable(
                f"{name} takes no writes (a standby?). Add target_session_attrs=read-write to its URL"
            )
        case psycopg.errors.UndefinedTable():
            return StoreUnavailable(f"{name} has lost its tables ({_line(error)}). Restore a backup")
        case psycopg.OperationalError() | psycopg.InternalError():
            return StoreUnavailable(f"{name} failed: {_line(error)}")
    return error


def unreachable(error: psycopg.Error, where: Place) -> StoreUnavailable:
    return StoreUnavailable(
        f"the store {where.shown} cannot be reached: {_line(error)}. Start the server, or name another store"
    )


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
