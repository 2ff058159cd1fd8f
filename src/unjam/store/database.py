"""What the store's statements need of a database: transactions that are really alone, and rows by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Params = Mapping[str, object] | Sequence[object]


class Row(Protocol):
    """One row of an answer."""

    def __getitem__(self, key: str, /) -> Any: ...


class NotUnique(Exception):
    """A unique index refused the row; the transaction is still open."""


class Database(Protocol):
    """A connection, used by one thread at a time. Statements are named by their file in sql/."""

    url: str

    def write(self) -> AbstractContextManager[None]:
        """A transaction in which nobody else writes; committed at its end, rolled back by an exception."""

    def all(self, name: str, params: Params = (), *, tail: str = "") -> Sequence[Row]:
        """Every row of the statement (with `tail` put behind it). Outside of `write` it commits by itself."""

    def one(self, name: str, params: Params = ()) -> Row | None: ...
    def insert(self, name: str, params: Params) -> int:
        """Insert one row and tell its number. Raises NotUnique."""

    def run(self, name: str, params: Params = ()) -> int:
        """Number of rows changed. Raises NotUnique."""

    def many(self, name: str, params: Iterable[Params]) -> None:
        """The statement once for every set of parameters. Raises NotUnique."""

    def check(self) -> list[str]: ...
    def backup(self, path: str) -> None: ...
    def close(self) -> None: ...
