"""What the store's statements need of a database: transactions that are really alone, and rows by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Params = Mapping[str, object] | Sequence[object]


class Row(Protocol):
    """One row of an answer."""

    def __getitem__(self, key: str, /) -> Any: ...


class NotUnique(Exception):
    """A unique index refused the row; the transaction can only be rolled back."""


class Database(Protocol):
    """A connection, used by one thread at a time. Statements are named by their file in sql/."""

    url: str

    @property
    def steady_since(self) -> float:
        """Since when, on the store's clock, every lease could be renewed: before, the database may have been
        away."""

    @property
    def clock_set_at(self) -> float:
        """When, on the store's clock, that clock was last seen to be set; 0 if never."""

    @property
    def tells_time(self) -> bool:
        """May a statement be given NULL for `now` or `stamp`, and take the database's own time?"""

    def write(self, alone: str = "") -> AbstractContextManager[None]:
        """A transaction; committed at its end, rolled back by an exception.

        What is read in it stays true to its end: of SQLite because nobody else writes meanwhile, of
        PostgreSQL because the rows that decide are locked as they are read. Where the rows cannot do it,
        `alone` names what one transaction at a time may do.
        """

    def turn(self) -> AbstractContextManager[None]:
        """Around one statement that judges by the time it is given: that is taken in here, behind those who
        write before it. PostgreSQL waits in the statement itself, which sees to that."""

    def all(self, name: str, params: Params = (), *, tail: str = "") -> Sequence[Row]:
        """Every row of the statement (with `tail` put behind it). Outside of `write` it commits by itself."""

    def one(self, name: str, params: Params = ()) -> Row | None: ...
    def insert(self, name: str, params: Params) -> int:
        """Insert one row and tell its number. Raises NotUnique."""

    def numbers(self, name: str, count: int) -> Sequence[int]:
        """`count` numbers for new rows, in their order."""

    def run(self, name: str, params: Params = ()) -> int:
        """Number of rows changed. Raises NotUnique."""

    def later(self, name: str, params: Params) -> None:
        """Like `run` in a transaction, but the answer is not waited for; what fails is raised by the next
        statement or at the transaction's end."""

    def must(self, name: str, params: Mapping[str, object], refused: Callable[[], Exception]) -> None:
        """Demand in a transaction that this statement finds a row, and that nothing behind it is done if not:
        then the transaction is rolled back, and raises what `refused` returns, which may look why. The answer
        is not waited for: it comes with the next statement or at the transaction's end."""

    def soon(self, name: str, params: Params) -> Sequence[Row]:
        """Like `all` in a transaction, but the rows are there only when it has ended. For what only reads:
        when the answer of the commit was lost, it is asked again."""

    def together(self, *asked: tuple[str, Params]) -> Sequence[Sequence[Row]]:
        """`all` of several statements, one after the other: each sees what came before it, and waits for no
        answer between them. Outside of a transaction they are for what may be done twice."""

    def many(self, name: str, params: Iterable[Params]) -> None:
        """`later` once for every set of parameters."""

    def shrink(self) -> bool:
        """Give some unused room of the file back; False when there is no more, or nothing to be done."""

    def check(self) -> list[str]: ...
    def backup(self, path: str) -> None: ...
    def close(self) -> None: ...
