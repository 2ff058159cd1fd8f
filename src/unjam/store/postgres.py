"""PostgreSQL behind the store: connection, transactions, reconnecting, and commits whose answer was lost."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from unjam.errors import StoreUnavailable, UsageError
from unjam.store import pg_migrate, pg_receipt
from unjam.store.again import Again
from unjam.store.clock import since_boot
from unjam.store.database import Params, Row
from unjam.store.pg_batch import CLOCK, Statement, demand, refused_by, sent, statement
from unjam.store.pg_clock import ServerClock
from unjam.store.pg_connect import Connection, connect, is_lost, place, told, unreachable
from unjam.store.pg_text import plain

PATIENCE = 10.0
"""Seconds that a call waits for a server that went away; a restart takes one or two."""
RETRY_EVERY = 0.1
GOODBYE = 2.0
"""Seconds that a client which ends waits for the server to remove its receipt."""
T = TypeVar("T")


class PostgresDatabase:
    """One connection to one server, made anew when it is lost."""

    def __init__(
        self, url: str, *, clock: Callable[[], float] | None = None, patience: float = PATIENCE
    ) -> None:
        self.url = url
        self.tells_time = clock is None
        self._place = place(url)
        self._instead = clock
        self._patience = patience
        self._watch = ServerClock(clock)
        self._transaction = _Transaction(self)
        self._later: list[Statement] = []
        self._soon: list[Statement] = []
        """Of this transaction: what is to be answered when it ends."""
        self._demands: list[Callable[[], Exception]] = []
        """Of this transaction: what to raise when the demand of that number is refused."""
        self._open = False
        """Inside of a transaction."""
        self._alone = ""
        self._begun = False
        """The server knows of it."""
        self._receipts = pg_receipt.Receipts()
        self._asked_at = 0.0
        """When the transaction was begun, in seconds since boot."""
        self._began = (0.0, 0.0)
        """When the transaction began: by the server, and by our own clock."""
        self._connection = self._connect(patience=0.0)
        try:
            pg_migrate.upgrade(self._connection, self._place)
            pg_migrate.adopt_events(self._connection)
        except psycopg.Error as error:
            self._connection.close()
            raise told(error, self._place) from error
        except BaseException:
            self._connection.close()
            raise

    @property
    def steady_since(self) -> float:
        return self._watch.steady_since

    @property
    def clock_set_at(self) -> float:
        return self._watch.clock_set_at

    # -- connection --------------------------------------------------------------------------------------
    def _connect(self, *, patience: float) -> Connection:
        deadline = time.monotonic() + patience
        while True:
            try:
                connection = connect(self._place)
                asked_at = since_boot()
                row = connection.execute(_FIRST).fetchone()
            except psycopg.Error as error:
                if time.monotonic() >= deadline:
                    raise unreachable(error, self._place) from error
                time.sleep(RETRY_EVERY)
            else:
                assert row is not None
                self._watch.connected(asked_at, row["now"], row["birth"])
                return connection

    def _connected(self) -> Connection:
        if self._connection.closed:
            self._connection = self._connect(patience=self._patience)
        return self._connection

    def _patiently(self, action: Callable[[Connection], T]) -> T:
        """Something repeated on a new connection when the old one is lost: reads, writes that say the same
        twice, and the beginning of a transaction."""
        deadline = time.monotonic() + self._patience
        while True:
            connection, asked_at = self._connected(), since_boot()
            try:
                done = action(connection)
            except psycopg.Error as error:
                if not is_lost(connection, error):
                    self._watch.answered(asked_at)
                    raise self._meant(error) from error
                if time.monotonic() >= deadline:
                    raise unreachable(error, self._place) from error
            else:
                self._watch.answered(asked_at)
                return done

    # -- clock -------------------------------------------------------------------------------------------
    def now(self) -> float:
        """Seconds since the epoch by the server's clock."""
        if self._instead is not None:
            return self._instead()
        if self._open:
            if not self._begun:
                self._batch([])
            server, ours = self._began
            return server + time.monotonic() - ours
        return self._timed([])[1]

    def _timed(self, asked: Sequence[Statement]) -> tuple[list[psycopg.Cursor[Any]], float]:
        """Outside of a transaction, in one round trip; and the server's time behind them."""

        def do(connection: Connection) -> tuple[list[psycopg.Cursor[Any]], float]:
            asked_at = since_boot()
            *cursors, last = sent(connection, [*asked, Statement(_NOW, [()])])
            row = last.fetchone()
            assert row is not None
            self._watch.answered(asked_at, row["now"])
            return cursors, row["now"]

        return self._patiently(do)

    # -- transactions ------------------------------------------------------------------------------------
    def write(self, alone: str = "") -> _Transaction:
        self._transaction.alone = alone
        return self._transaction

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()

    def begin(self, alone: str) -> None:
        """Nothing is sent before the first statement that is waited for: they make one trip together."""
        if not self._receipts.ready:
            self._patiently(self._receipts.prepare)
        self._open, self._alone, self._begun = True, alone, False
        self._later, self._soon, self._demands = [], [], []

    def commit(self) -> None:
        """Where nothing was waited for, this is all of it: one round trip."""
        if not self._begun and not self._later:
            self._open = False
            return
        batch = [] if self._begun else self._beginning()
        leave = Statement(pg_receipt.LEAVE, [self._receipts.next()])
        batch += [*self._later, leave, Statement(b"COMMIT", [()])]
        try:
            if not self._begun:
                self._connected()
                self._asked_at = since_boot()
            self._end_with(batch)
        except psycopg.Error as error:
            if not is_lost(self._connection, error):
                self._watch.answered(self._asked_at)
                raise self._meant(error) from error
            self._open = False
            self._find_out()
            for asked in self._soon:
                self._ask_again(asked)
        except BaseException:
            self.rollback()
            raise
        else:
            self._watch.answered(self._asked_at)
            self._open = False

    def _end_with(self, batch: Sequence[Statement]) -> None:
        """The last round trip of a transaction, or its only one; the receipt and the commit are its end."""
        sent(self._connection, batch)

    def _meant(self, error: psycopg.Error) -> Exception:
        """What to raise in place of an error on a connection that lives. A transaction is rolled back first:
        whoever was refused can look why."""
        self.rollback()
        if (number := refused_by(error)) is not None:
            return self._demands[number]()
        if isinstance(error, psycopg.errors.DivisionByZero):
            self._receipts.forget()
            return Again(f"the store {self._place.shown} had forgotten us; nothing was changed")
        return told(error, self._place)

    def _ask_again(self, asked: Statement) -> None:
        """The commit was done, but the rows that should have come before its answer were lost with it."""
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

    def must(self, name: str, params: Mapping[str, object], refused: Callable[[], Exception]) -> None:
        self._later.append(Statement(demand(name), [plain({**params, "demand": str(len(self._demands))})]))
        self._demands.append(refused)

    def together(self, *asked: tuple[str, Params]) -> Sequence[Sequence[Row]]:
        statements = [Statement(statement(name), [plain(params)]) for name, params in asked]
        cursors = self._batch(statements) if self._open else self._timed(statements)[0]
        return [cursor.fetchall() for cursor in cursors]

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
            return self._begin_with(asked)
        connection, waiting = self._connection, self._later
        self._later = []
        try:
            cursors = sent(connection, [*waiting, *asked])
        except psycopg.Error as error:
            if is_lost(connection, error):
                raise Again(f"the store {self._place.shown} was lost; nothing was changed") from error
            self._watch.answered(self._asked_at)
            raise self._meant(error) from error
        self._watch.answered(self._asked_at)
        return cursors[len(waiting) :]

    def _begin_with(self, asked: Sequence[Statement]) -> list[psycopg.Cursor[Any]]:
        before = [*self._beginning(), *self._later]

        def do(connection: Connection) -> list[psycopg.Cursor[Any]]:
            self._asked_at = since_boot()
            # The time comes last: what was asked may have waited for locks.
            cursors = sent(connection, [*before, *asked, Statement(_NOW, [()])])
            row = cursors[-1].fetchone()
            assert row is not None
            self._watch.answered(self._asked_at, row["now"])
            self._began, self._begun, self._later = (row["now"], time.monotonic()), True, []
            return cursors[len(before) : -1]

        # Nothing was done yet: a connection that was lost since the last call is made anew.
        return self._patiently(do)

    def _beginning(self) -> list[Statement]:
        key = (_key(self._place.schema, self._alone),)
        lock = [Statement(b"SELECT pg_advisory_xact_lock(%s)", [key])] if self._alone else []
        return [Statement(b"BEGIN", [()]), *lock]

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


_NOW = f"SELECT {CLOCK} AS now".encode()
_BIRTH = "extract(epoch FROM pg_postmaster_start_time())::double precision"
_FIRST = f"SELECT {CLOCK} AS now, {_BIRTH} AS birth".encode()


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
