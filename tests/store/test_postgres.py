"""What PostgreSQL alone does: connections lost, schemas of others, locks, clocks, and sentences."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psycopg
import pytest

from tests.helpers import wait_until
from tests.postgres import Server
from tests.store.rig import ROOT, TTL, Clock, PostgresBackend, ending, job, state_of, take, take_one
from unjam.errors import StoreUnavailable, UsageError
from unjam.jobs.lifecycle import TRANSITIONS
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.states import State
from unjam.settings import Settings
from unjam.store import JobFilter, Store, open_listener, open_store, pg_clock, pg_migrate
from unjam.store.clock import since_boot
from unjam.store.pg_batch import statement
from unjam.store.pg_connect import connect, place
from unjam.store.pg_store import PostgresStore
from unjam.store.postgres import PostgresDatabase
from unjam.store.queries import names
from unjam.store.url import shown
from unjam.worker.recovery import reap_expired

NOWHERE = "postgresql://ann:secret@localhost:1/jobs"


@pytest.fixture
def backend(postgres_server: Server, request: pytest.FixtureRequest) -> Iterator[PostgresBackend]:
    backend = PostgresBackend(postgres_server, request.node.name.partition("[")[0][:60])
    yield backend
    backend.execute(f"DROP SCHEMA IF EXISTS {backend.schema} CASCADE")


@pytest.fixture
def store(backend: PostgresBackend) -> Iterator[Store]:
    store = backend.open()
    yield store
    assert store.check() == []
    store.close()


def cut_all(backend: PostgresBackend) -> None:
    """End every other session, as an administrator or a restart does."""
    backend.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )


# -- connections ------------------------------------------------------------------------------------------
def test_a_lost_connection_is_made_again(store: Store, backend: PostgresBackend) -> None:
    store.submit(job("before"))
    cut_all(backend)
    store.submit(job("after"))
    cut_all(backend)
    assert {one.id for one in store.list_jobs(JobFilter())} == {"before", "after"}


def test_a_connection_lost_inside_a_transaction_leaves_nothing_half(
    store: Store, backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole call is repeated: one job, one submission in its history."""
    send = PostgresDatabase._send
    cuts: list[bytes] = []

    def cut_once(self: PostgresDatabase, text: bytes, params: object) -> object:
        if text == statement("insert_job") and not cuts:
            cuts.append(text)
            cut_all(backend)
        return send(self, text, params)  # type: ignore[arg-type]

    monkeypatch.setattr(PostgresDatabase, "_send", cut_once)
    assert store.submit(job()).created
    assert cuts
    assert [event.kind for event in store.events_since(0)] == ["submitted"]


def test_a_server_that_is_away_is_told_and_the_same_store_goes_on(own_server: Server) -> None:
    store = open_store(own_server.url(), patience=0.3)
    store.submit(job())
    own_server.stop()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.get("job-1")
    own_server.start()
    assert state_of(store) is State.QUEUED
    store.close()


