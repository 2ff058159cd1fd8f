"""Which process that was: an identity that survives in a database, and the only safe way back to the
process."""

import errno
import json
import os
import sys
from dataclasses import dataclass

from unjam.supervise import linux


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, told apart from every other that had or will have its number.

    pid and start time alone collide when a pid is reused within one 10 ms tick (measured); `inode` (pidfs,
    Linux 6.9) never does before a reboot, and `boot_id` tells this boot from all others. `namespace` is the
    PID namespace that the number belongs to: in another container of the same boot it says nothing (0: not
    known).
    """

    boot_id: str
    pid: int
    start_ticks: int
    inode: int | None
    namespace: int = 0

    def to_json(self) -> str:
        return linux.identity_text((self.boot_id, self.pid, self.start_ticks, self.inode, self.namespace))

    @classmethod
    def from_json(cls, text: str) -> "Identity":
        """Raises ValueError when the text is no identity."""
        try:
            boot, pid, start, inode, namespace = json.loads(text)
            return cls(str(boot), int(pid), int(start), None if inode is None else int(inode), int(namespace))
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a process identity: {text!r}") from error


def boot_id() -> str:
    return linux.boot_id()


def of_this_boot(identity: Identity) -> bool:
    """Did this process start on the kernel that runs here now? Of no other one we can see anything."""
    return identity.boot_id == boot_id()


def identity_of(pid: int) -> Identity | None:
    """None when the process does not live (a zombie does not), or the system has no pidfds."""
    if sys.platform != "linux":
        return None
    fields = linux.identity_fields(pid)
    return None if fields is None else Identity(*fields)


def open_if_same(identity: Identity) -> int | None:
    """A pidfd of exactly that process, which the caller closes; None if it is dead, or the pid is somebody
    else's now.

    INV-STRANGER: open, compare, then ask whether it still lives. A process that is alive after the comparison
    had the number all along, so the pidfd is of the process that was compared. Raises OSError where the
    system cannot tell (no descriptors left, /proc hidden, another container): that proves nothing. Neither
    does another boot id: it may be this machine's last boot, or the running one of a machine that shares our
    name, and even our disk's id (a clone). Only silence on the store's clock decides there.
    """
    if sys.platform != "linux":
        return None
    if not of_this_boot(identity):
        raise PermissionError(errno.EACCES, "lives in another boot, if it lives", f"process {identity.pid}")
    if 0 not in (identity.namespace, linux.pid_namespace()) and identity.namespace != linux.pid_namespace():
        raise PermissionError(errno.EACCES, "lives in another PID namespace", f"process {identity.pid}")
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):  # nobody's, or a thread's now
            return None
        raise
    try:
        same = _is_same(identity, pidfd) and not linux.pidfd_dead(pidfd)
    except BaseException:
        os.close(pidfd)
        raise
    if same:
        return pidfd
    os.close(pidfd)
    return None


def _is_same(identity: Identity, pidfd: int) -> bool:
    stat = linux.proc_stat(identity.pid)
    if stat is None and not linux.pidfd_dead(pidfd):
        raise PermissionError(errno.EACCES, "cannot be read", f"/proc/{identity.pid}/stat")
    if stat is None or stat.start_ticks != identity.start_ticks:
        return False
    return identity.inode is None or linux.pidfd_inode(pidfd) in (None, identity.inode)


def is_alive(identity: Identity) -> bool:
    """False only when its death is proven (INV-ONCE): its jobs are given to others."""
    try:
        pidfd = open_if_same(identity)
    except OSError:
        return True
    if pidfd is None:
        return False
    os.close(pidfd)
    return True
