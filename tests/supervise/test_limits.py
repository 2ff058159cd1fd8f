"""Limits are kept whatever the attempt does (INV-DEADLINE)."""

import asyncio
import math
import os
import signal
from pathlib import Path

import pytest

from tests.supervise import hang_table
from tests.supervise.rig import hear, in_subreaper, launcher, named, run, spec, state_of, until
from unjam.supervise import cgroup, linux
from unjam.supervise.launch import Launcher, LaunchFailed, Limits, Usage

GRACE = 0.3
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096


@pytest.mark.parametrize(
    "bad", [{"deadline": 0.0}, {"deadline": 1.0, "grace": -1.0}, {"deadline": None, "memory_bytes": 0}]
)
def test_limits_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Limits(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("containment", "kind"),
    [
        pytest.param(containment, kind, marks=pytest.mark.pidns if containment == "pidns" else ())
        for containment in ("tree", "pidns")
        for kind in hang_table.cases(containment)
    ],
)
def test_every_way_to_hang_ends_by_deadline_and_grace(tmp_path: Path, kind: str, containment: str) -> None:
    """The promise is limit + grace + 1 s; half of that second is the clock behind a frozen guardian."""
    hung = hang_table.hang(tmp_path, kind, containment)
    assert hung.late < hang_table.PROMISE
    assert hung.end is not None
    if kind in ("kill_guardian", "stop_guardian"):
        assert hung.end.guardian_died
    assert hung.end.reason == (None if kind in ("kill_own_group", "kill_guardian") else "deadline")
    if kind in ("ignore_everything", "handler_that_cannot_run", "threads_gone_by_fork"):
        assert hung.end.signal == signal.SIGKILL
        assert hung.late >= 0.0


@pytest.mark.parametrize("role", hang_table.FROZEN)
def test_whoever_of_ours_is_frozen_the_limit_holds(tmp_path: Path, role: str) -> None:
    assert hang_table.freeze(tmp_path, role, "tree").late < hang_table.PROMISE


def test_what_has_threads_is_spawned(tmp_path: Path) -> None:
    """The same library, the same module and preload, in a fresh interpreter instead of a fork."""

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(
                spec(
                    tmp_path,
                    "decode_on",
                    preload=hang_table.PRELOAD["threads_gone_by_fork"],
                    isolation="spawn",
                )
            )
            tree.go(math.inf)
            assert (await tree.done()).exit_code == 0

    run(scenario)


def test_the_end_of_the_lease_comes_before_the_lease_ends(tmp_path: Path) -> None:
    """INV-ONCE: a frozen worker cannot keep a zombie writing; the guardian alone ends the tree in time."""

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "hang", payload={"kind": "ignore_everything"}, grace=5.0))
            lease_until = linux.boottime() + 3.5
            tree.go(lease_until)
            end = await tree.done()
            assert end.reason == "lease"
            assert linux.boottime() < lease_until

    run(scenario)


def test_renewals_keep_an_attempt_alive(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "sleep", payload={"seconds": 2.0}))
            tree.go(linux.boottime() + 3.6)
            for _ in range(10):
                await asyncio.sleep(0.2)
                tree.renew(linux.boottime() + 3.6)
            assert (await tree.done()).reason is None

    run(scenario)


def test_a_lease_that_is_over_starts_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            witness = tmp_path / "ran"
            tree = await one.launch(spec(tmp_path, "touch", payload={"path": str(witness)}))
            tree.go(linux.boottime() + 0.5)
            assert (await tree.done()).reason == "lease"
            with pytest.raises(LaunchFailed, match="lease"):
                await tree.started()
            assert not witness.exists()

    run(scenario)


