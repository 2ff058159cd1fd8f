"""Two machines on one store: who is called alike, or was cloned, is not taken for dead while it lives."""

import dataclasses
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from tests.postgres import Server
from tests.store.rig import (
    TTL,
    Backend,
    Clock,
    SqliteBackend,
    ending,
    job,
    staged,
    state_of,
    take_one,
    worker,
)
from tests.worker.crew import Crew, crew
from unjam.jobs.states import State
from unjam.settings import Settings
from unjam.store import Store
from unjam.supervise.identity import Identity, identity_of
from unjam.worker.recovery import reap_expired, recover
from unjam.worker.spawn import environment, keeper_argv, worker_argv

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    return SqliteBackend(tmp_path / "unjam.db")


@pytest.fixture
def store(backend: Backend) -> Iterator[Store]:
    store = backend.open()
    yield store
    assert store.check() == []
    store.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, lease_ttl=TTL)


def of_another_boot() -> str:
    """A process that no longer lives, or that lives where nobody of us can look."""
    me = identity_of(os.getpid())
    assert me is not None
    return dataclasses.replace(me, boot_id=str(uuid.uuid4()), pid=2**22 + 1).to_json()


@pytest.mark.parametrize("host", ["host-a", "host-b"], ids=["cloned", "namesake"])
def test_another_boot_is_believed_until_its_leases_run_out(
    store: Store, settings: Settings, host: str
) -> None:
    """INV-ONCE: one name, and for a clone one machine id too; it renews, so it lives."""
    clock = store._clock  # type: ignore[attr-defined]
    assert isinstance(clock, Clock)
    clock.advance(TTL)
    store.check_in(worker(host=host, host_name="encoder", identity=of_another_boot()), ttl=TTL)
    store.submit_many([job("a"), job("b")])
    working, publishing = take_one(store, host=host), take_one(store, host=host)
    store.begin(working.lease, identity=of_another_boot(), pid=7, log_path="/l")
    assert store.begin_publish(publishing.lease, [staged()], ending(State.SUCCEEDED, publishing))
    for _ in range(4):
        clock.advance(TTL / 2)
        store.heartbeat("worker-1", ttl=TTL)
        assert len(store.renew("worker-1", [working.lease, publishing.lease], ttl=TTL)) == 2
        assert not recover(store, settings, "host-a", patience=0.0)
        assert not reap_expired(store, settings, "host-a")
        assert [one.id for one in store.workers()] == ["worker-1"]
    assert (state_of(store, "a"), state_of(store, "b")) == (State.RUNNING, State.RUNNING)
    clock.advance(TTL)
    recover(store, settings, "host-a", patience=0.0)
    assert [one.id for one in store.workers()] == ["worker-1"], "it holds jobs: its row proves whose they are"
    assert reap_expired(store, settings, "host-a").requeued == ["a"]
    store.unlease(take_one(store, by="worker-2").lease, ending(State.QUEUED))
    # What it was publishing lies on its disk: only a machine of its id goes on with that.
    assert state_of(store, "b") is (State.FAILED if host == "host-a" else State.RUNNING)
    if host == "host-a":
        recover(store, settings, "host-a", patience=0.0)
        assert store.workers() == []


@contextmanager
def second_machine(c: Crew, host_id: str) -> Iterator[Path]:
    """Keeper and worker as on another kernel: boot id and processes of its own. Yields its log."""
    boot, log = c.home / "boot-id", c.home / "second.log"
    boot.write_text(f"{uuid.uuid4()}\n")
    script = f'mount --bind "{boot}" /proc/sys/kernel/random/boot_id && exec "$@"'
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    settings = dataclasses.replace(c.settings, host_id=host_id)
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*apart, "sh", "-c", script, "sh", *keeper_argv(worker_argv(slots=1))],
            env={**environment(settings), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield log
    finally:
        process.kill()  # and with it the first process of that namespace, and so all of them
        process.wait()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("ids", ["clones", "namesakes", "without_files"])
def test_real_workers_of_two_machines(tmp_path: Path, postgres_server: Server, ids: str) -> None:
    """INV-ONCE, INV-LOST, INV-KEEP: the second machine recovers, reaps and waits, while the first one works;
    when that is gone (as by a power cut) its job is taken over after one lease, and done once."""
    url = postgres_server.url(f"hosts_{ids}")
    with crew(tmp_path / "home", store=url, lease_ttl=3.0, renew_every=0.5, host_id="first") as c:
        keeper = c.start()
        (worker_of_first,) = c.workers()
        params = {"ledger": str(c.ledger), "hold_at": 3, "files": ids != "without_files"}
        job_id = c.submit("test-units", params)
        wait_until(lambda: len(c.lines()) == 3, 20, "three units")
        first = c.store.attempts(job_id)[0].pid or 0
        with second_machine(c, "first" if ids == "clones" else "second") as log:
            wait_until(lambda: "ready" in log.read_text(), 20, "the second machine")
            assert len({w.host_name for w in c.workers()}) == 1
            noted = c.submit("test-note")
            assert c.wait(noted).state is State.SUCCEEDED
            if ids != "without_files":  # nothing of this hangs on units
                # Longer than a lease and than the wait of its reaper.
                held_until = c.store.now() + 3 * c.settings.lease_ttl
                wait_until(lambda: c.store.now() > held_until, 20, "three leases to pass")
                assert len(c.store.attempts(job_id)) == 1, log.read_text()
                assert c.job(job_id).counters.losses == 0
            pid = Identity.from_json(worker_of_first.identity).pid
            os.kill(pid, signal.SIGSTOP)  # it must not see that its keeper dies: that is no power cut
            keeper.kill()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not process_alive(first), 5, "its tree to end")
            (c.home / "ledger.go").touch()
            assert c.wait(job_id).state is State.SUCCEEDED, log.read_text()
        tries = c.store.attempts(job_id)
        assert len(tries) == 2
        # Of a namesake the files are not at hand: they lie on the first machine, and that is waited for.
        assert tries[1].units_reused == (0 if ids == "namesakes" else 3)
        waited = (tries[1].started_at or 0) - (tries[0].ended_at or 0)
        assert (waited >= c.settings.lease_ttl) is (ids == "namesakes")
        assert c.store.check() == []
