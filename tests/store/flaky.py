"""A database whose connection is lost at commits: before they arrive, or before their answer does."""

from collections.abc import Sequence

import psycopg

from unjam.store.pg_batch import Statement
from unjam.store.postgres import PostgresDatabase


class FlakyDatabase(PostgresDatabase):
    """Of three commits in turn one never arrives, one is done but its answer is lost, and one goes well."""

    _commits = 0

    def _end_with(self, batch: Sequence[Statement]) -> None:
        self._commits += 1
        turn = self._commits % 3
        if turn == 1:
            self._connection.close()
        super()._end_with(batch)
        if turn == 2:
            self._connection.close()
            for one in batch:
                if one.answer is not None:
                    one.answer.clear()
            raise psycopg.OperationalError("the answer of the commit was lost")