@pytest.mark.parametrize("how", ["restarted", "unreachable"])
def test_nothing_is_reaped_for_one_ttl_after_an_outage(
    own_server: Server, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-ONCE: leases that ran out while nobody could renew them say nothing about their owners."""
    clock, settings = Clock(), Settings(home=tmp_path, lease_ttl=TTL)
    store = open_store(own_server.url(), clock=clock, patience=0.5)
    clock.advance(TTL)
    store.submit(job())
    take_one(store)
    clock.advance(TTL + 1)
    if how == "restarted":
        # However short that was for us.
        monkeypatch.setattr(pg_clock, "OUTAGE", 600.0)
        own_server.stop()
        own_server.start()
    else:
        monkeypatch.setattr(pg_clock, "OUTAGE", 0.4)
        with own_server.out_of_reach(), pytest.raises(StoreUnavailable):
            store.expired()
    assert [one.job.id for one in store.expired()] == ["job-1"]
    assert not reap_expired(store, settings, "host-b")
    clock.advance(TTL - 1)
    assert not reap_expired(store, settings, "host-b")
    clock.advance(1)
    assert reap_expired(store, settings, "host-b").requeued == ["job-1"]
    store.close()


def test_a_link_that_flaps_keeps_no_worker_from_reaping(
    store: Store, backend: PostgresBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-LOST: a worker whose link breaks more often than a lease lasts still frees what others lost."""
    monkeypatch.setattr(pg_clock, "OUTAGE", 600.0)  # on a machine however busy
    clock, settings = backend.clock, Settings(home=tmp_path, lease_ttl=TTL)
    clock.advance(TTL)
    store.submit(job())
    take_one(store)
    for _ in range(2):
        assert not reap_expired(store, settings, "host-b")
        clock.advance(TTL / 2 + 1)
        cut_all(backend)
    assert reap_expired(store, settings, "host-b").requeued == ["job-1"]


def test_the_clock_is_the_servers(store: Store, backend: PostgresBackend) -> None:
    real = open_store(backend.url)
    [(server,)] = backend.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
    assert abs(real.now() - server) < 5
    assert real.now() - real.steady_since() < 5
    real.close()


def test_a_clock_that_was_set_starts_the_wait_of_the_reaper(backend: PostgresBackend) -> None:
    database = PostgresDatabase(backend.url)
    before = database.steady_since
    database._watch.answered(since_boot(), database.now() + 0.5)
    assert database.steady_since == before
    jumped = database.now() + 3600
    database._watch.answered(since_boot(), jumped)
    assert database.steady_since == pytest.approx(jumped, abs=0.1)
    database.close()


def test_a_clock_that_was_set_costs_nobody_a_lease(
    store: Store, backend: PostgresBackend, tmp_path: Path
) -> None:
    """Five hours ahead: whoever renews first has it again, at once and only then."""
    store.submit_many([job("job-1"), job("job-2")])
    leases = [claim.lease for claim in take(store, limit=2)]
    database = cast(PostgresDatabase, cast(PostgresStore, store)._db)
    backend.clock.advance(5 * 3600)
    assert store.renew("worker-1", leases, ttl=TTL) == [], "they ran out while the clock ran as it should"
    assert database._watch._course is not None
    low, high = database._watch._course
    database._watch._course = (low - 5 * 3600, high - 5 * 3600)  # what it was before somebody set the clock
    first, second = leases
    assert [held.lease for held in store.renew("worker-1", [first], ttl=TTL)] == [first]
    assert not reap_expired(store, Settings(home=tmp_path, lease_ttl=TTL), "host-b")
    assert [held.lease for held in store.renew("worker-1", [second], ttl=TTL)] == [second]
    backend.clock.advance(TTL + 1)
    assert store.renew("worker-1", leases, ttl=TTL) == []


def test_a_statement_that_was_not_prepared_after_all_is_no_end(backend: PostgresBackend) -> None:
    """The driver remembers it as prepared, when the one before it in the pipeline had failed."""
    database = PostgresDatabase(backend.url)
    nobodys = (10**9, "key", "value")

    def fail() -> None:
        with database.write():
            database.later("insert_tag", nobodys)
            with pytest.raises(psycopg.errors.ForeignKeyViolation):
                database.all("list_workers")
            database.rollback()

    fail()  # the driver forgets all at a rollback, but not at one that came when it knew nothing
    for _ in range(2):
        database.all("list_workers")
    fail()
    for _ in range(3):
        assert database.all("list_workers") == []
    database.close()


# -- locks ------------------------------------------------------------------------------------------------
def test_hosts_do_not_wait_for_each_other(store: Store, backend: PostgresBackend) -> None:
    """A machine that was cut off in the middle of a claim holds up neither the others nor the next job."""
    store.submit_many([job("held"), job("free")])
    cut_off = PostgresDatabase(backend.url, clock=backend.clock)
    cut_off.begin("claim on host-a")
    lease = {"worker_id": "w", "host": "host-a", "stamp": 1.0, "ttl": 1.0}
    assert cut_off.run("claim_jobs", {"seen": "[[1, 0, 1, 1, 0, 0]]", **lease}) == 1
    began = time.monotonic()
    assert [claim.job.id for claim in take(store, host="host-b", limit=2)] == ["free"]
    assert time.monotonic() - began < 2
    waiting = threading.Thread(target=lambda: take(backend.open(), host="host-a"), daemon=True)
    waiting.start()
    wait_until(
        lambda: backend.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"),
        what="the second claim on host-a to wait",
    )
    cut_off.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert [one.job.id for one in store.live_jobs("host-a")] == ["held"]


def test_two_that_lock_each_other_both_get_through(store: Store, backend: PostgresBackend) -> None:
    """A deadlock is found by the server; the one that it ends is repeated."""
    store.submit_many([job("a"), job("b")])
    outcome: list[object] = []

    def cancel(first: str, second: str) -> None:
        other = backend.open()
        barrier.wait()
        for _ in range(20):
            outcome.append(other.request_cancel([first, second], by="ann"))
        other.close()

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=cancel, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(outcome) == 40
    assert {state_of(store, "a"), state_of(store, "b")} == {State.CANCELLED}


def test_events_of_an_open_transaction_hold_readers_at_its_place(
    store: Store, backend: PostgresBackend
) -> None:
    slow = PostgresDatabase(backend.url, clock=backend.clock)
    with slow.write():
        slow.run("insert_event", (1.0, None, None, "slow", None, None, "{}"))
        store.pause_queue("default", by="ann")
        assert store.events_since(0) == []
        assert store.last_event_id() == 0
    assert [event.kind for event in store.events_since(0)] == ["slow", "queue_paused"]
    slow.close()


def test_a_stranger_with_a_long_transaction_holds_no_reader(store: Store, postgres_server: Server) -> None:
    postgres_server_url = postgres_server.url().replace("/postgres?", "/template1?")
    with psycopg.connect(postgres_server_url) as stranger:
        stranger.execute("SELECT pg_current_xact_id()")
        store.submit(job())
        assert [event.kind for event in store.events_since(0)] == ["submitted"]


# -- receipts ---------------------------------------------------------------------------------------------
def test_a_store_whose_receipt_is_gone_goes_on(store: Store, backend: PostgresBackend) -> None:
    """A backup was played back, or somebody slept for a month."""
    store.submit(job("a"))
    backend.execute("DELETE FROM receipt")
    store.submit(job("b"))
    assert [state_of(store, name) for name in ("a", "b")] == [State.QUEUED] * 2
    assert len([event for event in store.events_since(0) if event.kind == "submitted"]) == 2


def test_receipts_of_the_silent_are_removed(store: Store, backend: PostgresBackend) -> None:
    store.submit(job("a"))
    backend.execute("UPDATE receipt SET at = at - interval '31 days'")
    store.shrink()
    assert backend.execute("SELECT * FROM receipt") == []
    store.submit(job("b"))
    store.shrink()
    assert len(backend.execute("SELECT * FROM receipt")) == 1


def test_a_client_that_ends_leaves_no_receipt(store: Store, backend: PostgresBackend) -> None:
    store.submit(job("a"))
    before = backend.execute("SELECT token FROM receipt")
    short = open_store(backend.url)
    short.submit(job("b"))
    assert len(backend.execute("SELECT token FROM receipt")) == len(before) + 1
    short.close()
    assert backend.execute("SELECT token FROM receipt") == before


# -- schema -----------------------------------------------------------------------------------------------
def test_many_starters_at_once_make_one_schema(backend: PostgresBackend) -> None:
    program = "import sys; from unjam.store import open_store; open_store(sys.argv[1]).close()"
    starters = [subprocess.Popen([sys.executable, "-c", program, backend.url], cwd=ROOT) for _ in range(4)]
    assert [starter.wait(30) for starter in starters] == [0, 0, 0, 0]
    assert backend.execute("SELECT version FROM schema_version") == [
        (len(list(pg_migrate.FOLDER.glob("*.sql"))),)
    ]
    assert backend.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []


def test_a_newer_schema_is_refused(store: Store, backend: PostgresBackend) -> None:
    backend.execute("UPDATE schema_version SET version = version + 1")
    with pytest.raises(StoreUnavailable, match="used by a newer unjam"):
        open_store(backend.url)


def test_a_migration_that_fails_changes_nothing(
    store: Store, backend: PostgresBackend, tmp_path: Path
) -> None:
    for file in pg_migrate.FOLDER.glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text())
    number = len(list(tmp_path.glob("*.sql")))
    (tmp_path / f"{number + 1:04}_colour.sql").write_text(
        "ALTER TABLE job ADD COLUMN colour TEXT; SELECT 1/0;"
    )
    where = place(backend.url)
    with connect(where) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            pg_migrate.upgrade(connection, where, tmp_path)
        assert backend.execute("SELECT version FROM schema_version") == [(number,)]
        (tmp_path / f"{number + 1:04}_colour.sql").write_text("ALTER TABLE job ADD COLUMN colour TEXT;")
        pg_migrate.upgrade(connection, where, tmp_path)
    assert backend.execute("SELECT colour FROM job") == []
    assert backend.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []


