"""What became of a transaction whose commit was not answered: told by its receipt, and by nothing else."""

import signal
from contextlib import closing
from typing import Any

import psycopg
import pytest

from tests.postgres import Server
from tests.store.rig import job
from unjam.store import open_store, pg_connect, pg_receipt
from unjam.store.again import Again
from unjam.store.postgres import PostgresDatabase

EVENT = (1.0, None, None, "mine", None, None, "{}")


def test_a_number_given_to_another_transaction_after_a_crash_is_no_proof(own_server: Server) -> None:
    """INV-ONCE: the server crashes before our commit and gives our number to somebody else, who commits."""
    url, xids = own_server.url("crash"), [0]

    def crash_in_the_middle() -> None:
        with database.write():
            database.run("insert_event", EVENT)
            xids[0] = _one(database, b"SELECT pg_current_xact_id()::text::bigint AS one")
            own_server.stop(signal.SIGQUIT)
            own_server.start()
            for number in range(10):
                other.submit(job(f"other-{number}"))

    with closing(open_store(url)) as other, closing(PostgresDatabase(url)) as database:
        with pytest.raises(Again, match="nothing was changed"):
            crash_in_the_middle()
        # What made this a trap: asked by its number, it was done.
        asked = f"SELECT pg_xact_status('{xids[0]}'::xid8) AS one".encode()
        assert _one(database, asked) == "committed"
        assert [event.kind for event in other.events_since(0) if event.kind == "mine"] == []


def _one(database: PostgresDatabase, query: bytes) -> Any:
    row = database._connection.execute(query).fetchone()
    assert row is not None
    return row["one"]


def test_what_was_given_up_cannot_be_committed_later(postgres_server: Server) -> None:
    """A frozen server may read our commit long after we asked what became of it, and did it again."""
    place = pg_connect.place(postgres_server.url("later"))
    with closing(PostgresDatabase(postgres_server.url("later"))):
        pass  # makes the schema
    with closing(pg_connect.connect(place)) as old, closing(pg_connect.connect(place)) as new:
        receipts = pg_receipt.Receipts()
        receipts.prepare(old)
        for committed in (True, False):
            old.execute(b"BEGIN")
            leaving = receipts.next()
            if committed:
                old.execute(pg_receipt.LEAVE, leaving)
                old.execute(b"COMMIT")
            assert receipts.settle(new) is committed
            assert receipts.settle(new) is committed, "asked again it says the same"
        with pytest.raises(psycopg.errors.DivisionByZero):
            old.execute(pg_receipt.LEAVE, leaving)
