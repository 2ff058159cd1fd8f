"""The few Linux calls that Python's standard library lacks, and reading /proc without a library."""

import ctypes
import functools
import os
import select
import signal
import sys
import time
from typing import NamedTuple

CLONE_NEWNS = 0x20000
CLONE_NEWPID = 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 2, 4, 8, 1 << 14, 1 << 19

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_IOPRIO_SET_SYSCALL = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
_IOPRIO_WHO_PROCESS, _IOPRIO_CLASS_IDLE = 1, 3 << 13

_libc = ctypes.CDLL(None, use_errno=True)
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ProcStat(NamedTuple):
    """What we use of /proc/PID/stat. Times are in clock ticks, `rss` in pages."""

    state: str
    ppid: int
    cpu_ticks: int  # own and waited-for children, user and system
    start_ticks: int
    rss: int


def boottime() -> float:
    """Seconds on the clock that runs through suspend: leases and deadlines must not stand still with the lid
    closed."""
    return time.clock_gettime(_CLOCK)


def _fail(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise _fail(f"prctl({option})")


def set_name(name: str) -> None:
    """The name `ps`, `top` and `pkill` show; the kernel keeps 15 bytes."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def become_subreaper() -> None:
    """Orphans below us become our children instead of init's: only so can we end them for certain."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_death_signal(number: int) -> None:
    """The kernel sends us `number` when our parent dies (the parent's THREAD that forked us, to be exact)."""
    _prctl(_PR_SET_PDEATHSIG, number)


def die_with(parent_pidfd: int) -> None:
    """SIGKILL us when our parent dies, without the race.

    Arm first, then ask the parent's pidfd whether it died before that. getppid() would lie: it is 0 across a
    PID namespace, and under a subreaper an orphan's new parent is not 1.
    """
    set_death_signal(signal.SIGKILL)
    if pidfd_dead(parent_pidfd):
        os._exit(125)


def pidfd_dead(pidfd: int) -> bool:
    """True once the process has ended; a zombie has ended."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def send_pidfd(pidfd: int, number: int) -> bool:
    """Signal through a pidfd. False when the process is already gone."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        raise _fail("unshare")


def leave_new_pid_namespace() -> bool:
    """After unshare(CLONE_NEWPID): the next child is born in our own namespace again. Needed before the next
    unshare, which is refused while the two differ. False where the system does not let us."""
    try:
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # no descriptor left: a guardian must still say how its attempt ended
    try:
        return bool(_libc.setns(own, CLONE_NEWPID) == 0)
    finally:
        os.close(own)


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), None) != 0:
        raise _fail(f"mount {target.decode()}")


def mount_private_proc() -> None:
    """A mount namespace of our own whose /proc shows our own PID namespace.

    Slave, not private: an unmount on the host still reaches us, so a running attempt never pins a disk.
    """
    unshare(CLONE_NEWNS)
    mount(b"none", b"/", None, MS_REC | MS_SLAVE)
    mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def io_idle() -> bool:
    """Disk access only when nobody else wants it. False where the kernel or CPU offers no such call."""
    number = _IOPRIO_SET_SYSCALL.get(os.uname().machine) if sys.platform == "linux" else None
    return number is not None and _libc.syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_CLASS_IDLE) == 0


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Give the blocks of a byte range back to the file system; the size stays. False where it cannot be
    done."""
    if sys.platform != "linux" or length <= 0:
        return False
    mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
    return bool(_libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) == 0)


def read_small(path: str) -> bytes | None:
    """A /proc file in one read, or None when it went away. (os.read: a third of the CPU of open().read().)"""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 65536)
    except OSError:
        return None
    finally:
        os.close(fd)


def read_to_end(fd: int) -> bytes:
    """All that others write into a pipe until the last of them is gone; closes our end."""
    with open(fd, "rb", buffering=0) as pipe:
        return pipe.read()


def proc_stat(pid: int) -> ProcStat | None:
    """None when there is no such process. The command name may hold spaces and ')', so cut at the last
    one."""
    data = read_small(f"/proc/{pid}/stat")
    if not data:
        return None
    field = data[data.rindex(b")") + 2 :].split()
    cpu = int(field[11]) + int(field[12]) + int(field[13]) + int(field[14])
    return ProcStat(field[0].decode(), int(field[1]), cpu, int(field[19]), int(field[21]))


@functools.cache
def _has_children_files() -> bool:
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def children(pid: int | None = None) -> list[int]:
    """Direct children, zombies included. A snapshot: a process that is just being reparented can be
    missing."""
    pid = pid or os.getpid()
    if not _has_children_files():
        return children_by_scan(pid)
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for task in tasks:
        found += map(int, (_read_all(f"/proc/{pid}/task/{task}/children") or b"").split())
    return found


def _read_all(path: str) -> bytes | None:
    """Like read_small, for files that may be longer than one read returns (the children of a fork bomb)."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return None


