"""The server of the store dies in every way, and the system goes on; each strike is what it claims to be; and
what an outage must not do is seen.

The runs attack INV-LOST, INV-ONCE, INV-KEEP, INV-FENCE, INV-ORPHAN.
"""

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.helpers import wait_until
from tests.postgres import Server
from tests.torture import aftermath, census, leaves, ledger
from tests.torture.aftermath import HARMLESS, Aftermath, Present
from tests.torture.rig import Rig, build
from tests.torture.server import FREEZE, KINDS, ONE, STOP, Operator, Order, Outage, Remote
from tests.torture.strike import Striker
from tests.torture.tally import Tally
from tests.torture.test_torture import number, torture
from tests.torture.verdict import forgotten
from tests.torture.watch import Watch
from unjam.jobs.machines import Capacity, WorkerInfo
from unjam.jobs.model import Counters
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import AttemptEnd, Lease, UnitRecord
from unjam.jobs.states import AttemptState, State, UnitState
from unjam.store import open_store
from unjam.supervise.identity import identity_of


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_server_dies_in_every_way() -> None:
    """Eight kills: each of the four may come with another one meanwhile."""
    options = ("--store", "postgresql", "--server-share", "100", "--outage", "4")
    told = torture("--kills", "8", "--seed", "3", *options)
    for kind in KINDS:
        assert number(rf"\n{kind} +(\d+)", told) > 0
    # It proves something only if somebody was there.
    assert number(r"when the server was struck: .*went on (\d+)", told) > 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_server_that_is_not_ours_is_left_alone(postgres_server: Server) -> None:
    """Though every kill was to hit it."""
    url = postgres_server.url("not_ours")
    with psycopg.connect(url) as connection:
        told = torture("--kills", "1", "--store", url, "--server-share", "100")
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not any(f"\n{kind}" in told for kind in KINDS)


@contextmanager
def served(server: Server) -> Iterator[Remote]:
    operator = Operator(server)
    inner = subprocess.Popen(leaves.argv("1"))
    outer = threading.Thread(target=operator.serve, args=(inner.pid,))
    outer.start()
    try:
        yield Remote(operator.theirs.fileno())
    finally:
        inner.kill()
        outer.join(30)
        inner.wait()
        operator.close()


def test_each_strike_is_what_it_is_called(own_server: Server) -> None:
    """What was committed is there afterwards, what was not is gone, and the harness knows when."""
    with psycopg.connect(own_server.url()) as connection:
        connection.execute("CREATE TABLE row (name text)")
    with served(own_server) as remote:
        for kind in KINDS:
            _strike(own_server, remote, kind)
        rows = ask(own_server, "SELECT name FROM row")
    assert rows == [(kind,) for kind in KINDS]


def _strike(server: Server, remote: Remote, kind: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as before:
        birth = "SELECT pg_postmaster_start_time()"
        born = before.execute(birth.encode()).fetchall()
        before.execute("INSERT INTO row VALUES (%s)", (kind,))
        before.execute("BEGIN")
        before.execute("INSERT INTO row VALUES ('open')")
        asked = 0.3 if kind in (STOP, FREEZE) else 0.0
        began = time.monotonic()
        remote.prepare(Order(kind, asked, draw=0.5))
        assert ask(server, birth) == born, "nothing happens before the word"
        remote.strike()
        assert remote.is_away()
        wait_until(lambda: not remote.is_away(), 30, "the server to be back")
        assert remote.last is not None
        assert remote.last.kind == kind
        assert began <= remote.last.began < remote.last.ended <= time.monotonic()
        assert remote.last.seconds >= asked
        if kind == FREEZE:
            before.execute("ROLLBACK")
        else:
            with pytest.raises(psycopg.OperationalError):
                before.execute("COMMIT")
    assert (ask(server, birth) == born) is (kind in (ONE, FREEZE))


def ask(server: Server, question: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url()) as connection:
        return connection.execute(question.encode()).fetchall()


def test_no_kind_comes_again_before_all_have_come() -> None:
    rng, (ours, theirs) = random.Random(1), socket.socketpair()
    with ours, theirs:
        remote = Remote(ours.fileno())
        for _ in range(3):
            assert sorted(remote.choose(rng).kind for _ in KINDS) == sorted(KINDS)
        remote.close()


# -- the judge ---------------------------------------------------------------------------------------------
class World:
    """A store with one worker and its attempt, nobody else, and the judge of an outage."""

    def __init__(self, folder: Path) -> None:
        self.rig: Rig = build(folder, keepers=1, containment="tree", store=None)
        self.rig.slots.clear()
        self.tally, rng = Tally(), random.Random(1)
        self.watch = Watch(self.rig, self.tally, [], lambda: (1, 0.1))
        self.watch.submitting = False
        striker = Striker(self.rig, self.watch, self.tally, rng)
        self.aftermath = Aftermath(self.rig, self.watch, self.tally, striker)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "input()", "unjam.worker"], stdin=subprocess.PIPE
        )
        wait_until(lambda: self._seen(), 10, "the worker to be seen")
        self.worker = self._seen()[0]
        self.lease = self._attempt()

    def _seen(self) -> list[census.Proc]:
        return [p for p in self.watch.census().of("worker") if p.pid == self.process.pid]

    def _attempt(self) -> Lease:
        identity = identity_of(self.process.pid)
        assert identity is not None
        info = WorkerInfo("w1", "here", identity.to_json(), None, 1, None, 1, ("torture",), None)
        self.rig.store.check_in(info, ttl=60)
        self.rig.top_up(1, units=1, unit_seconds=0.1)
        room = Capacity("here", cpu=4, memory_bytes=1 << 40, gpu=0, free_slots=1)
        [claim] = self.rig.store.claim(
            "w1", capacity=room, queues=None, pipelines=("torture",), ttl=60, limit=1
        )
        return claim.lease

    def end(self, state: AttemptState) -> None:
        reason = Reason(ReasonCode.WORKER_LOST, "worker w1 was lost")
        self.rig.store.unlease(self.lease, AttemptEnd(state, reason, State.QUEUED, reason, Counters()))

    def judge(self, seconds: float, *, finished: bool = False) -> dict[str, list[str]]:
        """The faults of an outage of this length that is just over, by kind. `finished`: the attempt had."""
        now = time.monotonic()
        name: dict[str, int | None] = {f"{self.lease.job_id}/{self.lease.fence}": 0}
        present = Present({} if finished else name, [self.worker], name if finished else {})
        self.aftermath.judge(Outage(ONE, now - seconds, now, ""), present)
        return {kind: found for kind, found in self.tally.faults.items() if found}

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.rig.store.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(aftermath, "RENEW_LIMIT", 0.3)
    monkeypatch.setattr(aftermath, "SETTLE_LIMIT", 0.3)
    world = World(tmp_path)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def renewing(world: World) -> Iterator[None]:
    """The worker says that it lives, as often as one can."""
    over = threading.Event()

    def renew() -> None:
        store = open_store(world.rig.settings.store)
        while not over.wait(0.02):
            store.heartbeat("w1", ttl=60)
        store.close()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)


