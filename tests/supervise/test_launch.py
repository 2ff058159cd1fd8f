"""Starting an attempt: the handshake, what the attempt finds around itself, and how it may end."""

import asyncio
import math
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.supervise.rig import hear, launcher, named, run, spec, until
from unjam.supervise import linux
from unjam.supervise.identity import is_alive
from unjam.supervise.launch import LaunchFailed
from unjam.supervise.mark import new_mark
from unjam.supervise.nsprobe import Obstacle

CONTAINMENTS = ["tree", pytest.param("pidns", marks=pytest.mark.pidns)]
both = pytest.mark.parametrize("containment", CONTAINMENTS)
isolations = pytest.mark.parametrize("isolation", ["fork", "spawn"])


@both
@isolations
def test_an_attempt_runs_and_its_exit_code_is_told(tmp_path: Path, containment: str, isolation: str) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(
                spec(tmp_path, "code", payload={"code": 3}, containment=containment, isolation=isolation)
            )
            tree.go(math.inf)
            started = await tree.started()
            assert started.containment == containment
            end = await tree.done()
            assert (end.exit_code, end.signal, end.reason) == (3, None, None)
            assert not end.guardian_died
            assert end.cpu_seconds > 0
            assert end.peak_rss_bytes > 1 << 20
            assert not is_alive(tree.identity)

    run(scenario)


@both
def test_nothing_runs_before_go(tmp_path: Path, containment: str) -> None:
    """The caller stores the identity first; an attempt that the store does not know must not exist."""

    async def scenario() -> None:
        async with launcher() as one:
            witness = tmp_path / "ran"
            tree = await one.launch(
                spec(tmp_path, "touch", payload={"path": str(witness)}, containment=containment)
            )
            assert is_alive(tree.identity)
            assert tree.identity.pid == named("uj-guardian")[0]
            await asyncio.sleep(0.3)
            assert linux.children(tree.identity.pid) == []
            assert not witness.exists()
            tree.go(math.inf)
            assert (await tree.done()).exit_code == 0
            assert witness.exists()

    run(scenario)


def test_an_abandoned_launch_starts_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            witness = tmp_path / "ran"
            tree = await one.launch(spec(tmp_path, "touch", payload={"path": str(witness)}))
            tree.abandon()
            end = await tree.done()
            assert (end.reason, end.exit_code) == ("abandoned", None)
            with pytest.raises(LaunchFailed):
                await tree.started()
            assert not witness.exists()

    run(scenario)


@pytest.mark.parametrize(
    ("entry", "code", "number"),
    [
        ("nothing", 0, None),
        ("leave_by_exit", 9, None),
        ("fail", 70, None),
        ("die_by_signal", None, signal.SIGKILL),
        ("no_such_module:x", 70, None),
    ],
)
@both
def test_how_an_attempt_ended(
    tmp_path: Path, containment: str, entry: str, code: int | None, number: int | None
) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, entry, containment=containment))
            tree.go(math.inf)
            end = await tree.done()
            assert (end.exit_code, end.signal, end.reason) == (code, number, None)

    run(scenario)
    log = (tmp_path / "log").read_text()
    assert ("Traceback" in log) == (code == 70)


@both
@isolations
def test_what_an_attempt_finds_around_itself(tmp_path: Path, containment: str, isolation: str) -> None:
    mark = new_mark(9)

    async def scenario() -> dict[str, str]:
        async with launcher(mark=mark) as one:
            tree = await one.launch(
                spec(
                    tmp_path,
                    "situation",
                    containment=containment,
                    isolation=isolation,
                    nice=1,
                    env={"GREETING": "hello"},
                    preload=("colorsys",),
                )
            )
            tree.go(math.inf)
            text = (await hear(tree)).decode()
            assert (await tree.done()).exit_code == 0
            return dict(line.split("=", 1) for line in text.splitlines())

    found: dict[str, str] = {}

    async def wrapper() -> None:
        found.update(await scenario())

    os.environ["UNJAM_KEEPER_FD"] = "99"
    try:
        run(wrapper)
    finally:
        del os.environ["UNJAM_KEEPER_FD"]
    assert found["mark"] == str(mark)
    assert found["proc_self"] == found["pid"], "a private /proc, or psutil looks at the wrong process"
    assert found["session_leader"] == "True"
    assert found["cwd"] == str(tmp_path)
    assert found["greeting"] == "hello"
    assert found["blas"] == str(os.environ.get("OPENBLAS_NUM_THREADS"))
    assert found["keeper"] == "None"
    assert int(found["oom"]) >= 500
    assert int(found["nice"]) >= 1
    assert found["blocked"] == "[]"
    # 0, 1, 2, the channel, and the one that lists them: no socket of a guardian, no pidfd of a worker.
    assert len(found["fds"].split(",")) == 5
    assert found["json_preloaded"] == str(isolation == "fork")
    if containment == "pidns":
        assert int(found["processes"]) == 2


@both
def test_the_log_holds_what_the_whole_tree_said(tmp_path: Path, containment: str) -> None:
    (tmp_path / "log").write_text("an earlier attempt\n")
    os.chmod(tmp_path / "log", 0o600)

    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "speak", containment=containment))
            tree.go(math.inf)
            await tree.done()

    run(scenario)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == "an earlier attempt"
    assert sorted(lines[1:]) == [
        "python complains",
        "python speaks",
        "the child complains",
        "the child speaks",
    ]


