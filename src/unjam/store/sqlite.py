"""SQLite behind the store: connection, transactions, waiting for other writers, and errors in human words."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import length_hint
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from unjam.errors import DiskFull, StoreUnavailable, UnjamError
from unjam.store import migrate
from unjam.store.database import NotUnique, Params, Row
from unjam.store.queries import sql

MINIMUM = (3, 37)
"""STRICT tables; RETURNING and UPDATE ... FROM are older."""
BUSY_MS = 5_000
LITTLE_ROOM = 1 << 16
"""Bytes; the index of a WAL file takes half of this at once."""
WAL_KEPT = 64 << 20
SHRINK_PAGES = 1000
"""Given back in one step: a lock of some ten milliseconds."""
SPARE_PAGES = 2000
"""Kept for the next rows: a file that shrinks and grows all day is no gain."""
PATIENCE = 60.0
"""Seconds to wait for other writers before the caller is told; one transaction takes milliseconds."""

T = TypeVar("T")
_Busy = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_Taken = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)


class SqliteDatabase:
    """One connection to one file."""

    tells_time = False

    def __init__(self, path: str, *, make_parents: bool = False, patience: float = PATIENCE) -> None:
        self.url = f"sqlite:///{path}"
        self.steady_since = self.clock_set_at = 0.0  # the kernel's clock, which nobody sets
        self._path = path
        self._patience = patience
        if sqlite3.sqlite_version_info < MINIMUM:
            raise StoreUnavailable(
                f"SQLite {sqlite3.sqlite_version} is too old: unjam needs 3.37. Use a newer Python build"
            )
        _prepare_file(path, make_parents)
        try:
            # check_same_thread: the owner may move between threads, never share (the port's rule).
            self._connection = sqlite3.connect(
                path,
                isolation_level=None,
                timeout=BUSY_MS / 1000,
                cached_statements=256,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise self._told(error) from error
        try:
            # Before the first PRAGMA that writes: another program's file is not to become a WAL file.
            missing = self._patiently(lambda: migrate.missing(self._connection, path))
            self._patiently(self._configure)
            if missing:
                self._patiently(lambda: migrate.upgrade(self._connection, path))
        except BaseException:
            self._connection.close()
            raise
        self._connection.row_factory = sqlite3.Row
        self._transaction = _Transaction(self)

    def _configure(self) -> None:
        run = self._connection.execute
        # Before anything is in the file: only then can it shrink again. It costs 2 % of a claim.
        run("PRAGMA auto_vacuum = INCREMENTAL")
        run("PRAGMA journal_mode = WAL")
        # When it begins anew: one large transaction must not leave its size behind.
        run(f"PRAGMA journal_size_limit = {WAL_KEPT}")
        # FULL: what was said to be done survives a power loss, not only a crash of ours.
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")
        run("PRAGMA temp_store = MEMORY")
        # KiB; 2 MiB by default: a bulk submission of 20,000 jobs would spill to the WAL and read itself back.
        run("PRAGMA cache_size = -16000")

    # -- transactions ------------------------------------------------------------------------------------
    def write(self, alone: str = "") -> _Transaction:
        return self._transaction

    def turn(self) -> _Transaction:
        return self._transaction

    def begin(self) -> None:
        """IMMEDIATE: a transaction that reads first and writes later would fail with BUSY_SNAPSHOT,
        unretried."""
        self._patiently(lambda: self._connection.execute("BEGIN IMMEDIATE"))

    def commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.rollback()
            raise self._told(error) from error

    def rollback(self) -> None:
        # A full disk or an I/O error has rolled back already.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # -- statements --------------------------------------------------------------------------------------
    def all(self, name: str, params: Params = (), *, tail: str = "") -> Sequence[Row]:
        text = sql(name) + tail
        if self._connection.in_transaction:
            return self._fetch(text, params)
        # fetchall: an open cursor is an open read transaction, and that keeps the WAL from being reused
        # (measured: claims 7 times dearer and a WAL of 77 MB beside one forgotten reader).
        return self._patiently(lambda: self._fetch(text, params))

    def one(self, name: str, params: Params = ()) -> Row | None:
        rows = self.all(name, params)
        return rows[0] if rows else None

    def insert(self, name: str, params: Params) -> int:
        try:
            number = self._execute(sql(name), params).lastrowid
        except sqlite3.Error as error:
            raise self._told(error) from error
        assert number is not None  # an INSERT always has one
        return number

    def numbers(self, name: str, count: int) -> Sequence[int]:
        # Nobody else writes: what follows the first is free too.
        row = self.one(name)
        assert row is not None  # an aggregate always answers
        return range(row["seq"], row["seq"] + count)

    def run(self, name: str, params: Params = ()) -> int:
        if self._connection.in_transaction:
            return self._change(sql(name), params)
        return self._patiently(lambda: self._change(sql(name), params))

    def later(self, name: str, params: Params) -> None:
        self._change(sql(name), params)

    def soon(self, name: str, params: Params) -> Sequence[Row]:
        return self._fetch(sql(name), params)

    def must(self, name: str, params: Mapping[str, object], refused: Callable[[], Exception]) -> None:
        if not self._fetch(sql(name), params):
            self.rollback()
            raise refused()

    def together(self, *asked: tuple[str, Params]) -> Sequence[Sequence[Row]]:
        return [self.all(name, params) for name, params in asked]

    def many(self, name: str, params: Iterable[Params]) -> None:
        rows = list(params)
        left = iter(rows)
        try:
            self._connection.executemany(sql(name), left)
        except UnicodeEncodeError:
            # As in `_execute`; the rows before this one are in.
            for row in rows[len(rows) - 1 - length_hint(left) :]:
                self._change(sql(name), row)
        except sqlite3.Error as error:
            raise self._told(error) from error

    def _fetch(self, text: str, params: Params) -> list[sqlite3.Row]:
        try:
            return self._execute(text, params).fetchall()
        except sqlite3.Error as error:
            raise self._told(error) from error

    def _change(self, text: str, params: Params) -> int:
        try:
            return self._execute(text, params).rowcount
        except sqlite3.Error as error:
            raise self._told(error) from error

    def _execute(self, text: str, params: Params) -> sqlite3.Cursor:
        try:
            return self._connection.execute(text, params)
        except UnicodeEncodeError:
            # A sentence that names a file whose name is no UTF-8: a job must not be unable to end for that.
            return self._connection.execute(text, _encodable(params))

    # -- care --------------------------------------------------------------------------------------------
    def shrink(self) -> bool:
        def step() -> bool:
            [free] = self._connection.execute("PRAGMA freelist_count").fetchone()
            # A file made before this version has no map of its pages: of that nothing is given back.
            if free <= SPARE_PAGES:
                return False
            self._connection.execute(f"PRAGMA incremental_vacuum({SHRINK_PAGES})").fetchall()
            [left] = self._connection.execute("PRAGMA freelist_count").fetchone()
            return bool(left < free)

        return self._patiently(step)

    def check(self) -> list[str]:
        try:
            found = [row[0] for row in self._connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            found += [
                f"{row[0]}: row {row[1]} refers to a missing row of {row[2]}"
                for row in self._connection.execute("PRAGMA foreign_key_check")
            ]
        except sqlite3.Error as error:
            raise self._told(error) from error
        return found

    def backup(self, path: str) -> None:
        """A whole copy of this moment; it appears under `path` only when it is complete and on disk."""
        try:
            migrate.copy(self._connection, path)
        except sqlite3.Error as error:
            raise self._told(error) from error
        except OSError as error:
            raise StoreUnavailable(f"the backup {path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        self._connection.close()

    # -- failures ----------------------------------------------------------------------------------------
    def _patiently(self, action: Callable[[], T]) -> T:
        """Repeat while other writers hold the file: "database is locked" never reaches a user who can
        wait."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return action()
            except (sqlite3.Error, _StoreBusy) as error:
                if isinstance(error, sqlite3.Error) and not _is_busy(error):
                    raise self._told(error) from error
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"the store {self._path} was locked by another process for {self._patience:.0f} s. "
                        "A program holds a transaction open on it: close that program, then try again"
                    ) from error
            # SQLite itself waits up to BUSY_MS in most cases, but answers at once where it sees a deadlock.
            time.sleep(0.01)

    def _told(self, error: sqlite3.Error) -> Exception:
        """What to raise in place of this error."""
        if _is_busy(error):
            return _StoreBusy(f"the store {self._path} is locked by another process")
        if isinstance(error, sqlite3.IntegrityError):
            return NotUnique(str(error)) if error.sqlite_errorcode in _Taken else error
        if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            return error
        return _told_error(error, self._path)