@pytest.mark.parametrize("containment", ["tree", pytest.param("pidns", marks=pytest.mark.pidns)])
def test_stop_sends_term_once_and_kills_after_the_grace(tmp_path: Path, containment: str) -> None:
    """Two TERMs make ffmpeg drop its trailer: however often stop is called, one is sent."""

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(
                spec(tmp_path, "count_terms", payload={"seconds": 1.0}, containment=containment)
            )
            tree.go(math.inf)
            assert await hear(tree) == b"up"
            for _ in range(5):
                tree.stop("cancelled", grace=20.0)
                await asyncio.sleep(0.05)
            assert await hear(tree) == b"1"
            end = await tree.done()
            assert (end.exit_code, end.reason) == (0, "cancelled")

            tree = await one.launch(spec(tmp_path, "count_terms", containment=containment))
            tree.go(math.inf)
            assert await hear(tree) == b"up"
            asked = linux.boottime()
            tree.stop("cancelled", grace=0.4)
            end = await tree.done()
            assert (end.signal, end.reason) == (signal.SIGKILL, "cancelled")
            assert 0.4 <= linux.boottime() - asked < 1.4

    run(scenario)


@pytest.mark.parametrize("containment", ["tree", pytest.param("pidns", marks=pytest.mark.pidns)])
def test_a_stop_reaches_the_attempts_own_handler_and_the_first_reason_stays(
    tmp_path: Path, containment: str
) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "leave_on_term", containment=containment))
            tree.go(math.inf)
            await hear(tree)
            tree.stop("paused")
            tree.kill("cancelled")
            end = await tree.done()
            assert end.reason == "paused"

            tree = await one.launch(spec(tmp_path, "leave_on_term", containment=containment))
            tree.go(math.inf)
            await hear(tree)
            tree.stop("paused", grace=20.0)
            assert (await tree.done()).exit_code == 5

    run(scenario)


def test_a_stop_right_after_go_is_not_lost(tmp_path: Path) -> None:
    """The TERM may come between the fork and the handlers; it is held back, not dropped."""

    async def scenario() -> None:
        async with launcher() as one:
            for _ in range(20):
                tree = await one.launch(spec(tmp_path, "sleep", grace=20.0))
                tree.go(math.inf)
                tree.stop("cancelled")
                end = await tree.done()
                assert (end.signal, end.reason) == (signal.SIGTERM, "cancelled")

    run(scenario)


@pytest.mark.pidns
def test_a_stop_right_after_go_is_not_lost_in_a_namespace(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            for _ in range(20):
                tree = await one.launch(spec(tmp_path, "sleep", grace=20.0, containment="pidns"))
                tree.go(math.inf)
                tree.stop("cancelled")
                end = await tree.done()
                assert (end.signal, end.reason) == (signal.SIGTERM, "cancelled")

    run(scenario)


def test_a_stop_before_go_starts_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "sleep"))
            tree.stop("cancelled")
            end = await tree.done()
            assert (end.reason, end.exit_code, end.signal) == ("cancelled", None, None)

    run(scenario)


LIMIT = 150 << 20


@pytest.mark.root
@pytest.mark.parametrize("containment", ["tree", "pidns"])
@pytest.mark.parametrize("entry", ["grow_memory", "wait_for_a_hungry_child"])
def test_the_kernel_ends_a_tree_over_its_memory_limit(tmp_path: Path, containment: str, entry: str) -> None:
    if not cgroup.probe():
        pytest.skip("no control group with a memory limit may be made here")

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, entry, memory_bytes=LIMIT, containment=containment))
            tree.go(math.inf)
            assert (await tree.started()).containment == f"{containment}+cgroup"
            end = await tree.done()
            assert (end.signal, end.reason, end.oom) == (signal.SIGKILL, "memory", "group")
            assert 0.9 * LIMIT < end.peak_rss_bytes <= LIMIT, "not a byte more"
            assert "ended for memory: peak 1" in (tmp_path / "log").read_text()
            assert groups_of(one) == []

    run(scenario)


