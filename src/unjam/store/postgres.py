"""PostgreSQL behind the store: connection, transactions, reconnecting, and commits whose answer was lost."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from unjam.errors import StoreUnavailable, UsageError
from unjam.store import pg_migrate, pg_receipt
from unjam.store.again import Again
from unjam.store.clock import since_boot
from unjam.store.database import Params, Row
from unjam.store.pg_batch import Statement, sent, statement
from unjam.store.pg_connect import Connection, connect, is_lost, place, told, unreachable
from unjam.store.pg_text import plain

PATIENCE = 10.0
"""Seconds that a call waits for a server that went away; a restart takes one or two."""
RETRY_EVERY = 0.1
GOODBYE = 2.0
"""Seconds that a client which ends waits for the server to remove its receipt."""
OUTAGE = 5.0
"""Seconds since the last answer after which a new connection ends an outage, which others may have had too.
Less is a link of our own that flaps: it says nothing of their leases, which are renewed at half time. It is
more than lies between two looks of a reaper."""
JUMP = 2.0
"""Seconds by which the server's clock may differ from its course before it counts as set."""
_CLOCK = "extract(epoch FROM clock_timestamp())::double precision"
_BIRTH = "extract(epoch FROM pg_postmaster_start_time())::double precision"

T = TypeVar("T")