class _StoreBusy(StoreUnavailable):
    """Locked at this moment; retried by `_patiently`."""


class _Transaction:
    """Entered and left once per method; a class because a generator costs a submission 2 us more."""

    __slots__ = ("_database",)

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._database.commit()
        else:
            self._database.rollback()


def _encodable(params: Params) -> Params:
    def plain(value: object) -> object:
        return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

    if isinstance(params, Mapping):
        return {key: plain(value) for key, value in params.items()}
    return [plain(value) for value in params]


def _is_busy(error: sqlite3.Error) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _Busy


def _told_error(error: sqlite3.Error, path: str) -> UnjamError:
    """The error as a sentence that names the file, what is wrong and the way out."""
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR and _no_room(path):
        # Opening a WAL file needs room for its index, and says only that it could not.
        code = sqlite3.SQLITE_FULL
    match code:
        case sqlite3.SQLITE_FULL:
            return DiskFull(f"the disk of the store {path} is full: free some space, nothing was changed")
        case sqlite3.SQLITE_READONLY:
            return StoreUnavailable(
                f"the store {path} or its folder is not writable: check its owner and rights"
            )
        case sqlite3.SQLITE_CANTOPEN:
            return StoreUnavailable(
                f"the store {path} cannot be opened: check that it and its folder are writable"
            )
        case sqlite3.SQLITE_NOTADB:
            return StoreUnavailable(f"{path} is not a database. Move it away, or name another store")
        case sqlite3.SQLITE_CORRUPT:
            return StoreUnavailable(
                f"the store {path} is damaged ({error}). Restore a backup, or move it away to start anew"
            )
        case sqlite3.SQLITE_IOERR:
            return StoreUnavailable(f"the disk of the store {path} failed to read or write ({error})")
    return StoreUnavailable(f"the store {path} failed: {error}")


