"""Where jobs live: one port, SQLite and PostgreSQL behind it, one .sql file per statement."""

from unjam.store.open import open_listener, open_store
from unjam.store.port import Expired, JobFilter, OnDuplicate, RequestOutcome, Store, Submitted

__all__ = [
    "Expired",
    "JobFilter",
    "OnDuplicate",
    "RequestOutcome",
    "Store",
    "Submitted",
    "open_listener",
    "open_store",
]