@pytest.mark.root
def test_a_guardian_that_is_killed_leaves_no_group(tmp_path: Path) -> None:
    if not cgroup.probe():
        pytest.skip("no control group with a memory limit may be made here")

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "sleep", memory_bytes=LIMIT))
            tree.go(math.inf)
            await tree.started()
            assert len(groups_of(one)) == 1
            signal.pidfd_send_signal(tree._pidfd, signal.SIGKILL)
            assert (await tree.done()).guardian_died
            assert groups_of(one) == []

    run(scenario)


def groups_of(one: Launcher) -> list[str]:
    return [
        name for there in cgroup.hierarchies() for name in os.listdir(there.base)
        if name.startswith(f"unjam.{one._mark:x}.")
    ]  # fmt: skip


@pytest.mark.root
def test_samples_end_a_tree_where_the_kernel_does_not(tmp_path: Path) -> None:
    """As in most containers: /sys/fs/cgroup is there, and read-only."""

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "grow_memory", memory_bytes=LIMIT))
            tree.go(math.inf)
            assert (await tree.started()).containment == "tree"
            end = await tree.done()
            assert (end.signal, end.reason, end.oom) == (signal.SIGKILL, "memory", None)
            # 200 MB/s: a tenth of a second of sampling above 80 % lets 20 MB slip by, a slow machine a few
            # more.
            assert LIMIT < end.peak_rss_bytes < 2 * LIMIT

    def in_container() -> None:
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount(b"none", b"/", None, linux.MS_REC | linux.MS_SLAVE)
        for point in {there.own for there in cgroup.hierarchies()}:
            linux.mount(point.encode(), point.encode(), None, MS_BIND)
            linux.mount(b"none", point.encode(), None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        assert cgroup.probe() == ""
        run(scenario)

    in_subreaper(in_container)


@pytest.mark.parametrize("containment", ["tree", pytest.param("pidns", marks=pytest.mark.pidns)])
def test_usage_is_plausible(tmp_path: Path, containment: str) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            ballast = 64 << 20
            payload = {"bytes": ballast, "seconds": 2.5}
            tree = await one.launch(spec(tmp_path, "spin", payload=payload, containment=containment))
            seen: list[Usage] = []
            tree.on_usage = seen.append
            tree.go(math.inf)
            await until(lambda: len(seen) >= 2, what="two samples")
            assert seen[-1] == tree.usage
            assert seen[-1].processes == 2
            assert seen[-1].rss_bytes > 2 * ballast
            assert seen[0].cpu_seconds < seen[1].cpu_seconds < 2 * 2.5
            assert 0.5 < seen[1].at - seen[0].at < 2.0
            end = await tree.done()
            assert end.peak_rss_bytes > 2 * ballast
            assert seen[-1].cpu_seconds <= end.cpu_seconds < 2 * 3.0

    run(scenario)


def test_a_frozen_guardian_is_overdue_and_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "sleep", deadline=0.5, grace=0.2))
            tree.go(math.inf)
            await tree.started()
            signal.pidfd_send_signal(tree._pidfd, signal.SIGSTOP)
            await until(lambda: state_of(tree.identity.pid) == "T", what="the frozen guardian")
            went = linux.boottime()
            end = await tree.done()
            assert linux.boottime() - went < 0.5 + 0.2 + 1.0
            assert (end.guardian_died, end.reason) == (True, "deadline")
            assert named("uj:") == []

    run(scenario)


@pytest.mark.parametrize("how", ["stop", "kill", "lease"])
def test_a_frozen_guardian_obeys_all_the_same(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "sleep", deadline=None))
            lease_until = linux.boottime() + (2.0 if how == "lease" else math.inf)
            tree.go(lease_until)
            signal.pidfd_send_signal(tree._pidfd, signal.SIGSTOP)
            if how == "stop":
                tree.stop("cancelled", grace=0.2)
            elif how == "kill":
                tree.kill("cancelled")
            end = await tree.done()
            assert end.reason == ("lease" if how == "lease" else "cancelled")
            assert linux.boottime() < lease_until
            assert named("uj:") + named("uj-guardian") == []

    run(scenario)