def _no_room(path: str) -> bool:
    try:
        return shutil.disk_usage(Path(path).parent).free < LITTLE_ROOM
    except OSError:
        return False  # the disk that failed does not answer this either


def _prepare_file(path: str, make_parents: bool) -> None:
    """Make the file private before SQLite does (its journal files copy the mode), and fail in plain words."""
    folder = Path(path).parent
    try:
        if make_parents:
            folder.mkdir(parents=True, exist_ok=True)
        # Only a new file is opened here: closing any descriptor of a file drops every POSIX lock that this
        # process holds on it, those of an open SQLite connection in another thread included.
        if not os.path.lexists(path):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not folder.is_dir():
            raise StoreUnavailable(f"the store {path} cannot be made: {folder} is not a folder") from None
        # Otherwise another starter made it first.
    except OSError as error:
        raise _file_error(error, path, folder) from error
    if os.path.isdir(path):
        raise StoreUnavailable(f"the store {path} is a folder: name a file in it, like {path}/unjam.db")
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(f"the store {path} is not writable for this user: check its owner and rights")


def _file_error(error: OSError, path: str, folder: Path) -> UnjamError:
    # /proc and the like answer "no such file" to whoever makes a file in them.
    if error.errno == errno.ENOENT and not folder.is_dir():
        return StoreUnavailable(
            f"the store {path} cannot be made: there is no folder {folder}. Make it first"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"the store {path} cannot be made: the disk is full")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
        return StoreUnavailable(f"the store {path} cannot be made: {folder} is not writable for this user")
    return StoreUnavailable(f"the store {path} cannot be made: {error.strerror}")
