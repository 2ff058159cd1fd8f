"""Opens the store that a URL names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from unjam.errors import UsageError
from unjam.store.clock import open_clock
from unjam.store.port import Store
from unjam.store.sqlite import PATIENCE, SqliteDatabase
from unjam.store.store import SqlStore

_SQLITE = "sqlite:///"


def open_store(
    url: str,
    *,
    make_parents: bool = False,
    clock: Callable[[], float] | None = None,
    patience: float = PATIENCE,
) -> Store:
    """The store at `sqlite:///PATH` (three slashes and an absolute path make four), made if it is not there.

    `make_parents` makes missing folders too: for the default place, not for one that a user typed. `clock`
    takes the place of the store's own; `patience` is how long to wait for other writers, in seconds.
    Raises UsageError for another kind of URL, StoreUnavailable or DiskFull where it cannot be opened.
    """
    if url.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            "this version of unjam keeps its jobs in SQLite only: name a store like sqlite:////var/lib/unjam/jobs.db"
        )
    if not url.startswith(_SQLITE) or len(url) == len(_SQLITE):
        raise UsageError(f"{url!r} is not the URL of a store: it looks like sqlite:////var/lib/unjam/jobs.db")
    path = str(Path(unquote(url[len(_SQLITE) :])).expanduser().absolute())
    database = SqliteDatabase(path, make_parents=make_parents, patience=patience)
    try:
        return SqlStore(database, clock or open_clock(database))
    except BaseException:
        database.close()
        raise
