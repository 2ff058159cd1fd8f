"""The SQL statements by name: one file each; a dialect has its own where it differs."""

from __future__ import annotations

import functools
from pathlib import Path

_FOLDER = Path(__file__).parent / "sql"


@functools.cache
def sql(name: str, dialect: str | None = None) -> str:
    """Text of the statement `sql/DIALECT/NAME.sql`, or `sql/NAME.sql` where there is none."""
    if dialect is not None and (own := _FOLDER / dialect / f"{name}.sql").exists():
        return own.read_text(encoding="utf-8").strip()
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8").strip()


def preload(dialect: str | None = None) -> None:
    """Read every statement now. A process that lives long must neither depend on a free descriptor for one
    that it needs the first time, nor read one of another version after an upgrade of the package."""
    folders = [_FOLDER, *([_FOLDER / dialect] if dialect else [])]
    for name in sorted({path.stem for folder in folders for path in folder.glob("*.sql")}):
        sql(name, dialect)


def names() -> list[str]:
    """Every statement there is."""
    return sorted(path.stem for path in _FOLDER.glob("*.sql"))
