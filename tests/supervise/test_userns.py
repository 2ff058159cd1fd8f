"""PID namespaces for an ordinary user: what an attempt is inside, what refuses one, and every death on the
way to it (INV-ORPHAN)."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.supervise.rig import hear, in_subreaper, launcher, named, run, spec, until
from unjam.cli.doctor import Finding, _containment
from unjam.settings import load
from unjam.supervise import linux, nsprobe, userns
from unjam.supervise.launch import Launcher, LaunchFailed
from unjam.supervise.mark import new_mark
from unjam.supervise.nursery import ZygoteProcess
from unjam.supervise.sweep import marked_processes, sweep

UNBORN, UNBORN_NAME = ("tests.supervise.slow_birth",), "uj-unborn"
MS_BIND = 4096
LIMIT = Path("/proc/sys/user/max_user_namespaces")


def ordinary(test: Any) -> Any:
    """For an ordinary user who may have user namespaces."""
    return pytest.mark.ordinary(pytest.mark.pidns(test))


@ordinary
@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_inside_it_is_the_same_user_without_any_capability(tmp_path: Path, isolation: str) -> None:
    made = tmp_path / "made"

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(
                spec(
                    tmp_path,
                    "who_am_i",
                    payload={"path": str(made)},
                    containment="pidns",
                    isolation=isolation,
                )
            )
            tree.go(math.inf)
            told = json.loads(await hear(tree))
            assert (await tree.done()).exit_code == 0
        assert told["ids"] == [os.getuid(), os.geteuid(), os.getgid(), os.getegid()]
        assert told["capabilities"] == ["0" * 16] * 4  # inheritable, permitted, effective, ambient
        assert told["unmounts_proc"] is False
        assert told["namespace"] != os.readlink("/proc/self/ns/user")

    run(scenario)
    assert (made.stat().st_uid, made.stat().st_gid) == (os.getuid(), os.getgid())


@ordinary
def test_the_guardian_stays_outside(tmp_path: Path) -> None:
    """Inside it could not come back, and would see other numbers than its worker."""

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "sleep", payload={"announce": True}, containment="pidns"))
            tree.go(math.inf)
            await hear(tree)
            for kind in ("user", "pid"):
                outside = os.readlink(f"/proc/self/ns/{kind}")
                assert os.readlink(f"/proc/{tree.identity.pid}/ns/{kind}") == outside
                assert os.readlink(f"/proc/{named('uj-init')[0]}/ns/{kind}") != outside
            tree.kill("seen")
            await tree.done()

    run(scenario)


# -- deaths before the attempt exists ----------------------------------------------------------------------


@ordinary
def test_one_that_never_comes_to_life_is_over_at_its_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(
                spec(tmp_path, "nothing", containment="pidns", preload=UNBORN, deadline=0.5, grace=0.2)
            )
            went = linux.boottime()
            tree.go(math.inf)
            end = await tree.done()
            assert linux.boottime() - went < 0.5 + 0.2 + 1.0
            assert (end.reason, end.signal) == ("deadline", signal.SIGKILL)
            assert named(UNBORN_NAME) == []
            with pytest.raises(LaunchFailed):
                await tree.started()

    run(scenario)


@ordinary
@pytest.mark.parametrize("victim", ["guardian", "unborn"])
def test_a_death_before_it_comes_to_life_leaves_nothing(tmp_path: Path, victim: str) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            witness = tmp_path / "ran"
            tree = await one.launch(
                spec(tmp_path, "touch", payload={"path": str(witness)}, containment="pidns", preload=UNBORN)
            )
            tree.go(math.inf)
            (unborn,) = await until(lambda: named(UNBORN_NAME), what="PID 1")
            assert linux.children(tree.identity.pid) == [unborn], "nobody is between it and its guardian"
            os.kill(tree.identity.pid if victim == "guardian" else unborn, signal.SIGKILL)
            end = await tree.done()
            assert end.guardian_died == (victim == "guardian")
            assert end.signal == (None if victim == "guardian" else signal.SIGKILL)
            assert named(UNBORN_NAME) == []
            assert not witness.exists()

    run(scenario)


@pytest.fixture
def unborn_worker(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A worker whose attempt never comes to life, and its mark."""
    mark = new_mark(12)
    script = (
        "import asyncio, math, sys\n"
        "from pathlib import Path\n"
        "from tests.supervise.rig import launcher, spec\n"
        f"from tests.supervise.test_userns import UNBORN\n"
        "async def main():\n"
        f"    async with launcher(mark={mark}) as one:\n"
        f"        folder = Path({str(tmp_path)!r})\n"
        "        tree = await one.launch(spec(folder, containment='pidns', preload=UNBORN))\n"
        "        tree.go(math.inf)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    yield process, mark
    process.kill()
    process.wait()
    sweep([mark])


@ordinary
@pytest.mark.parametrize("all_at_once", [False, True])
def test_a_worker_killed_before_it_comes_to_life_leaves_nothing(
    unborn_worker: tuple[subprocess.Popen[bytes], int], all_at_once: bool
) -> None:
    """`all_at_once`: the guardian too, which then cannot clean up; the kernel must."""
    worker, mark = unborn_worker
    wait_until(lambda: named(UNBORN_NAME, worker.pid), what="PID 1")
    doomed = [worker.pid, *(named("uj-guardian", worker.pid) if all_at_once else [])]
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not marked_processes(mark), timeout=2.0, what="the end of everything")


# -- refused -----------------------------------------------------------------------------------------------