def test_the_tables_of_another_program_are_left_alone(backend: PostgresBackend) -> None:
    backend.execute(f"CREATE SCHEMA {backend.schema}")
    backend.execute("CREATE TABLE job (theirs TEXT)")
    with pytest.raises(StoreUnavailable, match="another program"):
        open_store(backend.url)
    assert backend.execute("SELECT * FROM job") == []


def test_the_schema_knows_every_change_of_state(store: Store, backend: PostgresBackend) -> None:
    for before in State:
        for after in State:
            insert = (
                "INSERT INTO event (at, kind, state_from, state_to, data) "
                f"VALUES (1, 'x', '{before.value}', '{after.value}', '{{}}')"
            )
            if (before, after) in TRANSITIONS:
                backend.execute(insert)
            else:
                with pytest.raises(psycopg.errors.CheckViolation):
                    backend.execute(insert)


def test_the_history_of_a_dump_is_read_on_another_server(store: Store, backend: PostgresBackend) -> None:
    """Its numbers begin with transactions that this server will have in years."""
    store.submit(job())
    store.end(take_one(store).lease, ending(State.SUCCEEDED))
    backend.execute("UPDATE event SET id = id + (1::bigint << 50)")
    store.submit(job("job-2"))  # a worker that came back sooner than anybody opened the store anew
    for _ in range(2):
        opened = backend.open()
        told = [f"{event.job_id} {event.kind}" for event in opened.events_since(0)]
        assert told == ["job-1 submitted", "job-1 claimed", "job-1 ended", "job-2 submitted"]
        opened.close()
    last = store.last_event_id()
    store.submit(job("job-3"))
    assert [event.job_id for event in store.events_since(last)] == ["job-3"]


