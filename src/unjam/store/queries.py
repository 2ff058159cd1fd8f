"""The SQL statements by name: one file each, read when first used."""

from __future__ import annotations

import functools
from pathlib import Path

_FOLDER = Path(__file__).parent / "sql"


@functools.cache
def sql(name: str) -> str:
    """Text of the statement `sql/NAME.sql`."""
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8").strip()


def names() -> list[str]:
    """Every statement there is."""
    return sorted(path.stem for path in _FOLDER.glob("*.sql"))