@pytest.mark.usefixtures("renewing")
def test_an_attempt_that_ended_well_is_no_fault(world: World) -> None:
    world.end(AttemptState.SUCCEEDED)
    assert world.judge(HARMLESS / 2) == {}
    assert world.tally.survived == {"went on": 1, "stopped": 0, "had finished": 0}


@pytest.mark.usefixtures("renewing")
def test_an_attempt_that_a_short_outage_stopped_is_a_fault(world: World) -> None:
    world.end(AttemptState.INTERRUPTED)
    faults = world.judge(HARMLESS / 2)
    assert list(faults) == ["collateral"]
    assert "t00000/1 was stopped" in faults["collateral"][0]


@pytest.mark.usefixtures("renewing")
def test_an_attempt_that_a_long_outage_stopped_is_none(world: World) -> None:
    world.end(AttemptState.INTERRUPTED)
    assert world.judge(HARMLESS * 4) == {}
    assert world.tally.survived == {"went on": 0, "stopped": 1, "had finished": 0}


@pytest.mark.usefixtures("renewing")
def test_an_attempt_that_had_finished_ends_well_after_any_outage(world: World) -> None:
    world.end(AttemptState.INTERRUPTED)
    faults = world.judge(HARMLESS * 4, finished=True)
    assert list(faults) == ["collateral"]
    assert "t00000/1 had finished, and its end was not taken" in faults["collateral"][0]


@pytest.mark.usefixtures("renewing")
def test_only_who_wrote_its_last_line_and_is_gone_had_finished(world: World) -> None:
    look = world.watch.census
    pen = ledger.Pen(world.rig.folder, world.lease.job_id, world.lease.fence)
    pen.write("commit", "u0")
    assert world.aftermath.before(look()).finished == {}
    pen.write("publish")
    pen.close()
    assert world.aftermath.before(look()).finished == {"t00000/1": None}
    world.end(AttemptState.SUCCEEDED)
    assert world.aftermath.before(look()).finished == {}


@pytest.mark.usefixtures("renewing")
def test_an_attempt_that_neither_runs_nor_ends_is_jammed(world: World) -> None:
    """However long the outage was (INV-LOST)."""
    faults = world.judge(HARMLESS * 4)
    assert list(faults) == ["jammed"]
    assert "t00000/1 neither run nor have ended" in faults["jammed"][0]


def test_a_worker_that_does_not_renew_is_jammed(world: World) -> None:
    world.end(AttemptState.SUCCEEDED)
    faults = world.judge(HARMLESS / 2)
    assert list(faults) == ["jammed"]
    assert f"[{world.process.pid}] did not renew" in faults["jammed"][0]


def test_a_worker_that_ended_is_a_fault(world: World) -> None:
    world.end(AttemptState.SUCCEEDED)
    world.process.kill()
    world.process.wait()
    faults = world.judge(HARMLESS * 4)
    assert list(faults) == ["collateral"]
    assert f"worker {world.process.pid} ended" in faults["collateral"][0]


def test_a_unit_that_was_told_to_be_committed_and_is_not_is_lost(world: World) -> None:
    """INV-KEEP."""
    job, attempt = world.lease.job_id, world.lease.fence
    told = [ledger.Line("commit", job, attempt, unit, 1.0) for unit in ("u0", "u1")]
    told.append(ledger.Line("seal", job, attempt, "u2", 1.0))
    unit = UnitRecord("work", "u0", UnitState.COMMITTED, progress=1.0, fence=attempt)
    world.rig.store.put_plan(world.lease, "work", "digest", {}, host="here")
    world.rig.store.commit_unit(world.lease, unit)
    assert forgotten(world.rig, told) == [f"{job}: u1 was committed, and the store does not know it"]
