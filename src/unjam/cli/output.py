"""What is written where: data on stdout, everything else on stderr; a terminal that is gone is no error."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from unjam.printable import one_line, printable

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}
LONGEST_NAME = 32
NARROWEST = 24
"""Columns; a last cell with less room than this goes on below its row."""
STATE_COLOURS = {
    "succeeded": "green",
    "skipped": "green",
    "running": "blue",
    "paused": "yellow",
    "cancelling": "yellow",
    "cancelled": "yellow",
    "partial": "yellow",
    "failed": "red",
}


def data(text: str) -> None:
    """One line of data. A closed pipe raises BrokenPipeError, which `main` ends silently."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def data_name(text: str) -> None:
    """One line of data that holds a name or a path: as it is for a program, harmless on a terminal."""
    data(one_line(text) if sys.stdout.isatty() else text)


def document(body: Any) -> None:
    """One JSON document for people and programs."""
    data(json.dumps(body, indent=2))


def json_line(body: Any) -> None:
    data(json.dumps(body, separators=(",", ":")))


def say(text: str) -> None:
    """One line for the person who watches."""
    try:
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # The terminal is gone (SIGHUP) or the pipe is closed: what is being done must go on all the same.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it is stderr from now on


def colours_wanted(stream: Any) -> bool:
    """Only on a terminal, and never against NO_COLOR."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def paint(text: str, colour: str | None, stream: Any = None) -> str:
    if colour is None or not colours_wanted(stream or sys.stdout):
        return text
    return f"\033[{_COLOURS[colour]}m{text}\033[0m"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    colour_column: int | None = None,
    name_column: int | None = None,
) -> None:
    """Columns padded to their widest cell. A pipe gets everything; on a terminal a long last cell goes on in
    lines of its own column, and a long name (`name_column`) loses its end."""
    body = [[one_line(cell) for cell in row] for row in rows]
    if name_column is not None and sys.stdout.isatty():
        for cells in body:
            cells[name_column] = shortened(cells[name_column])
    widths = [max(len(line[n]) for line in [list(head), *body]) for n in range(len(head))]
    indent = sum(width + 2 for width in widths[:-1])
    data(paint(_padded(head, widths), "dim"))
    for row in body:
        first, more = _last_cell(row[-1], indent)
        cells = [cell.ljust(width) for cell, width in zip([*row[:-1], first], widths, strict=True)]
        if colour_column is not None:
            word = row[colour_column].split(" ")[0]
            cells[colour_column] = paint(cells[colour_column], STATE_COLOURS.get(word))
        data("  ".join(cells).rstrip())
        for line in more:
            data(line)


def shortened(name: str) -> str:
    """A name that leaves room for something beside it."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _last_cell(text: str, indent: int) -> tuple[str, list[str]]:
    """What of a row's last cell stands in the row, and the lines that follow it, on a terminal."""
    columns = shutil.get_terminal_size().columns
    room = columns - indent
    if not sys.stdout.isatty() or len(text) <= room:
        return text, []
    if room < NARROWEST:
        lines = textwrap.wrap(text, columns - 4, break_on_hyphens=False)
        return "", [f"    {line}" for line in lines]
    first, *more = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return first, [" " * indent + line for line in more]


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
