"""kill -9 and SIGSTOP of each of our processes, one at a time: what must go goes, what must stay stays
(INV-ORPHAN)."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import process_alive, wait_until
from tests.supervise.rig import hear, launcher, named, run, spec, state_of, until, with_path
from tests.supervise.worker import payloads
from tests.torture import leaves
from unjam.supervise import linux, protocol
from unjam.supervise.launch import LAUNCH_TRIES, LaunchFailed
from unjam.supervise.mark import new_mark
from unjam.supervise.sweep import marked_processes, sweep

JOB = "tests.torture.leaves:job"


def leaf_job(folder: Path, token: str, **options: Any) -> Any:
    return spec(folder, JOB, payload={"token": token, "announce": True}, **options)


def test_a_killed_zygote_harms_no_attempt_and_the_next_launch_works(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "echo"))
            tree.go(math.inf)
            await tree.started()
            os.kill(named("uj-zygote")[0], signal.SIGKILL)
            other = await one.launch(spec(tmp_path, "code", payload={"code": 4}))
            other.go(math.inf)
            assert (await other.done()).exit_code == 4
            await asyncio.get_running_loop().sock_sendall(tree.channel, b"abc")
            assert await hear(tree) == b"cba"

    run(scenario)


def kill_all(name: str) -> None:
    """SIGKILL to those of this name, and to nobody who had it a moment ago: guardians begin as zygotes."""
    for pid in named(name):
        try:
            os.kill(pid, signal.SIGSTOP)
            while state_of(pid) not in ("T", "Z", ""):
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL if pid in named(name) else signal.SIGCONT)
        except ProcessLookupError:
            pass  # it was the short-lived one between zygote and guardian


def test_launches_survive_zygotes_that_die_all_the_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:

            async def attempt(number: int) -> int | None:
                tree = await one.launch(spec(tmp_path, "code", payload={"code": number}))
                tree.go(math.inf)
                return (await tree.done()).exit_code

            async def murder() -> None:
                for _ in range(LAUNCH_TRIES - 1):
                    await asyncio.sleep(0.08)
                    kill_all("uj-zygote")

            killer = asyncio.create_task(murder())
            assert await asyncio.gather(*map(attempt, range(20))) == list(range(20))
            await killer

    run(scenario)


def test_a_zygote_killed_at_birth_is_no_fault_of_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it has read what it is to load: nobody is there to be told."""
    real, left = subprocess.Popen, [LAUNCH_TRIES - 2]

    def killed(*words: Any, **named: Any) -> Any:
        process = real(*words, **named)
        if left[0]:
            left[0] -= 1
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return process

    async def scenario() -> None:
        async with launcher() as one:
            monkeypatch.setattr("unjam.supervise.nursery.subprocess.Popen", killed)
            tree = await one.launch(spec(tmp_path, "code", payload={"code": 4}, preload=("colorsys",)))
            assert left == [0]
            tree.go(math.inf)
            assert (await tree.done()).exit_code == 4

    run(scenario)


def test_a_zygote_whose_worker_died_leaves_without_a_word() -> None:
    """A traceback in the worker's log would look like a fault of ours."""
    ours, theirs = protocol.pair()
    alive = os.pidfd_open(os.getpid())
    with theirs:
        zygote = subprocess.Popen(
            [sys.executable, "-m", "unjam.supervise.zygote", str(theirs.fileno()), str(alive)],
            pass_fds=(theirs.fileno(), alive),
            stderr=subprocess.PIPE,
        )
    os.close(alive)
    protocol.send(ours, {"mark": 1, "preload": [], "path": [], "probe": False})
    ours.close()  # before it can say that it is up
    assert (zygote.communicate(timeout=20)[1], zygote.returncode) == (b"", 0)


def test_a_frozen_zygote_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unjam.supervise.launch.LAUNCH_TIMEOUT", 0.5)

    async def scenario() -> None:
        async with launcher() as one:
            os.kill(named("uj-zygote")[0], signal.SIGSTOP)
            with pytest.raises(LaunchFailed, match="no guardian within"):
                await one.launch(spec(tmp_path))
            await until(lambda: not named("uj-zygote"), what="the end of the frozen zygote")
            tree = await one.launch(spec(tmp_path, "code", payload={"code": 4}))
            tree.go(math.inf)
            assert (await tree.done()).exit_code == 4

    run(scenario)


def test_a_killed_guardian_takes_its_tree_along_and_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            doomed, spared = f"{os.getpid()}11", f"{os.getpid()}12"
            trees = [await one.launch(leaf_job(tmp_path, token)) for token in (doomed, spared)]
            for tree in trees:
                tree.go(math.inf)
                assert await hear(tree) == b"up"
            helper = subprocess.Popen(["/bin/sleep", "600"])  # the worker's own: no mark, not ours to kill
            os.kill(trees[0].identity.pid, signal.SIGKILL)
            end = await trees[0].done()
            assert end.guardian_died
            assert (end.exit_code, end.signal, end.reason) == (None, None, None)
            assert leaves.alive(doomed) == []
            assert len(leaves.alive(spared)) == leaves.COUNT - 1
            assert helper.poll() is None
            helper.kill()
            helper.wait()

    run(scenario)


