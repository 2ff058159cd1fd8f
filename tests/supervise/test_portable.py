"""The group level keeps the same promises as far as it can; it runs here too, so it is tested here."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from tests.supervise.rig import hear, run, spec, with_path
from unjam.supervise import linux
from unjam.supervise.identity import is_alive
from unjam.supervise.launch import Launcher, LaunchFailed
from unjam.supervise.portable import GroupLauncher, make_launcher


@asynccontextmanager
async def group_launcher() -> AsyncIterator[GroupLauncher]:
    one = GroupLauncher(mark=1)
    await one.start()
    try:
        yield one
    finally:
        await one.close()


def test_here_the_strong_one_is_made() -> None:
    assert isinstance(make_launcher(mark=1), Launcher)


def test_it_refuses_what_it_cannot_give() -> None:
    with pytest.raises(LaunchFailed, match="PID namespace"):
        GroupLauncher(mark=1, default_containment="pidns")


def test_nothing_runs_before_go_and_the_level_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with group_launcher() as one:
            witness = tmp_path / "ran"
            tree = await one.launch(spec(tmp_path, "touch", payload={"path": str(witness)}))
            assert is_alive(tree.identity)
            await asyncio.sleep(0.3)
            assert not witness.exists()
            tree.go(math.inf)
            assert (await tree.started()).containment == "group"
            end = await tree.done()
            assert (end.exit_code, end.reason) == (0, None)
            assert witness.exists()

    run(scenario)


def test_deadline_grace_lease_and_reasons(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with group_launcher() as one:
            hang = {"kind": "ignore_everything"}
            tree = await one.launch(spec(tmp_path, "hang", payload=hang, deadline=0.5, grace=0.2))
            went = linux.boottime()
            tree.go(math.inf)
            end = await tree.done()
            assert (end.signal, end.reason) == (signal.SIGKILL, "deadline")
            assert 0.7 <= linux.boottime() - went < 1.7

            tree = await one.launch(spec(tmp_path, "hang", payload=hang))
            lease_until = linux.boottime() + 2.0
            tree.go(lease_until)
            assert (await tree.done()).reason == "lease"
            assert linux.boottime() < lease_until

            tree = await one.launch(spec(tmp_path, "leave_on_term"))
            tree.go(math.inf)
            await hear(tree)
            tree.stop("cancelled", grace=20.0)
            end = await tree.done()
            assert (end.exit_code, end.reason) == (5, "cancelled")

            tree = await one.launch(spec(tmp_path, "sleep"))
            tree.abandon()
            assert (await tree.done()).reason == "abandoned"

    run(scenario)


def test_the_group_goes_with_the_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with group_launcher() as one:
            tree = await one.launch(spec(tmp_path, "tests.supervise.test_portable:leave_a_child"))
            tree.go(math.inf)
            child = int(await hear(tree))
            await tree.done()
            assert not process_alive(child)

    run(scenario)


def leave_a_child(_payload: object, channel: object) -> int:
    child = subprocess.Popen(["/bin/sleep", "600"])
    channel.send(str(child.pid).encode())  # type: ignore[attr-defined]
    return 0


def test_the_death_of_the_worker_ends_the_group(tmp_path: Path) -> None:
    script = (
        "import asyncio, json, math, sys\n"
        "from pathlib import Path\n"
        "from tests.supervise.rig import spec, hear\n"
        "from unjam.supervise.portable import GroupLauncher\n"
        "async def main():\n"
        "    tree = await GroupLauncher(mark=1).launch(\n"
        "        spec(Path(sys.argv[1]), 'sleep', payload={'announce': True}))\n"
        "    tree.go(math.inf)\n"
        "    await hear(tree)\n"
        "    print(json.dumps(tree.identity.pid), flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": with_path(Path.cwd())},
    )
    try:
        assert worker.stdout
        attempt = json.loads(worker.stdout.readline())
        assert process_alive(attempt)
        worker.kill()
        wait_until(lambda: not process_alive(attempt), timeout=3.0, what="the end of the attempt")
    finally:
        worker.kill()
        worker.communicate()
