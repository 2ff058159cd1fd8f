"""Claims and lists stay on an index, and their cost stays flat, with 300,000 rows."""

import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.rig import SqliteBackend, job, raw, take
from unjam.jobs.states import State
from unjam.store import JobFilter, Store
from unjam.store.queries import names, sql

ROWS = 300_000

# Ended, queued, failed ... in the mix of a store that has run for long.
FILL = f"""
INSERT INTO job (seq, id, lane_id, state, run_at, created_at, dedupe_key, output_path, cpu, memory_bytes, gpu,
                 finished_at, reason_code, reason_message)
WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS + 9}),
made AS (
    SELECT i, CASE WHEN i % 3 = 0 THEN 'queued' WHEN i % 1000 = 1 THEN 'failed' ELSE 'succeeded' END AS state
    FROM n
)
SELECT i, printf('fill-%09d', i), 1 + i % 4, state, i, i, 'key-' || i, '/out/' || i, 1, 0, 0,
       iif(state = 'queued', NULL, i), iif(state = 'queued', NULL, 'ok'), iif(state = 'queued', NULL, 'ok')
FROM made
"""
DETAILS = """
INSERT INTO job_detail (job_seq, name, pipeline_version, spec)
SELECT seq, id, 1, '{"params":{},"inputs":[]}' FROM job WHERE seq >= 10
"""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, SqliteBackend]]:
    backend = SqliteBackend(tmp_path_factory.mktemp("plans") / "unjam.db")
    store = backend.open()
    for number in range(4):
        store.submit(job(f"lane-{number}", priority=number))
    with raw(backend.path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(FILL)
        connection.execute(DETAILS)
    yield store, backend
    store.close()


@pytest.fixture
def connection(full: tuple[Store, SqliteBackend]) -> Iterator[sqlite3.Connection]:
    with raw(full[1].path) as connection:
        yield connection


def plan(connection: sqlite3.Connection, text: str) -> list[str]:
    lists = ("ids", "keys", "paths", "seqs", "held", "queues", "pipelines", "states", "names")
    blank = {name: "[]" if name in lists else None for name in re.findall(r":([a-z_0-9]+)", text)}
    rows = connection.execute("EXPLAIN QUERY PLAN " + text, blank or (None,) * text.count("?"))
    return [row[3] for row in rows]


SMALL = ("lane", "queue", "worker", "batch", "meta", "attachment", "used")
"""`used` is the one row of a sum."""
# Asked for by a person, or from one end and stopped by a LIMIT or an aggregate that is an end of the table.
LOOKS_AT_ALL = {"count_jobs", "find_contradictions", "list_jobs", "find_newest", "next_seqs", "last_event"}


def scanned(connection: sqlite3.Connection, name: str) -> list[str]:
    """Tables that the statement reads from end to end."""
    text = sql(name) + (" ORDER BY j.seq DESC LIMIT :limit" if name == "list_jobs" else "")
    aliases: dict[str, str] = {
        alias: table for table, alias in re.findall(r"(?:FROM|JOIN|UPDATE)\s+(\w+) AS (\w+)", text)
    }
    # An index that is read from end to end is a whole table too; job_live holds only what runs.
    found = [re.fullmatch(r"SCAN (\w+)(?: USING (?!.*job_live).*)?", step) for step in plan(connection, text)]
    return [aliases.get(scan.group(1), scan.group(1)) for scan in found if scan]


@pytest.mark.slow
def test_no_statement_reads_a_whole_large_table(connection: sqlite3.Connection) -> None:
    found = {name: [table for table in scanned(connection, name) if table not in SMALL] for name in names()}
    assert {name: tables for name, tables in found.items() if tables and name not in LOOKS_AT_ALL} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("find_heads", "USING COVERING INDEX job_claim"),
        ("find_starving", "USING COVERING INDEX job_claim"),
        ("require_room", "USING COVERING INDEX job_live"),
        ("sum_used", "USING COVERING INDEX job_live"),
        ("find_live", "INDEX job_live"),
        ("find_requests", "INDEX job_live"),
        ("find_dedupe", "USING INDEX job_dedupe"),
        ("find_taken", "INDEX job_output"),
        ("find_prunable", "INDEX job_finished"),
        ("find_dependants", "INDEX dependency_after"),
        ("list_events_of_jobs", "INDEX event_job"),
    ],
)
def test_the_paths_that_are_walked_often_have_their_index(
    connection: sqlite3.Connection, name: str, index: str
) -> None:
    steps = plan(connection, sql(name))
    assert any(index in step for step in steps), steps
    if name in ("find_heads", "find_prunable"):
        assert not [step for step in steps if "TEMP B-TREE" in step]


@pytest.mark.slow
def test_a_list_by_state_sorts_nothing(connection: sqlite3.Connection) -> None:
    steps = plan(connection, sql("list_jobs") + " AND j.state = :state ORDER BY j.seq DESC LIMIT :limit")
    assert len(steps) == 1
    assert "USING COVERING INDEX job_state" in steps[0]


@pytest.mark.slow
def test_rare_jobs_are_listed_and_any_is_claimed_at_once(
    full: tuple[Store, SqliteBackend], tmp_path: Path
) -> None:
    """CPU of this process: 300,000 rows cost no more than a few times what a handful does."""
    small = SqliteBackend(tmp_path / "small.db").open()
    small.submit_many([job(f"job-{i}", priority=i % 4) for i in range(40)])
    store = full[0]
    full[1].clock.time = small.now()

    def cost(store: Store) -> float:
        started = time.process_time()
        for _ in range(8):
            assert len(take(store)) == 1
            store.list_jobs(JobFilter(states=frozenset({State.FAILED, State.QUEUED})), limit=5)
            store.get_many(["fill-000000099"])
        return time.process_time() - started

    cost(small)
    cost(store)
    assert min(cost(store) for _ in range(3)) < 4 * min(cost(small) for _ in range(3)) + 0.02
    small.close()


def test_every_statement_has_one_user_and_every_user_its_statement() -> None:
    source = "".join(
        file.read_text() for file in Path(sql.__wrapped__.__code__.co_filename).parent.glob("*.py")
    )
    asked = set(
        re.findall(
            r'_?(?:db|database)\.(?:all|one|run|later|many|soon|insert|numbers|must)\(\s*"(\w+)"', source
        )
    )
    # Those that are asked together stand beside each other, or in lines of their own.
    asked |= set(re.findall(r'(?:^ *|[(\[,] ?)\("(\w+)", (?:\{|which)', source, re.MULTILINE))
    assert asked == set(names())
