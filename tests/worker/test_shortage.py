"""A machine that runs out of descriptors: no job pays for it, nothing spins, and it goes on by itself."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.worker.crew import Crew, crew
from unjam.jobs.states import State
from unjam.storage import manifest
from unjam.supervise import linux
from unjam.supervise.faults import VARIABLE
from unjam.supervise.identity import Identity

pytestmark = pytest.mark.slow


def worker_of(c: Crew) -> int:
    [worker] = c.workers()
    return Identity.from_json(worker.identity).pid


def zygotes_of(c: Crew) -> list[int]:
    below = linux.children(worker_of(c))
    return [pid for pid in below if (linux.read_small(f"/proc/{pid}/comm") or b"") == b"uj-zygote\n"]


@contextmanager
def descriptors_left(pids: list[int], count: int) -> Iterator[None]:
    """These processes can open `count` more for as long as the block runs."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid, (_, hard) in before.items():
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + count, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            if linux.proc_stat(pid) is not None:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def all_done_once(c: Crew, ids: list[str]) -> None:
    for job_id in ids:
        job = c.wait(job_id, timeout=30)
        counters = job.counters
        assert (job.state, counters.failures, counters.crashes, counters.losses) == (State.SUCCEEDED, 0, 0, 0)
    assert sorted(line for line in c.lines() if line in ids) == sorted(ids), (
        "each ran once, none was half begun"
    )


def test_nothing_is_claimed_that_could_not_be_started(tmp_path: Path) -> None:
    """What runs goes on: its lease is renewed over a connection that is open."""
    with crew(tmp_path, slots=6, lease_ttl=3.0, renew_every=0.5) as c:
        c.start()
        held = c.submit("test-units", {"ledger": str(c.ledger), "count": 5, "hold_at": 2})
        wait_until(lambda: len(c.lines()) == 2, 20)
        worker = worker_of(c)
        with descriptors_left([worker], 6):
            ids = [c.submit("test-note") for _ in range(5)]
            wait_until(lambda: "no file descriptors left to start a job (limit" in c.log(), 10)
            stat, since = linux.proc_stat(worker), linux.boottime()
            assert stat is not None
            renewed = c.job(held).lease_expires_at
            assert renewed is not None
            # More than one TTL later.
            wait_until(lambda: (c.job(held).lease_expires_at or 0) > renewed + 3.5, 10)
            later = linux.proc_stat(worker)
            assert later is not None
            spent = (later.cpu_ticks - stat.cpu_ticks) / os.sysconf("SC_CLK_TCK")
            assert spent < 0.25 * (linux.boottime() - since), "no busy loop"
            assert {c.job(job_id).counters.attempts for job_id in ids} == {0}
        all_done_once(c, ids)
        assert "there are file descriptors again" in c.log()
        (c.home / "ledger.go").touch()
        assert c.wait(held).state is State.SUCCEEDED
        assert len(c.store.attempts(held)) == 1


def test_after_a_shortage_nobody_waits_for_a_publication_or_a_hash(tmp_path: Path) -> None:
    """Both may take minutes; neither says whether the machine has room again."""
    faults, output = tmp_path / "faults", tmp_path / "out" / "old.txt"
    faults.mkdir()
    output.parent.mkdir()
    params = {"ledger": str(tmp_path / "other"), "count": 1}
    with crew(tmp_path, slots=4) as c, ExitStack() as held:
        c.start(env={VARIABLE: str(faults)})
        ended = faults / "tree_gone@ended"
        ended.touch()
        held.callback(lambda: ended.unlink())
        c.submit("test-note", id="ended")
        wait_until(lambda: list(faults.glob("tree_gone@ended.at.*")), 20)
        wait_until(lambda: linux.children(worker_of(c)) == zygotes_of(c), 20, "no idle guardian")
        a_pipe_with_a_manifest(output, params)
        hashed = c.submit("test-units", params, output=output)
        wait_until(lambda: c.job(hashed).state is State.RUNNING, 20)
        with open(output, "wb", buffering=0) as pipe:
            pipe.write(bytes(1 << 20))
            with descriptors_left(zygotes_of(c), 0):
                ids = [c.submit("test-note") for _ in range(2)]
                wait_until(lambda: "no new job for 5 s" in c.log(), 20)
            for job_id in ids:
                c.wait(job_id, State.SUCCEEDED, timeout=20)
            assert {c.job(busy).state for busy in ("ended", hashed)} == {State.RUNNING}


def a_pipe_with_a_manifest(output: Path, params: dict[str, object]) -> None:
    """As if this work had made it and somebody had touched it since: its hash lasts as long as we want."""
    os.mkfifo(output)
    body = {
        "schema": manifest.SCHEMA,
        "work": manifest.work_digest("test-units", 1, (), params),
        "outputs": [{"name": output.name, "size_bytes": 0, "mtime_ns": 1, "sha256": "another"}],
    }
    manifest.manifest_path(output).write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("who", "left"),
    [("worker", 0), ("worker", 4), ("zygote", 0), ("zygote", 1)],
    ids=["log", "sockets", "zygote", "guardian"],
)
def test_a_start_that_fails_for_want_of_them_is_no_fault_of_the_job(
    tmp_path: Path, who: str, left: int
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    with crew(tmp_path, slots=3) as c:
        c.start(env={VARIABLE: str(faults)})
        all_done_once(c, [c.submit("test-note")])
        (faults / "claimed").touch()
        ids = [c.submit("test-note") for _ in range(3)]
        wait_until(lambda: len(list(faults.glob("claimed.at.*"))) > 0, 20)
        wait_until(lambda: all(c.job(job_id).state is State.RUNNING for job_id in ids), 20)
        with descriptors_left([worker_of(c)] if who == "worker" else zygotes_of(c), left):
            (faults / "claimed").unlink()
            wait_until(lambda: "no new job for 5 s" in c.log(), 20)
            wait_until(lambda: all(c.job(job_id).state is not State.RUNNING for job_id in ids), 20)
            # By its event: on a busy machine it may have found a guardian that had become free meanwhile.
            told = [event.data.get("message", "") for event in c.store.events_since(0) if event.job_id in ids]
            assert any("could not be started just now" in message for message in told), told
        all_done_once(c, ids)
        assert len(c.workers()) == 1
        assert "Traceback" not in c.log()
