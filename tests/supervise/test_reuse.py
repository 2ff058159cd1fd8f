"""Guardians that serve one attempt after the other: nothing passes from one to the next."""

import math
import os
import signal
from pathlib import Path

import pytest

from tests.supervise.rig import hear, launcher, named, run, spec, state_of, until
from unjam.supervise import launch, linux, pool
from unjam.supervise.launch import Launcher, LaunchSpec


async def _ended(one: Launcher, wanted: LaunchSpec) -> int:
    """Run one attempt to its good end; the guardian's number."""
    tree = await one.launch(wanted)
    tree.go(math.inf)
    end = await tree.done()
    tree.channel.close()
    assert (end.exit_code, end.reason, end.guardian_died) == (0, None, False)
    return tree.identity.pid


@pytest.mark.parametrize("containment", ["tree", pytest.param("pidns", marks=pytest.mark.pidns)])
@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_each_attempt_has_its_own_process_namespace_log_and_environment(
    tmp_path: Path, containment: str, isolation: str
) -> None:
    async def scenario() -> None:
        async with launcher(keep_guardians=1) as one:
            guardians = set()
            for number in range(3):
                folder = tmp_path / str(number)
                folder.mkdir()
                env = {"GREETING": "hello"} if number == 1 else {}
                situation = spec(
                    folder, "situation", containment=containment, isolation=isolation, env=env, nice=number
                )
                tree = await one.launch(situation)
                tree.go(math.inf)
                text = (await hear(tree)).decode()
                found = dict(line.split("=", 1) for line in text.splitlines())
                assert (await tree.started()).containment == containment
                assert (await tree.done()).exit_code == 0
                tree.channel.close()
                guardians.add(tree.identity.pid)

                assert found["greeting"] == ("hello" if number == 1 else "None")
                assert found["cwd"] == str(folder)
                assert found["nice"] == str(os.nice(0) + number)
                assert found["proc_self"] == found["pid"]
                assert (int(found["pid"]) < 10) == (containment == "pidns")
                # 0, 1, 2, the channel, and the one that lists them: nothing of the attempts before.
                assert len(found["fds"].split(",")) == 5
                assert found["blocked"] == "[]"
                await _ended(one, spec(folder, "speak", containment=containment))
                assert (folder / "log").read_text().count("python speaks") == 1
            assert named("uj-guardian") == list(guardians)
        assert named("uj-guardian") == []

    run(scenario)


def test_what_one_attempt_used_is_not_counted_for_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher(keep_guardians=1) as one:
            ends = []
            for entry, payload in (("spin", {"bytes": 200_000_000, "seconds": 0.5}), ("nothing", {})):
                tree = await one.launch(spec(tmp_path, entry, payload=payload))
                tree.go(math.inf)
                ends.append(await tree.done())
                tree.channel.close()
        greedy, modest = ends
        assert greedy.cpu_seconds > 0.1 > modest.cpu_seconds > 0
        assert greedy.peak_rss_bytes > 200_000_000 > 100_000_000 > modest.peak_rss_bytes > 1_000_000

    run(scenario)


def test_a_guardian_whose_attempt_had_to_be_ended_does_not_stay(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher(keep_guardians=2) as one:
            tree = await one.launch(spec(tmp_path, "sleep"))
            tree.go(math.inf)
            await tree.started()
            tree.stop("cancel", 0.2)
            assert (await tree.done()).reason == "cancel"
            tree.channel.close()
            await until(lambda: not named("uj-guardian"), what="the end of the guardian")

    run(scenario)


def test_what_an_attempt_left_behind_is_gone_before_the_next_begins(tmp_path: Path) -> None:
    """INV-ORPHAN holds for a guardian that lives on just as for one that ends."""

    async def scenario() -> None:
        async with launcher(keep_guardians=1) as one:
            for _ in range(3):
                await _ended(one, spec(tmp_path, "leave_daemons"))
                assert named("sleep") == []

    run(scenario)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_an_idle_guardian_that_is_killed_or_frozen_costs_nothing_but_time(
    tmp_path: Path, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "REUSE_TIMEOUT", 0.5)

    async def scenario() -> None:
        async with launcher(keep_guardians=1) as one:
            first = await _ended(one, spec(tmp_path))
            os.kill(first, how)
            if how == signal.SIGSTOP:
                await until(lambda: state_of(first) == "T", what="the frozen guardian")
            second = await _ended(one, spec(tmp_path))
            assert second != first
            assert named("uj-guardian") == [second]

    run(scenario)


def test_the_sweep_after_a_killed_guardian_spares_the_idle_ones(tmp_path: Path) -> None:
    """What it counts as killed is what that one left, and no guardian that waits for its next attempt."""

    async def scenario() -> None:
        async with launcher(keep_guardians=1) as one:
            tree = await one.launch(spec(tmp_path, "sleep"))
            idle = await _ended(one, spec(tmp_path))
            tree.go(math.inf)
            await tree.started()
            os.kill(tree.identity.pid, signal.SIGKILL)
            end = await tree.done()
            tree.channel.close()
            assert end.guardian_died
            assert end.killed <= 1  # its attempt
            assert await _ended(one, spec(tmp_path)) == idle

    run(scenario)


def test_an_idle_guardian_leaves_after_a_while_and_is_reaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.1)

    async def scenario() -> None:
        async with launcher(keep_guardians=1) as one:
            guardian = await _ended(one, spec(tmp_path))
            await until(lambda: state_of(guardian) == "", what="the end of the guardian")

    run(scenario)


def test_no_more_guardians_are_kept_than_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher(keep_guardians=2) as one:
            trees = [await one.launch(spec(tmp_path)) for _ in range(4)]
            for tree in trees:
                tree.go(math.inf)
                await tree.done()
                tree.channel.close()
            await until(lambda: len(named("uj-guardian")) == 2, what="the end of two guardians")

    run(scenario)


def test_a_stop_that_comes_too_late_does_not_hit_the_next_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher(keep_guardians=1) as one:
            tree = await one.launch(spec(tmp_path))
            # Until it is ours the death of the process between would wake it up again (PDEATHSIG=CONT).
            await until(lambda: tree.identity.pid in linux.children(), what="the guardian to be adopted")
            tree.go(math.inf)
            os.kill(tree.identity.pid, signal.SIGSTOP)
            await until(lambda: state_of(tree.identity.pid) == "T", what="the frozen guardian")
            tree.stop("cancel", 5.0)  # waits in its socket, unread
            os.kill(tree.identity.pid, signal.SIGCONT)
            await tree.done()
            tree.channel.close()
            await _ended(one, spec(tmp_path))

    run(scenario)
