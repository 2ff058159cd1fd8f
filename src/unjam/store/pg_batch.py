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


@functools.cache
def statement(name: str, tail: str = "") -> bytes:
    """The statement with psycopg's placeholders."""
    text = (sql(name, "postgres") + tail).replace("%", "%%").replace("?", "%s")
    return _NAMED.sub(r"%(\1)s", text).encode()


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
