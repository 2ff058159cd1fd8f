"""May this path be opened at all? A FIFO, a device or an empty file is refused before anything can block on
it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from unjam.errors import InputBad, InputMissing, NotPermitted

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_readable(path: Path) -> os.stat_result:
    """Its stat, if `path` is a regular file with bytes in it that we may read.

    Raises InputMissing, InputBad, NotPermitted.
    """
    try:
        # O_NONBLOCK: opening a FIFO without a writer would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise InputMissing(f"{path}: no such file") from error
    except PermissionError as error:
        raise NotPermitted(f"{path}: no permission to read it") from error
    except OSError as error:
        raise InputBad(f"{path}: {error.strerror}") from error
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            raise InputBad(f"{path}: is {name}, not a file")
    if found.st_size == 0:
        raise InputBad(f"{path}: the file is empty")
    return found
