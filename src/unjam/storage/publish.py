"""Publishing: sealed files take their final names, once, whole, and never over somebody else's file
(INV-TORN)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from unjam.errors import Conflict, OutputExists, UnjamError
from unjam.jobs.records import StagedOutput

RENAME_NOREPLACE = 1
AT_FDCWD = -100
F_SETLEASE = 1024
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})
"""What file systems without hard links say to one (many over FUSE: they know no RENAME_NOREPLACE either)."""
_libc = ctypes.CDLL(None, use_errno=True)


class StillWritten(Conflict):
    """Somebody has a staged file open for writing, or changed it after it was sealed."""


def check_sealed(output: StagedOutput) -> None:
    """Raise StillWritten unless the staged file is exactly what the attempt sealed and nobody can be writing
    to it.

    The kernel grants a read lease only on a file that no process holds open for writing: proof against an
    escaped writer, where a look at /proc would be a guess. File systems without leases (NFS, FUSE) rely on
    the ctime alone.
    """
    try:
        fd = os.open(output.staged_path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise StillWritten(f"{output.staged_path}: the staged file is gone") from error
    try:
        stat = os.fstat(fd)
        if (stat.st_ino, stat.st_size, stat.st_ctime_ns) != (
            output.inode,
            output.size_bytes,
            output.ctime_ns,
        ):
            raise StillWritten(f"{output.staged_path}: changed after it was verified")
        try:
            fcntl.fcntl(fd, F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(fd, F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise StillWritten(
                    f"{output.staged_path}: a process still has it open for writing"
                ) from error
            if error.errno not in (errno.EINVAL, errno.EACCES, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
    finally:
        os.close(fd)


def publish(
    outputs: Iterable[StagedOutput], *, replace: bool, passed: Callable[[str], None] = lambda _point: None
) -> None:
    """Give every sealed file its final name, then fsync the folders. Idempotent: after a kill at any point
    the same call goes on where it stopped. Raises OutputExists when a name was taken meanwhile and may not be
    replaced. `passed` hears of each fault point on the way."""
    folders: set[Path] = set()
    for output in outputs:
        _rename(output, replace=replace or output.kind == "manifest")
        if not folders:
            passed("first_renamed")
        folders.add(Path(output.final_path).parent)
    passed("renamed")
    for folder in folders:
        _sync(folder)


def _sync(folder: Path) -> None:
    """So that the names survive a power loss. They are given already: a folder that may be written to but not
    read, or a file system that syncs none (EINVAL), must not end a published job as failed (INV-LOST)."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def already_published(output: StagedOutput) -> bool:
    """Has this very file (by inode) its final name already? Then a roll-forward has nothing to rename."""
    try:
        stat = os.stat(output.final_path)
    except FileNotFoundError:
        return False
    return (stat.st_ino, stat.st_size) == (output.inode, output.size_bytes)


def _rename(output: StagedOutput, *, replace: bool) -> None:
    if already_published(output):
        # Killed between link and unlink, or after the rename: nothing is left to do but to drop the second
        # name.
        Path(output.staged_path).unlink(missing_ok=True)
        return
    try:
        _take_name(output, replace=replace)
    except (UnjamError, OSError):
        # Two workers may roll the same publication forward at once: what the other did is as good, and taken
        # for a failure it ended a published job as failed (INV-LOST).
        if not already_published(output):
            raise


def _take_name(output: StagedOutput, *, replace: bool) -> None:
    if not os.path.lexists(output.staged_path):
        raise StillWritten(f"{output.staged_path}: the staged file is gone and {output.final_path} is not it")
    if replace:
        os.replace(output.staged_path, output.final_path)
        return
    code = _libc.renameat2(
        AT_FDCWD, os.fsencode(output.staged_path), AT_FDCWD, os.fsencode(output.final_path), RENAME_NOREPLACE
    )
    if code == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        raise OutputExists(
            f"{output.final_path}: somebody made a file of this name while the job ran; it was kept"
        )
    if number in (errno.EINVAL, errno.ENOSYS):
        _link_then_unlink(output)
        return
    raise OSError(number, os.strerror(number), output.final_path)


def _link_then_unlink(output: StagedOutput) -> None:
    """RENAME_NOREPLACE for file systems without it: a hard link is refused when the name exists."""
    try:
        os.link(output.staged_path, output.final_path)
    except OSError as error:
        if os.path.lexists(output.final_path):
            raise OutputExists(
                f"{output.final_path}: somebody made a file of this name while the job ran"
            ) from error
        if error.errno not in _NO_LINKS:
            raise
        # No job could be published there. The look above is all that such a file system offers.
        os.rename(output.staged_path, output.final_path)
        return
    os.unlink(output.staged_path)
