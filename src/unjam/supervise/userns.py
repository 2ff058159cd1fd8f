"""PID 1 of a new PID namespace for an ordinary user: born inside a user namespace in which he is the only
user.

The guardian stays outside: whoever entered a user namespace cannot come back, and a guardian signals,
identifies, and serves further attempts. So its child is born inside, by clone(2), instead of entering: it is
the guardian's own child from its first instant, and dies with it like any other (PDEATHSIG). With unshare(2)
there would have to be a process between the two, whose death and freezing somebody had to watch.
"""

import ctypes
import os
import signal
import struct
import sys
from typing import NamedTuple

from unjam.supervise.linux import CLONE_NEWPID

CLONE_NEWUSER = 0x10000000
_CLONE_SYSCALL = {"x86_64": 56, "aarch64": 220, "riscv64": 220}
_CAPABILITY_VERSION_3 = 0x20080522

# PyDLL keeps the GIL, as os.fork does: another thread that took it meanwhile would be missing in the child.
_libc = ctypes.PyDLL(None, use_errno=True)


class Ids(NamedTuple):
    """Whom the new namespace knows: nobody else."""

    uid: int
    gid: int


def own_ids() -> Ids | None:
    """None for root, who needs no user namespace to make other ones."""
    return Ids(os.geteuid(), os.getegid()) if os.geteuid() != 0 else None


def fork_inside() -> int:
    """Like os.fork, but the child is PID 1 of a new PID namespace in a new user namespace. There it must call
    `settle` with the ids that the parent had: before that it is nobody.

    Raises OSError where the system refuses it: max_user_namespaces, a seccomp filter, an old kernel. For a
    process with one thread, as os.fork is.
    """
    number = _CLONE_SYSCALL.get(os.uname().machine) if sys.platform == "linux" else None
    if number is None:
        raise OSError(38, "user namespace: not known how on this system")
    flags = ctypes.c_ulong(CLONE_NEWUSER | CLONE_NEWPID | signal.SIGCHLD)
    zero = ctypes.c_ulong(0)
    # What os.fork does around its own call of the kernel (documented for whoever clones a process).
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_libc.syscall(ctypes.c_long(number), flags, zero, zero, zero, zero))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise _failed("user namespace")
    return pid


def settle(ids: Ids) -> None:
    """In the child: be who we were. Files that we make belong to the same user and group as before.

    The kernel lets nobody without privilege map his group before he has given up setgroups(2); groups that
    we have already stay in force, but cannot be named any more.
    """
    _write("setgroups", "deny")
    _write("uid_map", f"{ids.uid} {ids.uid} 1")
    _write("gid_map", f"{ids.gid} {ids.gid} 1")


def drop_capabilities() -> None:
    """Whoever is born into a user namespace has every capability there: an attempt that is only forked, never
    executed, would keep them, and could take its own /proc away."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    none = ctypes.create_string_buffer(24)  # two sets of effective, permitted and inheritable, all empty
    if _libc.capset(header, none) != 0:
        raise _failed("capset")


def _write(name: str, text: str) -> None:
    """One write: the kernel takes a map once and whole."""
    try:
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, f"{name} of a user namespace: {error.strerror}") from error


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