def test_a_new_log_is_for_its_owner_only_and_a_kill_loses_no_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "speak_then_sleep"))
            tree.go(math.inf)
            await hear(tree)
            tree.kill("enough")
            end = await tree.done()
            assert (end.signal, end.reason) == (signal.SIGKILL, "enough")

    run(scenario)
    assert (tmp_path / "log").read_text() == "a line before the kill\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_opened_is_a_failed_launch(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            with pytest.raises(LaunchFailed, match=r"log .*missing"):
                await one.launch(spec(tmp_path / "missing"))

    run(scenario)


@isolations
def test_the_channel_carries_messages_both_ways_and_ends_with_the_attempt(
    tmp_path: Path, isolation: str
) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "echo", isolation=isolation))
            tree.go(math.inf)
            loop = asyncio.get_running_loop()
            for message in (b"abc", b"x" * 60_000):
                await loop.sock_sendall(tree.channel, message)
                assert await hear(tree) == message[::-1]
            tree.channel.shutdown(1)  # the attempt reads the end and leaves
            assert await hear(tree) == b""
            assert (await tree.done()).exit_code == 0

    run(scenario)


@isolations
def test_a_payload_of_megabytes_arrives_whole(tmp_path: Path, isolation: str) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(
                spec(tmp_path, "size_of_payload", payload={"text": "x" * 3_000_000}, isolation=isolation)
            )
            tree.go(math.inf)
            assert await hear(tree) == b"3000000"
            await tree.done()

    run(scenario)


def test_many_attempts_at_once_each_get_their_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:

            async def attempt(number: int) -> int | None:
                tree = await one.launch(spec(tmp_path, "code", payload={"code": number}))
                tree.go(math.inf)
                return (await tree.done()).exit_code

            assert await asyncio.gather(*map(attempt, range(30))) == list(range(30))
            assert named("uj-guardian") == []

    run(scenario)


def test_one_zygote_for_each_set_of_preloads(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            for preload in ((), ("colorsys",), ("colorsys",), ("no.such.module", "colorsys")):
                tree = await one.launch(spec(tmp_path, preload=preload))
                tree.go(math.inf)
                assert (await tree.done()).exit_code == 0, "a module that cannot be preloaded is no obstacle"
            assert len(named("uj-zygote")) == 3

    run(scenario)


def test_closing_ends_attempts_and_zygotes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            trees = [
                await one.launch(spec(tmp_path, "sleep", preload=preload)) for preload in ((), ("colorsys",))
            ]
            for tree in trees:
                tree.go(math.inf)
                await tree.started()
            await one.close()
            assert [(await tree.done()).reason for tree in trees] == ["closing", "closing"]
            assert named("uj-") + named("uj:") == []

    run(scenario)


def test_a_namespace_that_is_not_to_be_had_is_a_failed_launch(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher(default_containment="auto") as one:
            one.pidns_obstacle = Obstacle("the moon is full", "wait")
            with pytest.raises(
                LaunchFailed, match=r"PID namespace .* the moon is full\. To get it: wait"
            ) as told:
                await one.launch(spec(tmp_path, containment="pidns"))
            # The reason of the job is `permission` then, and no error of ours.
            assert isinstance(told.value.__cause__, PermissionError)
            tree = await one.launch(spec(tmp_path, containment="auto"))
            tree.go(math.inf)
            assert (await tree.started()).containment == "tree"

    run(scenario)


@pytest.mark.root
def test_auto_takes_the_namespace_where_it_works(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher(default_containment="auto") as one:
            tree = await one.launch(spec(tmp_path, "sleep", payload={"announce": True}, containment="auto"))
            tree.go(math.inf)
            await hear(tree)
            started = await tree.started()
            assert started.containment == "pidns"
            # The number is the attempt's own as we see it, not that of the namespace's init.
            assert linux.read_small(f"/proc/{started.pid}/comm") == b"uj:t1/1\n"
            tree.kill("seen")
            await tree.done()

    run(scenario)


def test_a_cancelled_launch_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            task = asyncio.create_task(one.launch(spec(tmp_path, "sleep")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: not named("uj-guardian"), what="the end of the abandoned guardian")

    run(scenario)


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_a_zygote_killed_while_it_starts_is_started_again(tmp_path: Path, after: float) -> None:
    """The loop hears of its death and of its socket at once: whichever comes first, the start goes on. A
    child of ours that was never marked is spared by the sweep (INV-STRANGER)."""
    bystander = subprocess.Popen(["/bin/sleep", "60"])

    async def scenario() -> None:
        async def kill_one() -> None:
            [pid] = await until(lambda: set(linux.children()) - before, what="the zygote")
            await asyncio.sleep(after)
            os.kill(pid, signal.SIGKILL)

        before = set(linux.children())
        killer = asyncio.create_task(kill_one())
        async with launcher() as one:
            await killer
            tree = await one.launch(spec(tmp_path, "code", payload={"code": 3}))
            tree.go(math.inf)
            assert (await tree.done()).exit_code == 3

    try:
        run(scenario)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_keeper_that_dies_while_the_zygote_starts_is_noticed(tmp_path: Path) -> None:
    async def scenario() -> None:
        keeper = os.fork()
        if keeper == 0:
            signal.pause()
        keeper_fd = os.pidfd_open(keeper)
        noticed = asyncio.Event()
        os.kill(keeper, signal.SIGKILL)
        async with launcher(keeper_pidfd=keeper_fd, on_keeper_death=noticed.set):
            await asyncio.wait_for(noticed.wait(), 5)
        os.waitpid(keeper, 0)
        os.close(keeper_fd)

    run(scenario)
