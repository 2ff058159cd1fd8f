"""Opens the store that a URL names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from unjam.errors import StoreUnavailable, UsageError
from unjam.store.clock import open_clock
from unjam.store.port import Store
from unjam.store.sqlite import PATIENCE, SqliteDatabase
from unjam.store.store import SqlStore
from unjam.store.url import is_postgres
from unjam.store.wakeup import Listener

_SQLITE = "sqlite:///"


def open_store(
    url: str,
    *,
    make_parents: bool = False,
    clock: Callable[[], float] | None = None,
    patience: float | None = None,
) -> Store:
    """The store at `sqlite:///PATH` (three slashes and an absolute path make four), made if it is not there,
    or at `postgresql://...`.

    `make_parents` makes missing folders too: for the default place, not for one that a user typed. `clock`
    takes the place of the store's own; `patience` is how long to wait for other writers, or for a server that
    went away, in seconds.
    Raises UsageError for another kind of URL, StoreUnavailable or DiskFull where it cannot be opened.
    """
    if is_postgres(url):
        return _open_postgres(url, clock, patience)
    if not url.startswith(_SQLITE) or len(url) == len(_SQLITE):
        raise UsageError(f"{url!r} is not the URL of a store: it looks like sqlite:////var/lib/unjam/jobs.db")
    path = str(Path(unquote(url[len(_SQLITE) :])).expanduser().absolute())
    database = SqliteDatabase(
        path, make_parents=make_parents, patience=PATIENCE if patience is None else patience
    )
    try:
        return SqlStore(database, clock or open_clock(database))
    except BaseException:
        database.close()
        raise


def open_listener(url: str, home: Path, worker_id: str) -> Listener:
    """The ear of a worker for wake-up calls of this store. Raises OSError where its socket cannot be made."""
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / f"{worker_id}.wake")
    if not is_postgres(url):
        return Listener(path)
    _require_psycopg()
    from unjam.store.pg_connect import place
    from unjam.store.pg_wakeup import PostgresListener

    return PostgresListener(place(url), path)


def _open_postgres(url: str, clock: Callable[[], float] | None, patience: float | None) -> Store:
    _require_psycopg()
    from unjam.store.pg_store import PostgresStore
    from unjam.store.postgres import PATIENCE, PostgresDatabase

    patience = PATIENCE if patience is None else patience
    return PostgresStore(PostgresDatabase(url, clock=clock, patience=patience))


def _require_psycopg() -> None:
    """Imported only here: a store in SQLite needs none of it."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise StoreUnavailable(
            f"a store in PostgreSQL needs psycopg ({error}). Type: pip install 'unjam[postgres]'"
        ) from error
