"""Names of outputs: `{stem}{ext}` beside the input or below -o; inputs that would meet are named apart."""

from __future__ import annotations

import os
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unjam.errors import UsageError
from unjam.jobs.model import InputFile
from unjam.settings import near_match
from unjam.storage.inputs import Found, id_of

DEFAULT_TEMPLATE = "{stem}{ext}"
APART_TEMPLATE = "{stem}.{source_ext}{ext}"
LONGEST_NAME = 255 - len(".unjam.json")
"""Bytes of a name on the usual file systems, with room for the manifest beside it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one job puts its outputs. `path` is None for pipelines that name their outputs themselves."""

    folder: str
    path: str | None


def destinations(
    items: Sequence[Found],
    *,
    output_dir: str | None,
    suffix_of: Callable[[InputFile], str | None],
    template: str | None,
    words: Mapping[str, Any],
) -> list[Destination]:
    """One destination for each input, in order, no two alike.

    `words` are what a template may name besides stem, ext, name, source_ext and index: pipeline, parameters.
    Raises UsageError for a bad template and where an output would be one of the inputs.
    """
    folders = [_folder(item, output_dir) for item in items]
    suffixes = [suffix_of(item.file) for item in items]
    fields = [
        {**words, **_words_of(item.file, ext, n + 1)}
        for n, (item, ext) in enumerate(zip(items, suffixes, strict=True))
    ]
    if template is not None:
        _check_template(template, fields[0] if fields else {})
    names: list[str | None] = [
        None if suffix is None else _fill(template or DEFAULT_TEMPLATE, words_of)
        for suffix, words_of in zip(suffixes, fields, strict=True)
    ]
    wanted = Counter(zip(folders, names, strict=True))
    if template is None:
        names = [
            _fill(APART_TEMPLATE, fields[n]) if name is not None and wanted[folders[n], name] > 1 else name
            for n, name in enumerate(names)
        ]
    paths = _numbered(
        [
            None if name is None else os.path.join(folder, name)
            for folder, name in zip(folders, names, strict=True)
        ]
    )
    _refuse(items, paths)
    return [Destination(folder, path) for folder, path in zip(folders, paths, strict=True)]


def as_text(name: str) -> str:
    """A name with bytes that are no UTF-8 written as %E9: the store and JSON hold text only."""
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in name)


def _folder(item: Found, output_dir: str | None) -> str:
    if output_dir is None:
        return os.path.dirname(item.file.uri)
    return os.path.join(output_dir, item.folder) if item.folder else output_dir


def _words_of(source: InputFile, ext: str | None, index: int) -> dict[str, str]:
    stem, source_ext = os.path.splitext(source.name)
    return {
        "stem": as_text(stem),
        "ext": ext or "",
        "name": as_text(source.name),
        "source_ext": as_text(source_ext.removeprefix(".")),
        "index": str(index),
    }


def _check_template(template: str, words: Mapping[str, str]) -> None:
    try:
        used = [name for _, name, spec, conversion in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UsageError(f"--name-template {template!r}: {error}") from error
    for name in used:
        if name not in words:
            hint = near_match(name, words) or f"; known: {', '.join(sorted(words))}"
            raise UsageError(f"--name-template {template!r}: no such word: {{{name}}}{hint}")
    if "/" in template:
        raise UsageError(f"--name-template {template!r}: a name, not a path; use -o for the folder")


def _fill(template: str, words: Mapping[str, str]) -> str:
    try:
        name = template.format_map(words).replace("/", "_")
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise UsageError(f"--name-template {template!r}: {error}") from error
    if name in ("", ".", ".."):
        raise UsageError(f"--name-template {template!r}: makes the name {name!r}")
    return _shortened(name)


def _shortened(name: str) -> str:
    stem, ext = os.path.splitext(name)
    while len(os.fsencode(stem + ext)) > LONGEST_NAME:
        stem = stem[:-1]
    return stem + ext


def _numbered(paths: Sequence[str | None]) -> list[str | None]:
    taken: set[str] = set()
    result: list[str | None] = []
    for path in paths:
        free, number = path, 1
        while free is not None and free in taken:
            number += 1
            stem, ext = os.path.splitext(path or "")
            free = f"{stem} ({number}){ext}"
        if free is not None:
            taken.add(free)
        result.append(free)
    return result


def _refuse(items: Sequence[Found], paths: Sequence[str | None]) -> None:
    """INV-TORN: no job may replace what it, or another job, reads."""
    sources = {os.path.realpath(item.file.uri) for item in items}
    # One file may have two paths: on a memory card, where A.MP4 and A.mp4 are the same name, or by a mount.
    known = {id_of(item.file.uri) for item in items} - {None}
    for path in paths:
        if path is not None and as_text(path) != path:
            # The store compares the names of outputs as text (INV-DUP).
            raise UsageError(f"{as_text(path)}: the folder's name is not UTF-8; choose another with -o")
        if path is not None and (os.path.realpath(path) in sources or id_of(path) in known):
            raise UsageError(f"{path}: would be output and input at once; choose another folder with -o")
