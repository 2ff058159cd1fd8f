"""Inputs as people name them (files, folders, globs, a list on stdin) become files with size and time."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unjam.errors import InputBad, InputMissing, UsageError
from unjam.jobs.model import InputFile
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.storage import manifest

_NOT_YET = ("s3://", "gs://", "http://", "https://")


@dataclass(frozen=True, slots=True)
class Found:
    """One input. `folder` is where it lay below the folder or pattern it came from ("" at its top); an output
    tree repeats it. `problem` is known already from looking at the name: not a file, empty, not readable."""

    file: InputFile
    folder: str
    problem: Reason | None = None


@dataclass(frozen=True, slots=True)
class Expansion:
    """What the arguments stand for, in the order given (folders by name), each file once."""

    items: tuple[Found, ...]
    warnings: tuple[str, ...]


def expand(
    names: Sequence[str],
    *,
    cwd: str,
    suffixes: frozenset[str],
    output_dir: str | None = None,
    listed: bytes | None = None,
) -> Expansion:
    """The files that `names` stand for.

    `suffixes` (lower case) says what a folder's expansion takes; a file named itself is always taken.
    `output_dir` inside an input folder is left out. `listed` is what stands on stdin for the name `-`: one
    name a line, or separated by NUL. Raises InputMissing for a name that is not there, a pattern or folder
    without any file; UsageError for an address of a kind that is not supported.
    """
    walk = _Walk(suffixes, output_dir)
    for name in names:
        if name == "-":
            for line in _lines(listed or b""):
                walk.named(line, cwd)
        else:
            walk.named(name, cwd)
    return Expansion(tuple(walk.found.values()), tuple(walk.warnings))


def refuse_address(name: str, what: str) -> None:
    """Raise UsageError for an address that would otherwise be taken for a strange local path."""
    if name.startswith(_NOT_YET):
        raise UsageError(f"{name}: {what} {name.partition('://')[0]}:// are not built yet in this version")


def inspect(path: str) -> Found:
    """One file with its size and time, and what is wrong with it, if that can be seen from outside."""
    name = os.path.basename(path)
    try:
        seen = os.stat(path)
    except OSError as error:
        return Found(InputFile(name, path), "", _cannot_stat(path, error))
    file = InputFile(name, path, seen.st_size, seen.st_mtime_ns)
    return Found(file, "", _problem(path, seen))


def refuse(found: Found) -> None:
    """Raise the problem of an input that was asked for by name."""
    if found.problem is None:
        return
    if found.problem.code is ReasonCode.INPUT_MISSING:
        raise InputMissing(found.problem.message)
    raise InputBad(found.problem.message, code=found.problem.code)


def _cannot_stat(path: str, error: OSError) -> Reason:
    if error.errno == errno.ENOENT and (target := _leads_to(path)) is not None:
        return Reason(ReasonCode.INPUT_MISSING, f"{path}: a link to {target!r}, which is not there")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Reason(ReasonCode.INPUT_MISSING, f"{path}: no such file")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Reason(ReasonCode.PERMISSION, f"{path}: a folder on the way may not be entered")
    if error.errno == errno.ELOOP:
        return Reason(ReasonCode.INPUT_BAD, f"{path}: a link that leads back to itself")
    return Reason(ReasonCode.INPUT_BAD, f"{path}: {error.strerror or error}")


def _leads_to(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None  # no link, or removed since: of a whole folder only this one is missing


_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISDIR, "a folder"),
)


def _problem(path: str, seen: os.stat_result) -> Reason | None:
    for is_kind, kind in _KINDS:
        if is_kind(seen.st_mode):
            return Reason(ReasonCode.INPUT_BAD, f"{path}: is {kind}, not a file")
    # Before the size: who may not read a file should not be told first to fill it.
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        return Reason(ReasonCode.PERMISSION, f"{path}: may not be read; change its mode or its owner")
    if seen.st_size == 0:
        return Reason(ReasonCode.INPUT_BAD, f"{path}: is empty (0 bytes)")
    return None


def _lines(raw: bytes) -> Iterator[str]:
    for part in raw.split(b"\0" if b"\0" in raw else b"\n"):
        line = part if b"\0" in raw else part.removesuffix(b"\r")
        if line:
            yield os.fsdecode(line)


class _Walk:
    """Collects files; keeps each once, by absolute path."""

    def __init__(self, suffixes: frozenset[str], output_dir: str | None) -> None:
        self.found: dict[str, Found] = {}
        self.warnings: list[str] = []
        self._suffixes = suffixes
        self._output_dir = output_dir
        self._walked: set[tuple[int, int]] = set()
        self._output_id = id_of(output_dir) if output_dir else None

    def named(self, name: str, cwd: str) -> None:
        refuse_address(name, "inputs from")
        # normpath would turn link/.. into something else than the kernel does.
        path = os.path.join(cwd, name)
        if os.path.lexists(path):
            self._existing(path)
        elif glob.has_magic(name):
            self._pattern(name, path)
        else:
            raise InputMissing(f"{name}: no such file or folder")

    def _existing(self, path: str) -> None:
        if os.path.isdir(path):
            path = os.path.realpath(path)
            before = len(self.found)
            self._folder(path, path)
            if len(self.found) == before and not self._has_any(path):
                wanted = " ".join(sorted(self._suffixes))
                raise InputMissing(f"{path}: no file in this folder ends in one of: {wanted}")
        else:
            self._add(_absolute(path), "")

    def _has_any(self, path: str) -> bool:
        return any(known.startswith(path + os.sep) for known in self.found)

    def _pattern(self, name: str, pattern: str) -> None:
        hits = sorted(glob.glob(pattern, recursive=True))
        if not hits:
            raise InputMissing(f"{name}: no file matches this pattern")
        root = _absolute(_fixed_part(pattern))
        for hit in hits:
            if os.path.isdir(hit):
                # `**` names every folder along the way, and its files by themselves.
                if "**" not in name:
                    self._existing(hit)
            else:
                path = _absolute(hit)
                self._add(path, os.path.relpath(os.path.dirname(path), root))

    def _folder(self, root: str, path: str) -> None:
        here = id_of(path)
        # Links may lead back up: without this a folder that is its own ancestor would be walked for ever.
        if here is None or here in self._walked or (here == self._output_id and path != root):
            return
        self._walked.add(here)
        try:
            entries = sorted(os.scandir(path), key=lambda e: e.name)
        except OSError as error:
            self.warnings.append(f"{path}: left out: {error.strerror or error}")
            return
        names = {entry.name for entry in entries}
        own_outputs_here = self._output_dir is None or here == self._output_id
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(manifest.SUFFIX):
                continue
            # Not entry.is_dir(): that raises on a link that leads to itself.
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                self._folder(root, entry.path)
            elif self._takes(entry) and not (own_outputs_here and entry.name + manifest.SUFFIX in names):
                self._add(entry.path, os.path.relpath(path, root))

    def _takes(self, entry: os.DirEntry[str]) -> bool:
        if os.path.splitext(entry.name)[1].lower() not in self._suffixes:
            return False
        # A broken link is taken: its job says so. A FIFO or device that nobody named is not.
        return entry.is_symlink() or entry.is_file()

    def _add(self, path: str, folder: str) -> None:
        if path not in self.found:
            seen = inspect(path)
            self.found[path] = Found(seen.file, "" if folder == "." else folder, seen.problem)


def _absolute(path: str) -> str:
    """Absolute with `..` resolved as the kernel does, but the last name kept, also when it is a link."""
    head, tail = os.path.split(path)
    return os.path.join(os.path.realpath(head), tail)


def _fixed_part(pattern: str) -> str:
    head = pattern
    while glob.has_magic(head):
        head = os.path.dirname(head)
    return head


def id_of(path: str) -> tuple[int, int] | None:
    """Which file or folder that is, by whatever path; None where there is none."""
    try:
        seen = os.stat(path)
    except OSError:
        return None  # not there (yet), or vanished meanwhile: nothing to walk or to leave out
    return seen.st_dev, seen.st_ino