def in_stingy_system(work: Callable[[], None], at_once: bool = True) -> None:
    """Run `work` where an ordinary user gets no (more) user namespaces. The limit is that of a namespace
    around us, so nobody else notices."""

    def inside() -> None:
        ids = userns.own_ids()
        assert ids is not None
        linux.unshare(userns.CLONE_NEWUSER)
        userns.settle(ids)
        if at_once:
            LIMIT.write_text("0")
        work()

    in_subreaper(inside)


def doctor(containment: str) -> Finding:
    return _containment(load(env={"UNJAM_CONTAINMENT": containment}))


@ordinary
def test_where_it_is_refused_whoever_insists_is_told_why_and_nobody_else_notices(tmp_path: Path) -> None:
    async def insisting() -> None:
        async with launcher(default_containment="pidns") as one:
            with pytest.raises(LaunchFailed, match=r"limit on namespaces .* is 0.*sudo sysctl user.max_user"):
                await one.launch(spec(tmp_path, containment="auto"))

    async def modest() -> None:
        async with launcher(default_containment="auto") as one:
            tree = await one.launch(spec(tmp_path, containment="auto"))
            tree.go(math.inf)
            assert (await tree.started()).containment == "tree"
            assert (await tree.done()).exit_code == 0

    def work() -> None:
        run(insisting)
        run(modest)
        found = doctor("pidns")
        assert found.verdict == "fail"
        assert "max_user_namespaces is 0" in found.found
        assert "sysctl" in found.fix
        assert doctor("auto").verdict == "warn"
        assert doctor("tree").verdict == "ok"

    in_stingy_system(work)


@ordinary
def test_a_masked_proc_as_in_docker_refuses_it_too() -> None:
    """There the user namespace can be had (without the seccomp filter), and its own /proc cannot."""

    def work() -> None:
        assert nsprobe.obstacle(insist=True) is None
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount(b"/dev/null", b"/proc/version", None, MS_BIND)
        found = nsprobe.obstacle(insist=True)
        assert found is not None
        assert "mount /proc: Operation not permitted" in found.why
        assert "systempaths=unconfined" in found.way_out

    in_stingy_system(work, at_once=False)


@ordinary
def test_namespaces_that_run_out_later_fail_the_start_and_the_log_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            witness = tmp_path / "ran"
            tree = await one.launch(
                spec(tmp_path, "touch", payload={"path": str(witness)}, containment="pidns")
            )
            LIMIT.write_text("0")
            tree.go(math.inf)
            assert (await tree.done()).reason == "start_failed"
            with pytest.raises(LaunchFailed, match="user namespace: No space left"):
                await tree.started()
            assert not witness.exists()
            assert "user namespace: No space left" in (tmp_path / "log").read_text()
            assert named("uj-init") + named("uj:") == []

    in_stingy_system(lambda: run(scenario), at_once=False)


@ordinary
def test_auto_stays_with_the_tree_and_the_doctor_offers_more(tmp_path: Path) -> None:
    """It maps one user and disarms setuid tools: nobody gets that without having asked."""

    async def scenario() -> None:
        async with launcher(default_containment="auto") as one:
            tree = await one.launch(spec(tmp_path, containment="auto"))
            tree.go(math.inf)
            assert (await tree.started()).containment == "tree"
            await tree.done()
            with pytest.raises(LaunchFailed, match="only on demand"):
                await one.launch(spec(tmp_path, containment="pidns"))

    run(scenario)
    offer = doctor("auto")
    assert (offer.verdict, "UNJAM_CONTAINMENT=pidns" in offer.fix) == ("warn", True)
    asked = doctor("pidns")
    assert (asked.verdict, "inside a user namespace" in asked.found) == ("ok", True)


@pytest.mark.parametrize("insist", [True, False])
def test_a_machine_that_is_full_just_now_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, insist: bool
) -> None:
    """Whoever insists starts again later; else every job of this worker would fail for a bad moment."""
    real = ZygoteProcess.up

    async def full(zygote: ZygoteProcess) -> tuple[bool, nsprobe.Obstacle | None]:
        marked, _ = await real(zygote)
        return marked, nsprobe.explain(OSError(11, os.strerror(11)), os.geteuid() == 0)

    async def scenario() -> None:
        one = Launcher(mark=new_mark(7), default_containment="pidns" if insist else "auto")
        try:
            if insist:
                with pytest.raises(LaunchFailed, match="could not be tried: Resource temporarily") as failed:
                    await one.start()
                assert failed.value.short
                return
            await one.start()
            tree = await one.launch(spec(tmp_path, containment="auto"))
            tree.go(math.inf)
            assert (await tree.started()).containment == "tree"
            await tree.done()
        finally:
            await one.close()

    monkeypatch.setattr(ZygoteProcess, "up", full)
    in_subreaper(lambda: run(scenario))


@pytest.mark.parametrize(
    ("number", "settings", "why", "way_out"),
    [
        (28, {"user/max_user_namespaces": "0"}, "max_user_namespaces is 0", "user.max_user_namespaces=10000"),
        (28, {}, "is hidden", "user.max_user_namespaces=10000"),
        (1, {"kernel/unprivileged_userns_clone": "0"}, "unprivileged_userns_clone = 0", "_clone=1"),
        (13, {"kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor", "_userns=0"),
        (1, {"kernel/apparmor_restrict_unprivileged_userns": "0"}, "Docker", "seccomp=unconfined"),
        (1, {}, "Docker", "systempaths=unconfined"),
        (38, {}, "no user namespaces", "as root"),
    ],
)
def test_what_refused_it_is_named_with_a_way_out(
    tmp_path: Path, number: int, settings: dict[str, str], why: str, way_out: str
) -> None:
    for name, value in settings.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(value + "\n")
    found = nsprobe.explain(OSError(number, os.strerror(number)), False, str(tmp_path))
    assert os.strerror(number) in found.why
    assert why in found.why
    assert way_out in found.way_out
