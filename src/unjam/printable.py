"""Text from strangers made fit for a terminal: names of files may hold anything."""

from __future__ import annotations


def printable(text: str) -> str:
    """Control characters, which would move the cursor or forge lines, become visible; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """Printable, and one line."""
    return printable(text).replace("\n", "\\n")


def _escaped(c: str) -> str:
    # A byte that is no UTF-8 came in as a surrogate and is shown as the byte it is.
    return f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else ascii(c)[1:-1]
