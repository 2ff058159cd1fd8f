"""What the store's contract needs: a clock in the test's hand, backends, and short ways to usual states."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg

from tests.postgres import Server
from tests.store.flaky import FlakyDatabase
from unjam.jobs.machines import Capacity, WorkerInfo
from unjam.jobs.model import Counters, InputFile, NewJob
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import Artifact, AttemptEnd, Claim, Lease, ProgressUpdate, StagedOutput, UnitRecord
from unjam.jobs.states import AttemptState, Phase, State, UnitState
from unjam.store import Store, open_store
from unjam.store.pg_store import PostgresStore

ROOT = Path(__file__).parent.parent.parent
TTL = 30.0
HOST = "host-a"
PIPELINES = ("convert", "faces")


class Clock:
    """The store's clock in these tests: it moves when the test says so."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class Backend(Protocol):
    """One empty store of some kind, and a look behind it."""

    clock: Clock

    @property
    def url(self) -> str: ...
    def open(self) -> Store: ...
    def dump(self) -> dict[str, list[Any]]:
        """Every row of every table."""


@dataclass
class SqliteBackend:
    path: Path
    clock: Clock = field(default_factory=Clock)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def open(self) -> Store:
        return open_store(self.url, clock=self.clock)

    def dump(self) -> dict[str, list[Any]]:
        with raw(self.path) as connection:
            names = [
                row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            ]
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in sorted(names)}


