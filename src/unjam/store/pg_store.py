"""The store over PostgreSQL: the same methods; writes are repeated when their transaction failed for no fault
of theirs."""

from __future__ import annotations

from unjam.store.again import again
from unjam.store.pg_wakeup import CHANNEL, Notifier
from unjam.store.postgres import PATIENCE, PostgresDatabase
from unjam.store.store import SqlStore

WRITES = (
    "submit", "submit_many", "claim", "begin", "renew", "set_containment", "put_plan", "revise_plan",
    "commit_unit", "void_units", "save_progress", "set_input_media", "begin_publish", "end", "unlease",
    "request_cancel", "request_pause", "resume", "drop_units", "remove", "attach", "expire_attachments",
    "check_out", "forget_worker", "pause_queue", "resume_queue", "prune",
)  # fmt: skip


class PostgresStore(SqlStore):
    """`port.Store` in PostgreSQL."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database, database.now, Notifier(lambda: database.notify(CHANNEL)))


for _name in WRITES:
    setattr(PostgresStore, _name, again(getattr(SqlStore, _name), PATIENCE))