class PostgresDatabase:
    """One connection to one server, made anew when it is lost."""

    def __init__(
        self, url: str, *, clock: Callable[[], float] | None = None, patience: float = PATIENCE
    ) -> None:
        self.url = url
        self.steady_since = self.clock_set_at = 0.0
        self._place = place(url)
        self._clock = clock
        self._patience = patience
        self._transaction = _Transaction(self)
        self.tells_time = clock is None
        self._later: list[Statement] = []
        self._soon: list[Statement] = []
        """Of this transaction: what is to be answered when it ends."""
        self._open = False
        """Inside of a transaction."""
        self._alone = ""
        self._begun = False
        """The server knows of it."""
        self._receipts = pg_receipt.Receipts()
        self._began = (0.0, 0.0)
        """When the transaction began: by the server, and by our own clock."""
        self._course: float | None = None
        """The server's clock minus the time since boot."""
        self._answered = 0.0
        """When the server last did what we asked, on the clock that runs through suspend."""
        self._birth: float | None = None
        """When the server was started, by its own clock."""
        self._connection = self._connect(patience=0.0)
        try:
            pg_migrate.upgrade(self._connection, self._place)
        except psycopg.Error as error:
            self._connection.close()
            raise told(error, self._place) from error
        except BaseException:
            self._connection.close()
            raise

    # -- connection --------------------------------------------------------------------------------------
    def _connect(self, *, patience: float) -> Connection:
        deadline = time.monotonic() + patience
        while True:
            try:
                connection = connect(self._place)
                row = connection.execute(_FIRST).fetchone()
            except psycopg.Error as error:
                if time.monotonic() >= deadline:
                    raise unreachable(error, self._place) from error
                time.sleep(RETRY_EVERY)
            else:
                assert row is not None
                self._follow(row["now"], after_outage=self._was_away(row["birth"]))
                self._answered = since_boot()
                return connection

    def _was_away(self, birth: float) -> bool:
        """Asked at a new connection: was the server out of reach for longer than a moment, and not just for
        us? A restart may be shorter than that for us and longer for others, and so its start time tells."""
        before, self._birth = self._birth, birth
        return birth != before or since_boot() - self._answered > OUTAGE

    def _connected(self) -> Connection:
        if self._connection.closed:
            self._connection = self._connect(patience=self._patience)
        return self._connection

    def _patiently(self, action: Callable[[Connection], T]) -> T:
        """Something outside of a transaction, repeated on a new connection when the old one is lost: reads,
        and writes that say the same twice."""
        deadline = time.monotonic() + self._patience
        while True:
            connection = self._connected()
            try:
                done = action(connection)
            except psycopg.Error as error:
                if not is_lost(connection, error):
                    raise told(error, self._place) from error
                if time.monotonic() >= deadline:
                    raise unreachable(error, self._place) from error
            else:
                self._answered = since_boot()
                return done

    # -- clock -------------------------------------------------------------------------------------------
    def now(self) -> float:
        """Seconds since the epoch by the server's clock."""
        if self._clock is not None:
            return self._clock()
        if self._open:
            if not self._begun:
                self._batch([])
            server, ours = self._began
            return server + time.monotonic() - ours
        row = self._patiently(lambda connection: connection.execute(_NOW).fetchone())
        assert row is not None
        return self._follow(row["now"])

    def _follow(self, now: float, *, after_outage: bool = False) -> float:
        """Notice the end of an outage, and a clock that was set (or another server's): leases may have run
        out then by no fault of their owners (INV-ONCE)."""
        course, known = now - since_boot(), self._course
        was_set = known is not None and abs(course - known) > JUMP
        if after_outage or was_set:
            self.steady_since = now if self._clock is None else self._clock()
        if was_set:
            self.clock_set_at = self.steady_since
        self._course = course
        return now

    # -- transactions ------------------------------------------------------------------------------------
    def write(self, alone: str = "") -> _Transaction:
        self._transaction.alone = alone
        return self._transaction

    def begin(self, alone: str) -> None:
        """Nothing is sent before the first statement: they make one round trip together."""
        self._patiently(self._receipts.prepare)
        self._open, self._alone, self._begun = True, alone, False
        self._soon = []

    def commit(self) -> None:
        if not self._begun and not self._later:
            self._open = False
            return
        try:
            if not self._begun:
                self._batch([])  # a beginning is repeated on a new connection, and no commit may be
            self._later.append(Statement(pg_receipt.LEAVE, [self._receipts.next()]))
            self._send(b"COMMIT", ())
        except (Again, StoreUnavailable):
            if not self._connection.closed:
                self.rollback()
                raise
            self._open = False
            self._find_out()
            for asked in self._soon:
                self._ask_again(asked)
        except psycopg.errors.DivisionByZero as error:
            self.rollback()
            self._receipts.forget()
            raise Again(f"the store {self._place.shown} had forgotten us; nothing was changed") from error
        except BaseException:
            self.rollback()
            raise
        self._open = False

    def _ask_again(self, asked: Statement) -> None:
        """The commit was done, but the rows that should have come before its answer may be lost with it."""
        self._patiently(lambda connection: sent(connection, [asked]))

    def _find_out(self) -> None:
        """The connection was lost while the commit was under way: ask the server what became of it. Raises
        Again when it was not done and never will be, StoreUnavailable when nobody can tell."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                done = self._patiently(self._receipts.settle)
            except Again:
                done = None  # the old connection's process is still at it, and holds the receipt
            if done is not None:
                break
            if time.monotonic() >= deadline:
                raise StoreUnavailable(
                    f"the store {self._place.shown} does not say whether the last change was made"
                )
            time.sleep(RETRY_EVERY)
        if not done:
            raise Again(f"the store {self._place.shown} was away; nothing was changed")

    def rollback(self) -> None:
        self._open = False
        self._later = []
        connection = self._connection
        if connection.closed:
            return
        status = connection.info.transaction_status
        try:
            if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                connection.execute(b"ROLLBACK")
            elif status is not TransactionStatus.IDLE:
                connection.close()  # interrupted in the middle of an answer
        except psycopg.Error:
            connection.close()  # the server rolls back what has lost its connection

    # -- statements --------------------------------------------------------------------------------------
    def all(self, name: str, params: Params = (), *, tail: str = "") -> Sequence[Row]:
        return self._run(statement(name, tail), params).fetchall()

    def one(self, name: str, params: Params = ()) -> Row | None:
        rows = self.all(name, params)
        return rows[0] if rows else None

    def insert(self, name: str, params: Params) -> int:
        row = self._run(statement(name), params).fetchone()
        assert row is not None  # RETURNING one row
        number: int = next(iter(row.values()))
        return number

    def numbers(self, name: str, count: int) -> Sequence[int]:
        return [row["seq"] for row in self.all(name, {"count": count})]

    def run(self, name: str, params: Params = ()) -> int:
        return self._run(statement(name), params).rowcount

    def later(self, name: str, params: Params) -> None:
        self._later.append(Statement(statement(name), [plain(params)]))

    def many(self, name: str, params: Iterable[Params]) -> None:
        rows = [plain(row) for row in params]
        if rows:
            self._later.append(Statement(statement(name), rows))

    def soon(self, name: str, params: Params) -> Sequence[Row]:
        asked = Statement(statement(name), [plain(params)], answer=[])
        self._later.append(asked)
        self._soon.append(asked)
        assert asked.answer is not None
        return asked.answer

    def together(self, *asked: tuple[str, Params]) -> Sequence[Sequence[Row]]:
        statements = [Statement(statement(name), [plain(params)]) for name, params in asked]
        return [cursor.fetchall() for cursor in self._batch(statements)]

    def notify(self, channel: str) -> None:
        self._patiently(lambda connection: connection.execute("SELECT pg_notify(%s, '')", (channel,)))

    def _run(self, text: bytes, params: Params) -> psycopg.Cursor[Any]:
        values = plain(params)
        if self._open:
            return self._send(text, values)
        return self._patiently(lambda connection: connection.execute(text, values))

    def _send(self, text: bytes, params: Params) -> psycopg.Cursor[Any]:
        """A statement inside of a transaction."""
        return self._batch([Statement(text, [params])])[0]

    def _batch(self, asked: Sequence[Statement]) -> list[psycopg.Cursor[Any]]:
        """Inside of a transaction, in one round trip: its beginning if it has none, what was left for later,
        and these."""
        if not self._begun:
            # Nothing was done yet: a connection that was lost since the last call is made anew.
            return self._patiently(lambda connection: self._begin_with(connection, asked))
        connection, waiting = self._connection, self._later
        self._later = []
        try:
            cursors = sent(connection, [*waiting, *asked])
        except psycopg.Error as error:
            if is_lost(connection, error):
                raise Again(f"the store {self._place.shown} was lost; nothing was changed") from error
            raise told(error, self._place) from error
        self._answered = since_boot()
        return cursors[len(waiting) :]

    def _begin_with(self, connection: Connection, asked: Sequence[Statement]) -> list[psycopg.Cursor[Any]]:
        key = (_key(self._place.schema, self._alone),)
        lock = [Statement(b"SELECT pg_advisory_xact_lock(%s)", [key])] if self._alone else []
        before = [Statement(b"BEGIN", [()]), *lock, *self._later]
        # The time comes last: what was asked may have waited for locks.
        cursors = sent(connection, [*before, *asked, Statement(_NOW, [()])])
        row = cursors[-1].fetchone()
        assert row is not None
        self._began = self._follow(row["now"]), time.monotonic()
        self._begun, self._later = True, []
        return cursors[len(before) : -1]

    # -- care --------------------------------------------------------------------------------------------
    def shrink(self) -> bool:
        self._patiently(pg_receipt.clean)
        return False  # the server's own autovacuum sees to the rest

    def check(self) -> list[str]:
        """PostgreSQL checks its files by itself (checksums, pg_amcheck)."""
        return []

    def backup(self, path: str) -> None:
        raise UsageError(
            "a store in PostgreSQL is backed up by its own tools: pg_dump "
            + shlex.join([f"--schema={self._place.schema}", f"--file={path}", self._place.shown])
        )

    def close(self) -> None:
        if not self._connection.closed:
            self._connection.silence = GOODBYE
            try:
                self._receipts.leave(self._connection)
            except psycopg.Error:
                pass  # the server is going away: the row goes in KEPT_DAYS
        self._connection.close()


_NOW = f"SELECT {_CLOCK} AS now".encode()
_FIRST = f"SELECT {_CLOCK} AS now, {_BIRTH} AS birth".encode()


class _Transaction:
    """Entered and left once per method."""

    __slots__ = ("_database", "alone")

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self.alone = ""

    def __enter__(self) -> None:
        self._database.begin(self.alone)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._database.commit()
        else:
            self._database.rollback()


def _key(schema: str, alone: str) -> int:
    """The number of an advisory lock."""
    digest = hashlib.blake2b(f"{schema} {alone}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