def children_by_scan(pid: int) -> list[int]:
    """The same from every process's parent: for kernels without CONFIG_PROC_CHILDREN, and as a second
    opinion."""
    return [other for other in all_pids() if (stat := proc_stat(other)) is not None and stat.ppid == pid]


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(pid: int | None = None) -> list[int]:
    pid = pid or os.getpid()
    if not _has_children_files():
        return descendants_by_scan(pid)
    found: list[int] = []
    todo = children(pid)
    while todo:
        one = todo.pop()
        found.append(one)
        todo += children(one)
    return found


def descendants_by_scan(pid: int) -> list[int]:
    """The same from one look at every process: one look per process of the tree cost a guardian 9 ms a second
    (measured, 3 processes among 130)."""
    below: dict[int, list[int]] = {}
    for other in all_pids():
        if (stat := proc_stat(other)) is not None:
            below.setdefault(stat.ppid, []).append(other)
    found: list[int] = []
    todo = below.pop(pid, [])
    while todo:
        one = todo.pop()
        found.append(one)
        todo += below.pop(one, [])  # pop: a number that was reused meanwhile must not make a circle
    return found


def last_born() -> int | None:
    """The number that the kernel gave last in our PID namespace, to a process or a thread: while it stays,
    nobody was born here or in a namespace below. None where the system does not say."""
    words = (read_small("/proc/loadavg") or b"").split()
    return int(words[4]) if len(words) == 5 else None


@functools.cache
def boot_id() -> str:
    """Which boot of this machine it is: no pid of another boot means anything now."""
    return (read_small("/proc/sys/kernel/random/boot_id") or b"").decode().strip()


@functools.cache
def _shared_inode() -> int:
    """The inode every anonymous file has; before Linux 6.9 a pidfd is one of those and its inode says
    nothing."""
    with select.epoll() as probe:
        return os.fstat(probe.fileno()).st_ino


def pidfd_inode(pidfd: int) -> int | None:
    """The pidfs inode, never given to another process until reboot; None before Linux 6.9."""
    inode = os.fstat(pidfd).st_ino
    return None if inode == _shared_inode() else inode


@functools.cache
def pid_namespace() -> int:
    """Which PID namespace our numbers belong to; 0 where the system does not say."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


IdentityFields = tuple[str, int, int, int | None, int]


def identity_fields(pid: int) -> IdentityFields | None:
    """(boot id, pid, start ticks, pidfs inode, PID namespace) of a living process. The pidfd is opened first
    and asked last, so the number cannot have moved to somebody else in between."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        stat = proc_stat(pid)
        if stat is None or pidfd_dead(pidfd):
            return None
        return boot_id(), pid, stat.start_ticks, pidfd_inode(pidfd), pid_namespace()
    finally:
        os.close(pidfd)


def identity_text(fields: IdentityFields) -> str:
    """The compact form for a database column or an environment variable (JSON, written by hand: the keeper
    has no json)."""
    boot, pid, start, inode, namespace = fields
    return f'["{boot}",{pid},{start},{"null" if inode is None else inode},{namespace}]'
