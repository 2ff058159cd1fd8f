"""What the SQLite store costs: submissions against a bare insert (P2), and claims at growing depths (P4)."""

from __future__ import annotations

import argparse
import functools
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from unjam.jobs.machines import Capacity
from unjam.jobs.model import InputFile, NewBatch, NewJob
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import AttemptEnd, Lease
from unjam.jobs.states import AttemptState, State
from unjam.store import Store, open_store
from unjam.store.clock import open_clock
from unjam.store.database import Params
from unjam.store.sqlite import SqliteDatabase
from unjam.store.store import SqlStore

T = TypeVar("T")

ROUNDS = 8
SINGLE = 250
BULK = 10_000
CLAIMS = 50
WAL_HEADER, WAL_FRAME = 32, 24 + 4096
DEPTHS = (1_000, 100_000)
DEEPEST = 1_000_000

# The least that a durable queue can write: one row with its payload, found again by state and age.
BARE = (
    "CREATE TABLE job (id INTEGER PRIMARY KEY, queue TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 0,"
    " prio INTEGER NOT NULL DEFAULT 0, run_at REAL NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,"
    " owner TEXT, lease REAL, payload TEXT NOT NULL, result TEXT)",
    "CREATE INDEX job_ready ON job (queue, prio, id) WHERE state = 0",
    "CREATE INDEX job_lease ON job (lease) WHERE state = 1",
)
INSERT = "INSERT INTO job (queue, payload) VALUES (?, ?)"
ALONE = "its statements alone"
LACKING: dict[str, tuple[str, ...]] = {
    ALONE: (),
    "without the event": ("event",),
    "the hot row only": ("event", "job_detail"),
}
"""A submission said again, without the rows of these tables: what each of its promises costs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; 0 when bulk submission and the claim's flatness are within their targets."""
    parser = argparse.ArgumentParser(prog="store_speed", description=__doc__)
    parser.add_argument("--all", action="store_true", help="claims at 1,000,000 queued jobs too")
    parser.add_argument("--dir", help="where the databases go (default: the folder for temporary files)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        bulk = _submissions(Path(folder))
        flat = _claims(Path(folder), (*DEPTHS, DEEPEST) if options.all else DEPTHS)
    return 0 if bulk >= 50_000 and flat <= 1.5 else 1


def _submissions(folder: Path) -> float:
    bare = sqlite3.connect(folder / "bare.db", isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", *BARE):
        bare.execute(statement)
    store = open_store(f"sqlite:///{folder}/submit.db")
    store.submit(_job(0, "warm"))
    recorder = _Recorder(str(folder / "record.db"))
    recording = SqlStore(recorder, open_clock(recorder))
    replays = {name: _prepared(folder / f"replay{i}.db") for i, name in enumerate(LACKING)}
    bare_us: list[float] = []
    ours_us: list[float] = []
    said_us: dict[str, list[float]] = {name: [] for name in LACKING}
    bare_bulk: list[float] = []
    ours_bulk: list[float] = []
    for number in range(ROUNDS):
        # Alternating: the machine is never equally busy twice.
        jobs = [_job(i, f"single{number}") for i in range(SINGLE)]
        payloads = [_payload(job) for job in jobs]
        bare_us.append(_cpu(lambda rows: [bare.execute(INSERT, ("q", row)) for row in rows], payloads))
        ours_us.append(_cpu(lambda rows: [store.submit(job) for job in rows], jobs))
        heard = [recorder.statements(functools.partial(recording.submit, job)) for job in jobs]
        for name, replay in replays.items():
            less = [_without(LACKING[name], said) for said in heard]
            said_us[name].append(_cpu(functools.partial(_transact_each, replay), less))
        many = [_job(i, f"bulk{number}") for i in range(BULK)]
        rows = [("q", _payload(job)) for job in many]
        bare_bulk.append(_cpu(lambda rows: _bare_many(bare, rows), rows))
        ours_bulk.append(_cpu(lambda new: _submit_batch(store, new), many))
    payloads = [_payload(_job(i, "pages")) for i in range(SINGLE)]
    bare_pages = _pages(bare, lambda: [bare.execute(INSERT, ("q", row)) for row in payloads])
    said = [recorder.statements(functools.partial(recording.submit, _job(i, "pages"))) for i in range(SINGLE)]
    pages: dict[str, float] = {}
    for name, replay in replays.items():
        less = [_without(LACKING[name], one) for one in said]
        pages[name] = _pages(replay, functools.partial(_transact_each, replay, less))
        replay.close()
    for one_of_them in (store, recording, bare):
        one_of_them.close()
    floor = statistics.median(bare_us)
    rate, bare_rate = 1e6 / statistics.median(ours_bulk), 1e6 / statistics.median(bare_bulk)
    for name, found in {"submit one by one": ours_us, **said_us}.items():
        one = statistics.median(found)
        counted = f"   pages {pages[name]:4.1f} and {bare_pages:.1f}" if name in pages else ""
        print(
            f"P2 {name:20} {one:7.1f} us CPU   bare insert {floor:6.1f} us   ratio {one / floor:.2f}{counted}"
        )
    print(f"P2 submit {BULK:,} at once {rate:8,.0f} a second   bare {bare_rate:9,.0f} a second   (CPU)")
    return rate


class _Recorder(SqliteDatabase):
    """Hears what a submission says to SQLite. Said again on a bare connection it shows what three rows with
    their indexes cost in one transaction, without a line of ours."""

    def __init__(self, path: str) -> None:
        self._heard: list[tuple[str, Params]] = []
        super().__init__(path)

    def statements(self, action: Callable[[], object]) -> list[tuple[str, Params]]:
        self._heard = []
        action()
        return self._heard

    def _execute(self, text: str, params: Params) -> sqlite3.Cursor:
        self._heard.append((text, params))
        return super()._execute(text, params)


def _prepared(path: Path) -> sqlite3.Connection:
    """A bare connection to a store of ours."""
    open_store(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _without(tables: Sequence[str], said: Sequence[tuple[str, Params]]) -> list[tuple[str, Params]]:
    return [(text, params) for text, params in said if not any(f"INTO {table} (" in text for table in tables)]


def _pages(connection: sqlite3.Connection, action: Callable[[], object]) -> float:
    """Pages that each of SINGLE transactions writes to the log; no clock is in this figure."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    action()
    [path] = [row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"]
    return (Path(f"{path}-wal").stat().st_size - WAL_HEADER) / WAL_FRAME / SINGLE


def _transact_each(
    connection: sqlite3.Connection, transactions: Sequence[Sequence[tuple[str, Params]]]
) -> None:
    for statements in transactions:
        connection.execute("BEGIN IMMEDIATE")
        for text, params in statements:
            connection.execute(text, params)
        connection.execute("COMMIT")


def _claims(folder: Path, depths: Sequence[int]) -> float:
    stores = {depth: _filled(folder / f"claim{depth}.db", depth) for depth in depths}
    runs: dict[int, list[float]] = {depth: [] for depth in depths}
    for _ in range(ROUNDS):
        # Alternating here too.
        for depth, store in stores.items():
            runs[depth].append(_cpu(lambda stores: _claim_and_end(stores[0], CLAIMS), [store]) / CLAIMS)
    costs = {depth: statistics.median(runs[depth]) for depth in depths}
    for depth, store in stores.items():
        store.close()
        print(f"P4 claim and end at {depth:9,} queued {costs[depth]:7.1f} us CPU")
    flat = max(costs.values()) / min(costs.values())
    print(f"P4 dearest depth over cheapest: {flat:.2f}")
    return flat


def _filled(path: Path, depth: int) -> Store:
    store = open_store(f"sqlite:///{path}")
    for start in range(0, depth, BULK):
        store.submit_many([_job(i, "depth") for i in range(start, min(depth, start + BULK))])
    _claim_and_end(store, 20)
    return store


def _claim_and_end(store: Store, times: int) -> None:
    room = Capacity("bench", cpu=4, memory_bytes=1 << 40, gpu=0, free_slots=1)
    for _ in range(times):
        claim = store.claim("worker", capacity=room, queues=None, pipelines=["convert"], ttl=30)[0]
        done = Reason(ReasonCode.OK, "done")
        end = AttemptEnd(AttemptState.SUCCEEDED, done, State.SUCCEEDED, done, claim.job.counters)
        store.end(Lease(claim.job.id, claim.lease.fence), end)


def _submit_batch(store: Store, jobs: Sequence[NewJob]) -> None:
    store.submit_many(jobs, batch=NewBatch(f"batch of {jobs[0].id}", "bench"))


def _bare_many(connection: sqlite3.Connection, rows: Sequence[tuple[str, str]]) -> None:
    connection.execute("BEGIN")
    connection.executemany(INSERT, rows)
    connection.execute("COMMIT")


def _cpu(action: Callable[[Sequence[T]], object], items: Sequence[T]) -> float:
    """Microseconds of CPU for one item; this process's own, system calls included."""
    start = time.process_time()
    action(items)
    return (time.process_time() - start) / len(items) * 1e6


def _job(number: int, kind: str) -> NewJob:
    name = f"take-{number:06d}.mov"
    return NewJob(
        id=f"{kind}-{number:012d}",
        pipeline="convert",
        pipeline_version=1,
        params={"preset": "hls", "crf": 23, "segment_seconds": 60},
        inputs=(InputFile(name, f"/media/in/{name}", 123_456_789, 1_700_000_000_000_000_000),),
        output_dir="/media/out",
        output_path=f"/media/out/{kind}/{name}",
        name=name,
        dedupe_key=f"{kind}{number:032x}",
    )


def _payload(job: NewJob) -> str:
    """The same facts as one JSON text."""
    file = job.inputs[0]
    inputs = [file.name, file.uri, file.size_bytes, file.mtime_ns]
    return json.dumps([job.id, dict(job.params), inputs, job.output_dir, job.output_path, job.dedupe_key])


if __name__ == "__main__":
    raise SystemExit(main())
