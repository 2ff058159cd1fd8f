"""Control groups: found whatever the system looks like, tried for real, and never another's."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from unjam.supervise import cgroup
from unjam.supervise.memory import kernel_kills

V1_MOUNTS = [
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct",
    "35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory",
]


@pytest.mark.parametrize(
    ("groups", "mounts", "found"),
    [
        pytest.param(
            ["0::/user.slice/user-1000.slice/app.scope"],
            ["29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"],
            [(2, "/sys/fs/cgroup/user.slice/user-1000.slice/app.scope")],
            id="v2",
        ),
        pytest.param(
            ["0::/"],
            ["29 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw"],
            [(2, "/sys/fs/cgroup")],
            id="container",
        ),
        pytest.param(
            ["0::/docker/abc"],
            ["29 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw"],
            [(2, "/sys/fs/cgroup")],
            id="container that sees the host's path",
        ),
        pytest.param(
            ["0::/../other"],
            ["29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw"],
            [],
            id="outside of our namespace",
        ),
        pytest.param(
            ["4:memory:/jobs/a", "1:cpu,cpuacct:/", "0::/"],
            [*V1_MOUNTS, "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"],
            [(2, "/sys/fs/cgroup/unified"), (1, "/sys/fs/cgroup/memory/jobs/a")],
            id="hybrid",
        ),
        pytest.param(["1:cpu,cpuacct:/"], V1_MOUNTS[:2], [], id="v1 without memory"),
        pytest.param([], [], [], id="none"),
    ],
)
def test_where_groups_could_be_made(
    groups: list[str], mounts: list[str], found: list[tuple[int, str]]
) -> None:
    assert [(one.version, one.own) for one in cgroup.find(groups, mounts)] == found


def test_a_worker_in_its_leaf_makes_groups_beside_it() -> None:
    assert cgroup.Hierarchy(2, "/sys/fs/cgroup/job.service/unjam.worker").base == "/sys/fs/cgroup/job.service"


@pytest.fixture
def mark() -> int:
    return 1 << 61 | secrets.randbits(40)


@contextmanager
def child(work: Callable[[], None]) -> Iterator[tuple[int, Callable[[], None]]]:
    """A forked process that does `work` once it is let; its number and what lets it."""
    gate, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            if os.read(gate, 1):
                work()
        finally:
            os._exit(0)
    os.close(gate)

    def let() -> None:
        os.write(ours, b"g")

    try:
        yield pid, let
    finally:
        os.close(ours)
        if process_alive(pid):
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # the test waited for it


def needs_group(mark: int, size: int) -> cgroup.Group:
    group = cgroup.make(mark, "1", size)
    if group is None:
        pytest.skip("no control group with a memory limit may be made here")
    return group


@pytest.mark.root
def test_the_kernel_keeps_the_limit_and_tells(mark: int) -> None:
    limit = 64 << 20
    group = needs_group(mark, limit)
    assert cgroup.make(mark, "1", limit) is None, "one of this name is there"

    def eat() -> None:
        held = [bytearray(os.urandom(4096) * 256) for _ in range(200)]
        os._exit(len(held) % 128)

    try:
        before = kernel_kills()
        with child(eat) as (pid, let):
            group.admit(pid)
            assert group.oom_kills() == 0
            assert not group.remove(), "somebody is in it"
            let()
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert group.oom_kills() >= 1, "version 2 also counts that it killed for the whole group"
        assert 0.9 * limit < group.peak() <= limit
        assert kernel_kills() > before
    finally:
        assert group.remove()
    assert not os.path.exists(group.path)
    assert group.remove(), "twice is no harm"


@pytest.mark.root
def test_what_a_dead_worker_left_is_removed_and_nothing_else(mark: int) -> None:
    """INV-STRANGER: the mark in the name decides."""
    left, other = needs_group(mark, 1 << 26), needs_group(mark + 1, 1 << 26)
    try:
        assert cgroup.remove_left([mark]) == 1
        assert not os.path.exists(left.path)
        assert os.path.exists(other.path)
    finally:
        other.remove()


@pytest.mark.root
def test_probing_leaves_nothing() -> None:
    needs_group(5, 1 << 26).remove()
    assert cgroup.probe() in ("v1", "v2")
    assert not [p for one in cgroup.hierarchies() for p in Path(one.base).glob("unjam.0.*")]


@pytest.fixture
def unified() -> str:
    """A version 2 group of our own, with or without controllers."""
    for one in cgroup.hierarchies():
        if one.version == 2 and os.access(one.base, os.W_OK):
            return one.base
    pytest.skip("no control group of version 2 may be made here")


@pytest.mark.root
def test_version_2_kills_what_is_left_at_one_stroke(mark: int, unified: str) -> None:
    group = cgroup.Group(f"{unified}/unjam.{mark:x}.7", 2)
    os.mkdir(group.path)
    try:
        with child(signal.pause) as (pid, let):
            group.admit(pid)
            let()
            assert f"/unjam.{mark:x}.7" in Path(f"/proc/{pid}/cgroup").read_text()
            assert not group.remove()
            assert cgroup.remove_left([mark + 1]) == 0
            assert process_alive(pid)
            cgroup.remove_left([mark])
            wait_until(lambda: not process_alive(pid), 5, "the kernel's kill")
            os.waitpid(pid, 0)
    finally:
        assert group.remove()


@pytest.mark.root
@pytest.mark.parametrize("alone", [True, False])
def test_only_a_group_that_is_all_ours_is_opened_up(mark: int, unified: str, alone: bool) -> None:
    """A version 2 group with processes has no children with limits: its processes must move to a leaf."""
    base = cgroup.Group(f"{unified}/unjam.{mark:x}.base", 2)
    os.mkdir(base.path)
    leaf = cgroup.Group(f"{base.path}/unjam.worker", 2)

    def members(group: cgroup.Group) -> list[int]:
        path = Path(group.path, "cgroup.procs")
        return sorted(map(int, path.read_text().split())) if path.exists() else []

    done, told = os.pipe()

    def open_up() -> None:
        base.admit(os.getpid())
        cgroup._open_up(base.path)
        os.write(told, b"d")
        signal.pause()

    opened = alone and "memory" in Path(base.path, "cgroup.controllers").read_text().split()
    try:
        with child(signal.pause) as (stranger, _), child(open_up) as (worker, let):
            if not alone:
                base.admit(stranger)
            let()
            inside, outside = ([worker], []) if opened else ([], sorted([worker] + [stranger] * (not alone)))
            assert os.read(done, 1) == b"d"
            assert (members(leaf), members(base)) == (inside, outside)
            assert os.path.exists(leaf.path) is opened
    finally:
        os.close(done)
        os.close(told)
        leaf.remove()
        assert base.remove()