@pytest.mark.parametrize("containment", ["tree", pytest.param("pidns", marks=pytest.mark.pidns)])
def test_a_killed_attempt_takes_its_leaves_along(tmp_path: Path, containment: str) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            token = f"{os.getpid()}13"
            tree = await one.launch(leaf_job(tmp_path, token, containment=containment))
            tree.go(math.inf)
            assert await hear(tree) == b"up"
            assert len(leaves.alive(token)) == leaves.COUNT - 1
            os.kill((await tree.started()).pid, signal.SIGKILL)
            end = await tree.done()
            assert (end.signal, end.reason, end.guardian_died) == (signal.SIGKILL, None, False)
            assert leaves.alive(token) == []
            assert containment == "pidns" or end.killed >= leaves.COUNT

    run(scenario)


@pytest.mark.pidns
def test_a_killed_namespace_init_is_a_killed_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            token = f"{os.getpid()}14"
            tree = await one.launch(leaf_job(tmp_path, token, containment="pidns"))
            tree.go(math.inf)
            assert await hear(tree) == b"up"
            os.kill(named("uj-init")[0], signal.SIGKILL)
            assert (await tree.done()).signal == signal.SIGKILL
            assert leaves.alive(token) == []

    run(scenario)


def test_a_guardian_killed_before_go_is_noticed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launcher() as one:
            tree = await one.launch(spec(tmp_path, "sleep"))
            os.kill(tree.identity.pid, signal.SIGKILL)
            tree.go(math.inf)
            assert (await tree.done()).guardian_died
            with pytest.raises(LaunchFailed, match="guardian was killed"):
                await tree.started()

    run(scenario)


class Worker:
    """A worker process of its own, whose death these tests are about."""

    def __init__(self, folder: Path, containment: str, **options: Any) -> None:
        self.mark = new_mark(11)
        self.token = f"{os.getpid()}{self.mark % 100000:05d}"
        options = {
            "mark": self.mark,
            "log": str(folder / "log"),
            "containment": containment,
            "attempts": payloads(self.token),
            **options,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.supervise.worker", json.dumps(options)], stdout=subprocess.PIPE
        )
        assert self.process.stdout
        self.facts = json.loads(self.process.stdout.readline())

    def gone(self) -> bool:
        return not marked_processes(self.mark)


@pytest.fixture
def worker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Worker]:
    one = Worker(tmp_path, request.param)
    yield one
    one.process.kill()
    one.process.communicate()
    sweep([one.mark])


on_workers = pytest.mark.parametrize(
    "worker", ["tree", pytest.param("pidns", marks=pytest.mark.pidns)], indirect=True
)


@on_workers
def test_a_killed_worker_leaves_nothing(worker: Worker) -> None:
    assert len(leaves.alive(worker.token)) == leaves.COUNT - 1
    worker.process.kill()
    wait_until(worker.gone, timeout=2.0, what="the end of guardian, zygote and tree")
    assert leaves.alive(worker.token) == []


@on_workers
def test_a_worker_that_is_asked_to_end_leaves_nothing(worker: Worker) -> None:
    worker.process.terminate()
    assert worker.process.wait(10) == 0
    assert worker.gone()


@pytest.mark.parametrize("worker", ["tree"], indirect=True)
def test_a_frozen_guardian_wakes_up_when_the_worker_dies(worker: Worker) -> None:
    (guardian,) = worker.facts["guardians"]
    os.kill(guardian, signal.SIGSTOP)
    wait_until(lambda: state_of(guardian) == "T", what="the frozen guardian")
    worker.process.kill()
    wait_until(worker.gone, timeout=5.0, what="the end of the tree")


def test_a_frozen_worker_does_not_stop_the_deadline(tmp_path: Path) -> None:
    one = Worker(tmp_path, "tree", deadline=1.0)
    try:
        one.process.send_signal(signal.SIGSTOP)
        (attempt,) = one.facts["attempts"]
        wait_until(lambda: not process_alive(attempt), timeout=1.0 + 0.5 + 1.0, what="the deadline")
        wait_until(lambda: not leaves.alive(one.token), timeout=1.0, what="the end of the tree")
    finally:
        one.process.kill()
        one.process.communicate()
        sweep([one.mark])


def test_a_zygote_that_still_imports_dies_with_its_worker(tmp_path: Path) -> None:
    """Seen before: it outlived a killed worker by the 1 to 3 s that its imports took."""
    (tmp_path / "endless_import.py").write_text("import time\ntime.sleep(600)\n")
    script = (
        "import asyncio\n"
        "from unjam.supervise.launch import Launcher\n"
        "async def main():\n"
        f"    await Launcher(mark={(mark := new_mark(1))}, base_preload=('endless_import',)).start()\n"
        "    print('up', flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": with_path(tmp_path)},
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        assert len(marked_processes(mark)) == 1
        process.kill()
        wait_until(lambda: not marked_processes(mark), timeout=1.0, what="the end of the importing zygote")
    finally:
        process.kill()
        process.communicate()
        sweep([mark])


def test_no_zombie_is_left_after_all_that() -> None:
    assert [pid for pid in linux.children() if state_of(pid) == "Z"] == []
