"""Which machine this is: an id that two machines never share by accident, as host names do."""

import functools
import hashlib
import hmac
import os
import secrets
from pathlib import Path

_APPLICATION = bytes.fromhex("6d1f0c2e8b5a4c8e9a3d71c4f2b0e65a")
"""Ours, made once; see host_id."""
_MACHINE_ID = Path("/etc/machine-id")
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""The inode of the PID namespace that a kernel boots with (PROC_PID_INIT_INO)."""
_CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
FILE = "host-id"


def host_id(home: Path, given: str = "") -> str:
    """The id of this machine: 32 hexadecimal digits, or `given`, where a person has chosen one.

    Derived from /etc/machine-id as sd_id128_get_machine_app_specific(3) recommends: that number itself is
    confidential. In a container it tells nothing (it is the image's, and so the same in all of them) and a
    system may have none: then it is a number in a file of `home`, made by whoever comes first. An id says who
    shares slots and files. It proves no death: clones of one disk have one id. Raises OSError where the file
    can be neither read nor made.
    """
    return given or _found(home)


@functools.cache
def _found(home: Path) -> str:
    machine = None if _in_container() else _machine_id()
    if machine is None:
        return _from_file(home / FILE)
    return hmac.new(machine, _APPLICATION, hashlib.sha256).digest()[:16].hex()


def _in_container() -> bool:
    if any(os.path.exists(path) for path in _CONTAINER_FILES):
        return True
    try:
        return os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE
    except OSError:
        return False  # no such thing here, or /proc is hidden


def _machine_id() -> bytes | None:
    """None where it is missing, empty, or "uninitialized" as in the image of a disk."""
    try:
        found = bytes.fromhex(_MACHINE_ID.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return found if len(found) == 16 and any(found) else None


def _from_file(path: Path) -> str:
    try:
        known = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return _make(path)
    if not known:
        raise OSError(f"{path} is empty: remove it, and a new id is made")
    return known


def _make(path: Path) -> str:
    """Whole before it has its name, and made once: of two starters the second reads what the first made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new, chosen = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}"), secrets.token_hex(16)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, f"{chosen}\n".encode())
        os.fsync(descriptor)
        os.link(new, path)
    except FileExistsError:
        return _from_file(path)
    finally:
        os.close(descriptor)
        os.unlink(new)
    return chosen
