"""A database whose connection is lost at commits: before they arrive, or before their answer does."""

import psycopg

from unjam.store.again import Again
from unjam.store.database import Params
from unjam.store.postgres import PostgresDatabase


class FlakyDatabase(PostgresDatabase):
    """Of three commits in turn one never arrives, one is done but its answer is lost, and one goes well."""

    _commits = 0

    def _send(self, text: bytes, params: Params) -> psycopg.Cursor[object]:
        if text != b"COMMIT":
            return super()._send(text, params)
        self._commits += 1
        turn = self._commits % 3
        if turn == 1:
            self._connection.close()
        cursor = super()._send(text, params)
        if turn == 2:
            self._connection.close()
            raise Again("the answer of the commit was lost")
        return cursor
