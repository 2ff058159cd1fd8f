"""Reading the log files of attempts: the tail without reading the whole, and on from any cursor.

A cursor is ATTEMPT.OFFSET, the offset in bytes of the file as it was written. A log that grew too long has a
hole in its middle; offsets stay, and the hole is stepped over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from unjam.errors import NotFound, UsageError
from unjam.jobs.records import AttemptRecord

BLOCK = 1 << 16
_HOLE = bytes(512)
"""No line of a log holds that many NULs: this is the punched middle, and what lies before it is no tail."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the logs of a job: everything before it was seen."""

    attempt: int
    offset: int

    def __str__(self) -> str:
        return f"{self.attempt}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises UsageError."""
        attempt, separator, offset = text.partition(".")
        if not (separator and attempt.isdecimal() and offset.isdecimal()):
            raise UsageError(f"{text!r} is not a place in a log: write ATTEMPT.OFFSET, for example 2.0")
        return cls(int(attempt), int(offset))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some bytes of a log, from `start` on. The `skipped` bytes before them were dropped by rotation."""

    attempt: int
    start: int
    data: bytes
    skipped: int = 0

    @property
    def end(self) -> Cursor:
        return Cursor(self.attempt, self.start + len(self.data))


def tail_start(path: str, lines: int) -> int:
    """The offset where the last `lines` lines begin, found by reading backwards in blocks."""
    if (file := _opened(path)) is None:
        return 0
    with file:
        position = file.seek(0, os.SEEK_END)
        wanted = lines + 1  # the newline before the first of them
        if position and _byte_at(file, position - 1) != b"\n":
            wanted -= 1
        while position > 0:
            begin = max(0, position - BLOCK)
            block = os.pread(file.fileno(), position - begin, begin)
            hole = block.rfind(_HOLE)
            index = len(block)
            while (index := block.rfind(b"\n", hole + 1, index)) >= 0:
                wanted -= 1
                if wanted <= 0:
                    return begin + index + 1
            if hole >= 0:
                return begin + hole + len(_HOLE)
            position = begin
    return 0


def _opened(path: str) -> BinaryIO | None:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def read_from(attempt: AttemptRecord, offset: int) -> Iterator[Chunk]:
    """What the log of one attempt holds from `offset` to its present end; nothing when there is none yet."""
    if attempt.log_path is None:
        return
    if (file := _opened(attempt.log_path)) is None:
        return
    with file:
        while True:
            start = _after_hole(file, offset)
            data = os.pread(file.fileno(), BLOCK, start)
            if not data:
                return
            data = data[: _until_hole(file, start, len(data))]
            yield Chunk(attempt.number, start, data, skipped=start - offset)
            offset = start + len(data)


def read_all(attempts: Sequence[AttemptRecord], cursor: Cursor) -> Iterator[Chunk]:
    """Everything since `cursor`, over all attempts in order."""
    for attempt in attempts:
        if attempt.number >= cursor.attempt:
            yield from read_from(attempt, cursor.offset if attempt.number == cursor.attempt else 0)


def start_of_tail(attempts: Sequence[AttemptRecord], lines: int | None) -> Cursor:
    """The cursor of the last `lines` lines of the newest attempt that has a log; None: of its whole log.

    Raises NotFound when no attempt ever wrote one.
    """
    logged = [a for a in attempts if a.log_path is not None and os.path.exists(a.log_path)]
    if not logged:
        raise NotFound("there is no log: no attempt has started, or `unjam gc` removed it")
    newest = logged[-1]
    assert newest.log_path is not None
    return Cursor(newest.number, 0 if lines is None else tail_start(newest.log_path, lines))


def _byte_at(file: BinaryIO, offset: int) -> bytes:
    return os.pread(file.fileno(), 1, offset)


def _after_hole(file: BinaryIO, offset: int) -> int:
    """The first offset from `offset` on that holds data."""
    if not hasattr(os, "SEEK_DATA"):
        return offset
    try:
        return os.lseek(file.fileno(), offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # only a hole up to the end
            return max(offset, os.fstat(file.fileno()).st_size)
        if error.errno == errno.EINVAL:  # a file system that knows no holes
            return offset
        raise


def _until_hole(file: BinaryIO, start: int, length: int) -> int:
    if not hasattr(os, "SEEK_HOLE"):
        return length
    try:
        return min(length, os.lseek(file.fileno(), start, os.SEEK_HOLE) - start)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EINVAL):
            return length
        raise
