"""A control group of its own for an attempt: the kernel keeps its memory limit, and tells when it killed.

Tried by doing, never by reading a setting: /sys/fs/cgroup is read-only in most containers, and an ordinary
user owns a group only where one was delegated. Where it cannot be done there is no group, and samples have
to do.

Version 2 is the target; version 1 differs in the names of four files. A group only adds to the guardian,
which ends the tree by itself: killing through a group loses whoever joins it a moment later.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

_PREFIX = "unjam"
_LEAF = "unjam.worker"  # where keeper, worker and zygote go: a version 2 group with processes has no children
_REMOVE_TRIES = 20  # of 1 ms: the kernel may let go of a group a moment after its last process was reaped


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where this process may make groups. `own`: the folder of its own group."""

    version: Literal[1, 2]
    own: str

    @property
    def base(self) -> str:
        return os.path.dirname(self.own) if os.path.basename(self.own) == _LEAF else self.own


class Group:
    """One attempt's group. Nobody else ever joins it: its name carries the worker's mark."""

    def __init__(self, path: str, version: Literal[1, 2]) -> None:
        self.path = path
        self._version = version

    def limit_memory(self, size: int) -> None:
        """At most `size` bytes for the whole group, swap included. Raises OSError."""
        if self._version == 1:
            _write(f"{self.path}/memory.limit_in_bytes", str(size))
            _write_if_there(f"{self.path}/memory.memsw.limit_in_bytes", str(size))
            return
        _write(f"{self.path}/memory.max", str(size))
        _write_if_there(f"{self.path}/memory.swap.max", "0")
        # One killed process of a tree leaves the others waiting for it: all or nothing.
        _write_if_there(f"{self.path}/memory.oom.group", "1")

    def admit(self, pid: int) -> None:
        """Put a process in; what it starts from now on is in too. Raises OSError."""
        _write(f"{self.path}/cgroup.procs", str(pid))

    def oom_kills(self) -> int:
        """How many of its processes the kernel killed because the group was over its limit."""
        return _counter(f"{self.path}/{'memory.events' if self._version == 2 else 'memory.oom_control'}")

    def peak(self) -> int:
        """The most bytes it had; file cache counts until it is needed for something else."""
        names = ("memory.peak", "memory.current") if self._version == 2 else ("memory.max_usage_in_bytes",)
        found = (words[0] for name in names if (words := _words(f"{self.path}/{name}")))
        return int(next(found, 0))  # memory.peak came with Linux 5.19

    def remove(self) -> bool:
        """After its last process was reaped. False where the kernel still holds it: the next start tries."""
        for _ in range(_REMOVE_TRIES):
            try:
                os.rmdir(self.path)
            except FileNotFoundError:
                return True
            except OSError:
                time.sleep(0.001)
            else:
                return True
        return False


def hierarchies() -> list[Hierarchy]:
    """The mounted ones that can hold a memory limit, version 2 first, whether or not we may write there."""
    return find(_lines("/proc/self/cgroup"), _lines("/proc/self/mountinfo"))


def find(groups: list[str], mounts: list[str]) -> list[Hierarchy]:
    """The same from the lines of these two files."""
    paths: dict[str, str] = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    found = []
    for line in mounts:
        mount, _, rest = line.partition(" - ")
        root, point = mount.split()[3:5]
        kind, _, options = rest.split(" ")[:3]
        old = kind == "cgroup" and "memory" in options.split(",")
        if not old and kind != "cgroup2":
            continue
        path, above = paths.get("memory" if old else "", "none"), root.rstrip("/") + "/"
        # Without a namespace of its own a container sees the host's path, and a mount that begins below it.
        if f"{path}/".startswith(above) and "/.." not in path:
            found.append(Hierarchy(1 if old else 2, f"{point}/{path[len(above) :]}".rstrip("/")))
    return sorted(found, key=lambda one: -one.version)


def make(mark: int, name: str, memory_bytes: int) -> Group | None:
    """A new group with this memory limit, and nobody in it; None where the system gives us none."""
    for one in hierarchies():
        if one.version == 2 and "memory" not in _words(f"{one.base}/cgroup.subtree_control"):
            continue  # its children could not have a limit
        group = Group(f"{one.base}/{_PREFIX}.{mark:x}.{name}", one.version)
        try:
            os.mkdir(group.path)
        except FileExistsError:
            return None  # the kernel still holds the one before
        except OSError:
            continue
        try:
            group.limit_memory(memory_bytes)
        except OSError:
            group.remove()
            continue
        return group
    return None


def prepare() -> None:
    """Before the worker starts anything: let its version 2 group have children with memory limits.

    A group whose processes are all ours (a service with Delegate=yes, a container) is opened up by moving
    them into a leaf. A group that holds anybody else is not ours to rearrange, and stays as it is.
    """
    for one in hierarchies():
        if one.version == 1 or "memory" in _words(f"{one.base}/cgroup.subtree_control"):
            continue
        if "memory" not in _words(f"{one.base}/cgroup.controllers") or one.base != one.own:
            continue
        _open_up(one.base)


def _open_up(base: str) -> None:
    members = [int(pid) for pid in _words(f"{base}/cgroup.procs")]
    if not members or not all(_is_ours(pid) for pid in members):
        return
    leaf = Group(f"{base}/{_LEAF}", 2)
    try:
        os.makedirs(leaf.path, exist_ok=True)
        for pid in members:
            leaf.admit(pid)
        _write(f"{base}/cgroup.subtree_control", "+memory")
    except OSError:
        # Not delegated, or somebody came in between: everyone back to where they were.
        for pid in members:
            _write_if_there(f"{base}/cgroup.procs", str(pid))
        leaf.remove()


def _is_ours(pid: int) -> bool:
    """This process, or the keeper above it."""
    return pid == os.getpid() or (pid == os.getppid() and _words(f"/proc/{pid}/comm") == ["uj-keeper"])


def remove_left(marks: Iterable[int], name: str = "*") -> int:
    """Remove the groups of workers that are proven dead, by the marks in their names (INV-STRANGER); what
    still lives in them is killed first where the kernel can do it at one stroke. Returns how many went."""
    import fnmatch

    patterns = [f"{_PREFIX}.{mark:x}.{name}" for mark in marks]
    if not patterns:
        return 0
    gone = 0
    for one in hierarchies():
        for entry in _entries(one.base):
            if any(fnmatch.fnmatchcase(entry, pattern) for pattern in patterns):
                group = Group(f"{one.base}/{entry}", one.version)
                _write_if_there(f"{group.path}/cgroup.kill", "1")
                gone += group.remove()
    return gone


def probe() -> str:
    """What an attempt with a memory limit would get here, by doing it once in a throw-away fork: "v2", "v1",
    or "" for none."""
    group = make(0, f"probe{os.getpid()}", 1 << 26)
    if group is None:
        return ""
    gate, ours = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        os.read(gate, 1)
        os._exit(0)
    try:
        group.admit(child)
        inside = str(child) in _words(f"{group.path}/cgroup.procs")
    except OSError:
        inside = False
    os.close(ours)
    os.close(gate)
    os.waitpid(child, 0)
    group.remove()
    return f"v{group._version}" if inside else ""


def _counter(path: str) -> int:
    for line in _lines(path):
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _write_if_there(path: str, text: str) -> None:
    """For what some kernels lack, and what is lost without harm."""
    try:
        _write(path, text)
    except OSError:
        return


def _lines(path: str) -> list[str]:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _words(path: str) -> list[str]:
    return " ".join(_lines(path)).split()


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