@dataclass
class PostgresBackend:
    """A schema of its own in the server of the test run."""

    server: Server
    schema: str
    flaky: bool = False
    clock: Clock = field(default_factory=Clock)

    @property
    def url(self) -> str:
        return self.server.url(self.schema)

    def open(self) -> Store:
        if self.flaky:
            return PostgresStore(FlakyDatabase(self.url, clock=self.clock))
        return open_store(self.url, clock=self.clock)

    def execute(self, text: str) -> list[Any]:
        """A bare statement in the schema; it commits by itself."""
        with self._connected() as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def dump(self) -> dict[str, list[Any]]:
        with self._connected() as connection:
            return {
                name: sorted(connection.execute(f"SELECT * FROM {name}".encode()).fetchall(), key=repr)
                for name in self._tables(connection)
            }

    def clear(self) -> None:
        """As new, in one go without foreign keys: a new schema would take ten times as long."""
        with self._connected() as connection:
            deletions = "; ".join(f"DELETE FROM {name}" for name in self._tables(connection))
            connection.execute(f"SET session_replication_role TO replica; {deletions}".encode())

    def _connected(self) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(self.url, autocommit=True)

    def _tables(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> list[str]:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (self.schema,))
        # Receipts say how far a client came, not what is in the store.
        return sorted(name for (name,) in rows if name not in ("schema_version", "receipt"))


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """A bare connection to a SQLite store; it commits by itself."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


# -- values ----------------------------------------------------------------------------------------------
def job(id: str = "job-1", **more: Any) -> NewJob:
    usual: dict[str, Any] = {
        "pipeline": "convert",
        "pipeline_version": 1,
        "params": {"preset": "hls"},
        "name": id,
    }
    return NewJob(id=id, **{**usual, **more})


def an_input(name: str = "in.mov") -> InputFile:
    return InputFile(name, f"/media/{name}", 1_234, 1_700_000_000_123_456_789)


def room(**more: Any) -> Capacity:
    """A machine large enough for everything that a test does not limit."""
    usual: dict[str, Any] = {"host": HOST, "cpu": 64, "memory_bytes": 1 << 40, "gpu": 1, "free_slots": 64}
    return Capacity(**{**usual, **more})


def worker(id: str = "worker-1", **more: Any) -> WorkerInfo:
    usual: dict[str, Any] = {
        "host": HOST,
        "identity": f"identity of {id}",
        "keeper_identity": None,
        "mark": (1 << 62) - 1,
        "queues": None,
        "slots": 4,
        "pipelines": PIPELINES,
        "wake_path": None,
    }
    return WorkerInfo(id=id, **{**usual, **more})


def ending(state: State, claim: Claim | None = None, **more: Any) -> AttemptEnd:
    """An end of the attempt that makes the job `state`."""
    attempt, code = {
        State.SUCCEEDED: (AttemptState.SUCCEEDED, ReasonCode.OK),
        State.PARTIAL: (AttemptState.SUCCEEDED, ReasonCode.OK),
        State.SKIPPED: (AttemptState.SUCCEEDED, ReasonCode.OK),
        State.FAILED: (AttemptState.FAILED, ReasonCode.INPUT_BAD),
        State.CANCELLED: (AttemptState.INTERRUPTED, ReasonCode.CANCELLED_BY_USER),
        State.PAUSED: (AttemptState.INTERRUPTED, ReasonCode.INTERRUPTED),
        State.QUEUED: (AttemptState.INTERRUPTED, ReasonCode.WORKER_LOST),
    }[state]
    reason = Reason(code, f"ended as {state.value}")
    counters = claim.job.counters if claim is not None else Counters(attempts=1)
    usual: dict[str, Any] = {"job_reason": reason, "counters": counters}
    return AttemptEnd(attempt, reason, state, **{**usual, **more})


def staged(name: str = "main") -> StagedOutput:
    return StagedOutput(
        name, "video", f"/out/.{name}.part", f"/out/{name}.mp4", 7, 99, 123_456, "ab" * 32, {"w": 1}
    )


def artifact(name: str = "main") -> Artifact:
    return Artifact(name, "video", f"/out/{name}.mp4", 99, "ab" * 32, {"width": 640})


def unit(name: str = "0001", *, host: str | None = None, **more: Any) -> UnitRecord:
    usual: dict[str, Any] = {"progress": 1.0, "uri": f"/units/{name}", "size_bytes": 5, "sha256": "cd" * 32}
    return UnitRecord("encode", name, UnitState.COMMITTED, host=host, **{**usual, **more})


def picture(lease: Lease, **more: Any) -> ProgressUpdate:
    usual: dict[str, Any] = {
        "phase": Phase.WORKING,
        "progress": 0.5,
        "eta_seconds": 60.0,
        "message": "half",
        "advanced_at": 1_000_000.0,
        "stalled": None,
        "usage": {"rss_bytes": 1},
    }
    return ProgressUpdate(lease=lease, **{**usual, **more})


# -- short ways ------------------------------------------------------------------------------------------
def take(store: Store, *, by: str = "worker-1", limit: int = 1, ttl: float = TTL, **more: Any) -> list[Claim]:
    queues = more.pop("queues", None)
    pipelines = more.pop("pipelines", PIPELINES)
    return store.claim(by, capacity=room(**more), queues=queues, pipelines=pipelines, ttl=ttl, limit=limit)


def take_one(store: Store, **more: Any) -> Claim:
    claims = take(store, **more)
    assert len(claims) == 1
    return claims[0]


def state_of(store: Store, id: str = "job-1") -> State:
    found = store.get(id)
    assert found is not None
    return found.state


def bring(store: Store, wanted: str, id: str = "job-1") -> Lease | None:
    """Make a job and bring it into a state (or `publishing`, `pausing`); its lease while it is live."""
    state = State.RUNNING if wanted in ("publishing", "pausing") else State(wanted)
    if state is State.WAITING:
        store.submit(job(f"{id}-upstream", pipeline="never"))
        store.submit(job(id, after=(f"{id}-upstream",)))
        return None
    store.submit(job(id))
    if state is State.QUEUED:
        return None
    claim = take_one(store)
    assert claim.job.id == id
    if wanted == "publishing":
        assert store.begin_publish(claim.lease, [staged()], ending(State.SUCCEEDED, claim))
    elif wanted == "pausing":
        store.request_pause([id], by="ann", reason=PAUSED)
    elif state is State.CANCELLING:
        store.request_cancel([id], by="ann")
    elif state is not State.RUNNING:
        if state is State.PAUSED:
            store.request_pause([id], by="ann", reason=PAUSED)
        store.end(claim.lease, ending(state, claim))
        return None
    return claim.lease


PAUSED = Reason(ReasonCode.INTERRUPTED, "paused by ann")
EVERY_STATE = [*sorted(state.value for state in State), "publishing", "pausing"]


def changes(store: Store, id: str | None = None) -> list[tuple[State | None, State | None]]:
    """Every change of state that the history tells of a job."""
    events = store.events_since(0, job_ids=None if id is None else [id], limit=10_000)
    return [(event.state_from, event.state_to) for event in events if event.state_to is not None]


# -- other processes -------------------------------------------------------------------------------------
@contextmanager
def racers(count: int, *arguments: str) -> Iterator[list["subprocess.Popen[str]"]]:
    """`count` processes of tests/store/racer.py, started and waiting; they end with the test."""
    command = [sys.executable, "-m", "tests.store.racer", *arguments]
    processes = [
        subprocess.Popen(
            [*command, str(number)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def race(processes: Sequence["subprocess.Popen[str]"]) -> list[Any]:
    """Let them go at once; what each of them tells at its end."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = []
    for process in processes:
        assert process.stdout is not None
        told.append(json.loads(process.stdout.readline()))
    return told
