"""Statements that go to PostgreSQL in one round trip."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from unjam.store.database import Params, Row
from unjam.store.pg_connect import Connection
from unjam.store.queries import sql

_NAMED = re.compile(r"(?<![:\w]):([a-z_][a-z_0-9]*)")
CLOCK = "extract(epoch FROM clock_timestamp())::double precision"
_STAMP = f"coalesce(CAST(:stamp AS double precision), {CLOCK})"
_REFUSED = "refused by statement "
_REFUSAL = re.compile(_REFUSED + r"(\d+)")


@functools.cache
def statement(name: str, tail: str = "") -> bytes:
    """The statement with psycopg's placeholders; `stamp` may be NULL, and is the server's time then."""
    text = (sql(name, "postgres") + tail).replace(":stamp", _STAMP)
    return _NAMED.sub(r"%(\1)s", text.replace("%", "%%").replace("?", "%s")).encode()


@functools.cache
def demand(name: str) -> bytes:
    """The statement as one that fails when it finds no row: nothing behind it is done then, and its
    transaction can only be rolled back. Its parameter `demand` comes back by `refused_by`."""
    return (
        b"SELECT CAST(CASE WHEN count(*) > 0 THEN '1' ELSE '%s' || CAST(%%(demand)s AS text) END AS integer)"
        b" FROM (\n%s\n) AS found" % (_REFUSED.encode(), statement(name))
    )


def refused_by(error: psycopg.Error) -> int | None:
    """Which demand failed, if that was it."""
    found = _REFUSAL.search(error.diag.message_primary or "")
    return None if found is None else int(found[1])


@dataclass(frozen=True, slots=True)
class Statement:
    """A text and the parameters of each of its runs."""

    text: bytes
    runs: Sequence[Params]
    answer: list[Row] | None = None
    """Filled with the rows, where somebody waits for them."""


def sent(connection: Connection, statements: Sequence[Statement]) -> list[psycopg.Cursor[Any]]:
    """Run them in one round trip. Raises psycopg.Error of the first that fails; those behind do not run."""
    if len(statements) == 1 and len(statements[0].runs) == 1:
        cursors = [connection.execute(statements[0].text, statements[0].runs[0])]
    else:
        with connection.pipeline():
            cursors = [_queued(connection, one) for one in statements]
    for one, cursor in zip(statements, cursors, strict=True):
        if one.answer is not None:
            one.answer[:] = cursor.fetchall()
    return cursors


def _queued(connection: Connection, one: Statement) -> psycopg.Cursor[Any]:
    if len(one.runs) == 1:
        return connection.execute(one.text, one.runs[0])
    cursor = connection.cursor()
    cursor.executemany(one.text, one.runs)
    return cursor