# -- text -------------------------------------------------------------------------------------------------
def test_odd_text_is_stored_all_the_same(store: Store) -> None:
    """Names come back whole; a sentence about them can be read, and the job can end."""
    odd = "caf\udce9\0\N{PILE OF POO}.mov"
    spec = job(name=odd, output_path=f"/out/{odd}", tags={odd: odd}, params={"title": odd})
    store.submit(spec)
    claim = take_one(store)
    assert claim.job.spec == spec
    assert [one.id for one in store.list_jobs(JobFilter(tag=(odd, odd)))] == ["job-1"]
    reason = Reason(ReasonCode.INPUT_BAD, f"cannot read {odd}")
    store.end(claim.lease, ending(State.FAILED, claim, job_reason=reason))
    ended = store.get("job-1")
    assert ended is not None
    assert ended.reason == Reason(ReasonCode.INPUT_BAD, "cannot read caf\\udce9\\x00\N{PILE OF POO}.mov")


# -- sentences --------------------------------------------------------------------------------------------
def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot be reached.*refused.*Start the server") as told:
        open_store(NOWHERE)
    assert "secret" not in str(told.value)
    assert "ann@localhost:1/jobs" in str(told.value)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("postgresql://ann:pa@ss@db/jobs", "postgresql://ann@db/jobs"),
        ("postgres://db/jobs?user=a&password=b#c", "postgres://db/jobs?user=a&password=***#c"),
        ("postgresql://db:5432/a@b", "postgresql://db:5432/a@b"),
        ("sqlite:////a:b@c.db", "sqlite:////a:b@c.db"),
    ],
)
def test_passwords_are_not_shown(url: str, seen: str) -> None:
    assert shown(url) == seen


def test_a_url_that_makes_no_sense_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="not the URL of a store"):
        open_store("postgresql://localhost/jobs?no_such_option=1")


