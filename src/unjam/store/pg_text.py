"""Text that PostgreSQL would refuse, made readable."""

from __future__ import annotations

from collections.abc import Mapping

from unjam.store.database import Params


def plain(params: Params) -> Params:
    """PostgreSQL stores neither lone surrogates nor NUL: in a sentence they become escapes that can be read
    (names and paths were made safe before, see `rows.text_in`). A job must not be unable to end for that."""
    values = params.values() if isinstance(params, Mapping) else params
    if not any(isinstance(value, str) and _odd(value) for value in values):
        return params
    if isinstance(params, Mapping):
        return {key: _escaped(value) for key, value in params.items()}
    return [_escaped(value) for value in params]


def _odd(text: str) -> bool:
    if "\0" in text:
        return True
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _escaped(value: object) -> object:
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
