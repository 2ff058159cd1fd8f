"""Was a transaction done whose commit was not answered? Each leaves a receipt; without one it never will be.

pg_xact_status() cannot tell: after a crash the server gives the numbers of transactions that left no trace to
others, and what became of those was taken for ours. An attempt counted as ended that was not, and two workers
held one job under the same fence (INV-ONCE; a server killed under load, 1 run in 4).
"""

from __future__ import annotations

import secrets

from unjam.store.pg_connect import Connection

KEPT_DAYS = 30
"""A client that is silent for longer makes a new row at its next write."""

LEAVE = b"""
WITH left_here AS (
    UPDATE receipt SET number = %(number)s, at = clock_timestamp()
    WHERE token = %(token)s AND number < %(number)s
    RETURNING 1
)
SELECT 1 / count(*) FROM left_here
"""
"""The last statement of a transaction. It fails, and all of it with it, when that number was voided meanwhile
or the row is gone."""

_VOID = b"""
UPDATE receipt SET number = %(number)s, void = %(number)s, at = clock_timestamp()
WHERE token = %(token)s AND number < %(number)s
"""
_LOOK = b"SELECT number, void FROM receipt WHERE token = %(token)s"


class Receipts:
    """Those of one client of the store, over all its connections."""

    def __init__(self) -> None:
        self._token = ""
        self._number = 0

    @property
    def ready(self) -> bool:
        """Is there a row? As far as we know: others may have removed it."""
        return bool(self._token)

    def prepare(self, connection: Connection) -> None:
        """Make the row, outside of any transaction."""
        token = secrets.token_hex(16)
        connection.execute(b"INSERT INTO receipt (token) VALUES (%s)", (token,))
        self._token, self._number = token, 0

    def forget(self) -> None:
        """The row is gone: the next `prepare` makes another."""
        self._token = ""

    def leave(self, connection: Connection) -> None:
        """Remove the row of a client that ends: a thousand short commands leave none. Whatever it sent that
        was never answered can no longer be done. Raises psycopg.Error."""
        if self._token:
            connection.execute(b"DELETE FROM receipt WHERE token = %s", (self._token,))
            self.forget()

    def next(self) -> dict[str, object]:
        """The parameters of LEAVE for the transaction that is about to be committed."""
        self._number += 1
        return {"token": self._token, "number": self._number}

    def settle(self, connection: Connection) -> bool | None:
        """Whether the last one was done; None if nobody can say.

        Waits for a server process that is still at it. If it was not done it never will be, even if what we
        sent waits in a frozen server and is read later. May be asked again. Raises psycopg.Error.
        """
        last = {"token": self._token, "number": self._number}
        connection.execute(_VOID, last)
        row = connection.execute(_LOOK, last).fetchone()
        if row is None:
            return None
        return bool(row["number"] == self._number != row["void"])


def clean(connection: Connection) -> None:
    """Remove the rows of those who have been silent for long."""
    connection.execute(
        b"DELETE FROM receipt WHERE at < clock_timestamp() - make_interval(days => %s)", (KEPT_DAYS,)
    )
