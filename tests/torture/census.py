"""Who is who below the harness: roles of processes by parent, name and command line, read from /proc."""

import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.torture import leaves, names
from unjam.supervise import linux
from unjam.supervise.mark import get_mark

ROLES = ("worker", "keeper", "guardian", "zygote", "ns-init", "attempt")
_BY_NAME = {"uj-keeper": "keeper", "uj-zygote": "zygote", "uj-guardian": "guardian", "uj-init": "ns-init"}


@dataclass(frozen=True, slots=True)
class Proc:
    """A living process. `slot`: number of the keeper above it; `attempt`: name of the attempt it is of."""

    pid: int
    start: int
    parent: int
    role: str
    attempt: str | None
    slot: int | None

    @property
    def key(self) -> tuple[int, int]:
        """Its own for ever: a reused pid has another start time."""
        return self.pid, self.start


@dataclass(slots=True)
class Census:
    """One look at all living descendants. A snapshot: good for choosing whom to kill, no proof of an end."""

    procs: dict[int, Proc] = field(default_factory=dict)
    below: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def of(self, role: str, slot: int | None = None) -> list[Proc]:
        return [p for p in self.procs.values() if p.role == role and slot in (None, p.slot)]

    def tree(self, top: Proc) -> list[Proc]:
        """The process and everything below it."""
        found, todo = [], [top.pid]
        while todo:
            pid = todo.pop()
            if pid in self.procs:
                found.append(self.procs[pid])
            todo += self.below[pid]
        return found

    def guardian_of(self, proc: Proc) -> Proc | None:
        """The guardian above a process of an attempt, or itself."""
        one: Proc | None = proc
        while one is not None and one.role != "guardian":
            one = self.procs.get(one.parent)
        return one

    def leaves(self) -> int:
        return len(self.of("leaf"))


def take(keepers: Mapping[int, int], run: str) -> Census:
    """Look at everything below this process. `keepers`: pid to number of those that were started here."""
    stats = {pid: stat for pid in linux.all_pids() if (stat := linux.proc_stat(pid)) is not None}
    census = Census()
    for pid, stat in stats.items():
        census.below[stat.ppid].append(pid)
    todo: list[tuple[int, int | None]] = [(pid, None) for pid in census.below[os.getpid()]]
    while todo:
        pid, slot = todo.pop()
        slot = keepers.get(pid, slot)
        todo += [(child, slot) for child in census.below[pid]]
        stat = stats[pid]
        if stat.state not in "ZX":
            role, attempt = _role(pid, stat.ppid, run)
            if pid in keepers and role != "keeper":
                role = "newborn"  # its command line names the worker too, until it has taken its name
            census.procs[pid] = Proc(pid, stat.start_ticks, stat.ppid, role, attempt, slot)
    _tell_attempts_from_leaves(census)
    return census


def _role(pid: int, parent: int, run: str) -> tuple[str, str | None]:
    comm = name_of(pid)
    if comm.startswith("uj:"):
        return "uj", comm.removeprefix("uj:")
    if comm == "sleep":
        return "leaf", attempt_of_leaf(pid, run)
    if comm in _BY_NAME:
        # A fork that has not taken its own name yet looks like its parent; nobody is aimed at by mistake.
        return ("newborn" if name_of(parent) == comm else _BY_NAME[comm]), None
    command = linux.read_small(f"/proc/{pid}/cmdline") or b""
    if b"unjam.worker" in command:
        return "worker", None
    return ("newborn" if b"unjam.supervise." in command else "other"), None


def _tell_attempts_from_leaves(census: Census) -> None:
    """The hopper and daemons not yet executed are called as their attempt is: the first below a guardian or
    PID 1 of a namespace is the attempt itself."""
    firsts: dict[int, Proc] = {}
    for proc in census.of("uj"):
        parent = census.procs.get(proc.parent)
        if parent is not None and parent.role in ("guardian", "ns-init"):
            known = firsts.get(proc.parent)
            if known is None or proc.key[::-1] < known.key[::-1]:
                firsts[proc.parent] = proc
    chosen = {proc.pid for proc in firsts.values()}
    for proc in census.of("uj"):
        role = "attempt" if proc.pid in chosen else "leaf"
        census.procs[proc.pid] = Proc(proc.pid, proc.start, proc.parent, role, proc.attempt, proc.slot)


def name_of(pid: int) -> str:
    return (linux.read_small(f"/proc/{pid}/comm") or b"").decode(errors="replace").strip()


def attempt_of_leaf(pid: int, run: str) -> str | None:
    words = (linux.read_small(f"/proc/{pid}/cmdline") or b"").decode(errors="replace").split("\0")
    if len(words) < 2 or words[0] != leaves.SLEEP:
        return None
    return names.attempt_of_token(run, words[1].partition(".")[2])


def hold(proc: Proc) -> int | None:
    """A pidfd of exactly this process; None when it is gone."""
    try:
        pidfd = os.pidfd_open(proc.pid)
    except OSError:
        return None
    stat = linux.proc_stat(proc.pid)
    if stat is None or stat.start_ticks != proc.start:
        os.close(pidfd)
        return None
    return pidfd


def send(proc: Proc, number: int) -> bool:
    """Signal exactly this process. False when it is gone."""
    pidfd = hold(proc)
    if pidfd is None:
        return False
    try:
        return linux.send_pidfd(pidfd, number)
    finally:
        os.close(pidfd)


def _below_us(pid: int) -> bool:
    """Another torture beside this one calls its attempts the same. All of ours are below us, a subreaper."""
    while pid > 1:
        if pid == os.getpid():
            return True
        stat = linux.proc_stat(pid)
        if stat is None:
            return True  # its parent has just ended: the next look tells
        pid = stat.ppid
    return False


@dataclass(slots=True)
class Doomed:
    """Everything that must be gone after a kill: by identity, by attempt, by the mark of the worker."""

    run: str
    keys: set[tuple[int, int]] = field(default_factory=set)
    attempts: set[str] = field(default_factory=set)
    marks: set[int] = field(default_factory=set)

    def add(self, procs: Iterable[Proc]) -> None:
        for proc in procs:
            self.keys.add(proc.key)
            if proc.attempt:
                self.attempts.add(proc.attempt)

    def alive(self, spared: set[int]) -> dict[int, str]:
        """Who of them lives, looking at every process of the machine but the spared ones."""
        found = {}
        for pid in linux.all_pids():
            stat = linux.proc_stat(pid)
            if stat is None or stat.state in "ZX" or pid in spared:
                continue
            comm = name_of(pid)
            if (
                (pid, stat.start_ticks) in self.keys
                or (comm.removeprefix("uj:") in self.attempts and _below_us(pid))
                or (comm == "sleep" and attempt_of_leaf(pid, self.run) in self.attempts)
                or (bool(self.marks) and get_mark(pid) in self.marks)
            ):
                found[pid] = f"{comm} (state {stat.state}, parent {stat.ppid} {name_of(stat.ppid)})"
        return found


def kill_all(found: Iterable[int]) -> None:
    """End what should have ended by itself, so that it is counted once only."""
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