def test_psycopg_is_asked_for_by_name_and_only_for_postgresql(tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["psycopg"] = None  # as if it were not installed
from unjam.errors import StoreUnavailable
from unjam.store import open_store
open_store("sqlite:///{tmp_path}/unjam.db").close()
try:
    open_store("{NOWHERE}")
except StoreUnavailable as error:
    print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "pip install 'unjam[postgres]'" in told.stdout


def test_a_backup_is_left_to_the_tools_of_postgresql(store: Store, backend: PostgresBackend) -> None:
    with pytest.raises(UsageError, match=f"pg_dump --schema={backend.schema} --file=/x/copy"):
        store.backup("/x/copy")


# -- wake-up ----------------------------------------------------------------------------------------------
def test_a_call_reaches_a_listener_also_after_its_connection_was_lost(
    store: Store, backend: PostgresBackend, tmp_path: Path
) -> None:
    listener = open_listener(backend.url, tmp_path, "worker-1")
    wait_until(listener.drain, what="the first call, when it listens")
    store.submit(job("a"))
    wait_until(listener.drain, what="a call")
    cut_all(backend)
    wait_until(listener.drain, what="the call when it listens again")
    store.submit(job("b"))
    wait_until(listener.drain, what="a call")
    path = Path(listener.path)
    listener.close()
    assert not path.exists()


# -- plans ------------------------------------------------------------------------------------------------
ROWS = 300_000
FILL = f"""
INSERT INTO job (seq, id, lane_id, state, run_at, created_at, dedupe_key, output_path, cpu, memory_bytes, gpu,
                 finished_at, reason_code, reason_message)
SELECT i, 'fill-' || lpad(i::text, 9, '0'), 1 + i % 4, state, i, i, 'key-' || i, '/out/' || i, 1, 0, 0,
       CASE WHEN state <> 'queued' THEN i END, CASE WHEN state <> 'queued' THEN 'ok' END,
       CASE WHEN state <> 'queued' THEN 'ok' END
FROM (
    SELECT i, CASE WHEN i % 3 = 0 THEN 'queued' WHEN i % 1000 = 1 THEN 'failed' ELSE 'succeeded' END AS state
    FROM generate_series(10, {ROWS + 9}) AS n (i)
) AS made;
INSERT INTO job_detail (job_seq, name, pipeline_version, spec)
SELECT seq, id, 1, '{{"params":{{}},"inputs":[]}}' FROM job WHERE seq >= 10;
INSERT INTO attempt (job_seq, fence, worker_id, host, state, started_at, ended_at, reason_code)
SELECT seq, 1, 'w', 'h', 'succeeded', 1, 2, 'ok' FROM job WHERE finished_at IS NOT NULL;
INSERT INTO event (at, job_seq, kind, data) SELECT seq, seq, 'filled', '{{}}' FROM job WHERE seq % 3 = 0;
SELECT setval('job_seq_seq', {ROWS + 9});
ANALYZE
"""
LARGE = ("job", "job_detail", "attempt", "event")
# Asked for by a person, or from one end and stopped by a LIMIT.
LOOKS_AT_ALL = {"find_contradictions", "count_jobs", "count_queues", "delete_empty_batches"}
ONLY_SQLITE = {"get_anchor", "set_anchor"}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_with_300_000_rows_no_statement_reads_a_whole_table(store: Store, backend: PostgresBackend) -> None:
    for number in range(4):
        store.submit(job(f"lane-{number}", priority=number))
    backend.execute(FILL)
    texts = {name: statement(name).decode() for name in names() if name not in LOOKS_AT_ALL | ONLY_SQLITE}
    newest = " AND j.state = %(state)s ORDER BY j.seq DESC LIMIT %(limit)s"
    texts["list_jobs"] += newest
    found = {}
    with connect(place(backend.url)) as connection:
        # What a prepared statement gets in the end, whatever its parameters are.
        connection.execute("SET plan_cache_mode TO force_generic_plan")
        for name, text in texts.items():
            plan = _plan(connection, text)
            bad = [line for line in plan if any(f"Seq Scan on {table} " in line for table in LARGE)]
            if bad:
                found[name] = plan
        heads = "\n".join(_plan(connection, texts["find_heads"]))
        newest_first = "\n".join(_plan(connection, texts["list_jobs"]))
    assert found == {}
    assert "Index Only Scan using job_claim" in heads
    # The heads of all lanes are put in order, but of no lane more than those are read.
    below = heads[heads.index("Nested Loop") :]
    assert "Limit" in below
    assert "Sort" not in below
    assert "Sort" not in newest_first
    timed = time.monotonic()
    for _ in range(20):
        assert len(take(store)) == 1
        store.list_jobs(JobFilter(states=frozenset({State.FAILED, State.QUEUED})), limit=5)
    assert time.monotonic() - timed < 4


def _plan(connection: "psycopg.Connection[dict[str, object]]", text: str) -> list[str]:
    """The plan of a statement for parameters that are not known."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        key = found[1] or f"#{len(numbers)}"
        return f"${numbers.setdefault(key, len(numbers) + 1)}"

    body = re.sub(r"%(?:\((\w+)\))?s", number, text).replace("%%", "%")
    connection.execute(f"PREPARE looked_at AS {body}".encode(), prepare=False)
    try:
        nulls = f"({', '.join(['NULL'] * len(numbers))})" if numbers else ""
        rows = connection.execute(f"EXPLAIN EXECUTE looked_at{nulls}".encode(), prepare=False).fetchall()
        return [str(row["QUERY PLAN"]) for row in rows]
    finally:
        connection.execute(b"DEALLOCATE looked_at", prepare=False)
