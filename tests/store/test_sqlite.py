"""What only a SQLite file can do wrong: rights, damage, strangers, locks."""

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.store.rig import ROOT, TTL, SqliteBackend, bring, ending, job, raw, state_of, take_one
from unjam.errors import DiskFull, StoreUnavailable, UsageError
from unjam.jobs.lifecycle import TRANSITIONS
from unjam.jobs.records import HeldLease
from unjam.jobs.states import State
from unjam.store import JobFilter, open_store
from unjam.store.sqlite import WAL_KEPT


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path / "unjam.db")


# -- opening ----------------------------------------------------------------------------------------------
def test_the_file_and_its_journals_are_private(sqlite: SqliteBackend) -> None:
    old = os.umask(0)
    try:
        store = sqlite.open()
        store.submit(job())
        files = list(sqlite.path.parent.iterdir())
        assert {file.name for file in files} == {"unjam.db", "unjam.db-wal", "unjam.db-shm"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        store.close()
    finally:
        os.umask(old)


def test_what_was_said_to_be_done_is_on_disk(sqlite: SqliteBackend) -> None:
    store = sqlite.open()
    connection = store._db._connection  # type: ignore[attr-defined]
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    store.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/var/lib/unjam.db", "not the URL of a store"),
        ("sqlite:///", "not the URL of a store"),
        ("mysql://x", "not the URL of a store"),
    ],
)
def test_other_urls_are_refused_in_a_sentence(url: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        open_store(url)


def test_relative_paths_and_spaces_and_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for url, path in [
        ("sqlite:///here.db", tmp_path / "here.db"),
        (f"sqlite:///{tmp_path}/a%20b.db", tmp_path / "a b.db"),
        ("sqlite:///~/x.db", tmp_path / "home" / "x.db"),
    ]:
        store = open_store(url, make_parents=True)
        assert path.exists()
        assert store.url == f"sqlite:///{path}"
        store.close()


def test_a_missing_folder_is_made_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "unjam.db"
    with pytest.raises(StoreUnavailable, match=rf"there is no folder {path.parent}"):
        open_store(f"sqlite:///{path}")
    assert not path.parent.exists()
    open_store(f"sqlite:///{path}", make_parents=True).close()
    assert path.exists()


def test_a_folder_or_a_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="is a folder"):
        open_store(f"sqlite:///{tmp_path}")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        open_store(f"sqlite:///{tmp_path}/file/unjam.db")


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are my notes\n" * 100)
    with pytest.raises(StoreUnavailable, match="is not a database"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == b"these are my notes\n" * 100


def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "firefox.db"
    with raw(path) as connection:
        connection.execute("CREATE TABLE cookies (value TEXT)")
    with pytest.raises(StoreUnavailable, match="another program"):
        open_store(f"sqlite:///{path}")
    with raw(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("cookies",)]


def test_a_read_only_place_is_told_at_once(tmp_path: Path) -> None:
    """On procfs nobody can make a file, root included."""
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        open_store("sqlite:////proc/self/unjam.db")
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(StoreUnavailable, match="not writable for this user"):
            open_store(f"sqlite:///{tmp_path}/unjam.db")
        tmp_path.chmod(0o700)


@pytest.mark.root
def test_an_ordinary_user_is_told_about_a_store_of_root() -> None:
    program = """
import os, sys
from unjam.store import open_store
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    open_store(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        backend = SqliteBackend(Path(folder) / "unjam.db")
        backend.open().close()
        done = subprocess.run(
            [sys.executable, "-c", program, backend.url],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        told = f"StoreUnavailable the store {backend.path} is not writable for this user"
        assert done.stdout.startswith(told), done


# -- damage -----------------------------------------------------------------------------------------------
def test_damage_is_told_as_damage(sqlite: SqliteBackend) -> None:
    store = sqlite.open()
    store.submit_many([job(f"job-{i}", params={"long": "x" * 500}) for i in range(500)])
    store.close()
    data = bytearray(sqlite.path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    sqlite.path.write_bytes(data)
    with pytest.raises(StoreUnavailable, match=r"damaged.*Restore a backup"):
        take_one(sqlite.open())


def test_check_finds_what_does_not_fit_together(sqlite: SqliteBackend) -> None:
    store = sqlite.open()
    bring(store, "running")
    bring(store, "waiting", "w")
    bring(store, "publishing", "p")
    assert store.check() == []
    with raw(sqlite.path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM attempt WHERE job_seq = (SELECT seq FROM job WHERE id = 'job-1')")
        connection.execute("DELETE FROM dependency")
        connection.execute("DELETE FROM publish")
        connection.execute("INSERT INTO progress (job_seq, progress, message) VALUES (99, 0.5, '')")
    findings = "\n".join(store.check())
    for told in (
        "job job-1 is running without an open attempt",
        "job w waits for nothing",
        "job p is publishing, but what is not known",
        "progress: row 99 refers to a missing row of job",
    ):
        assert told in findings
    store.close()


def test_a_full_disk_loses_nothing_and_says_so(sqlite: SqliteBackend) -> None:
    """SQLite's own page limit stands for the disk: the same error, on every file system."""
    store = sqlite.open()
    store.submit(job("before"))
    connection = store._db._connection  # type: ignore[attr-defined]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull, match=r"disk of the store .* is full"):
        store.submit_many([job(f"job-{i}", params={"long": "x" * 5000}) for i in range(100)])
    connection.execute("PRAGMA max_page_count = 1000000")
    assert [found.id for found in store.list_jobs(JobFilter())] == ["before"]
    store.submit(job("after"))
    assert store.check() == []
    store.close()


# -- other writers ----------------------------------------------------------------------------------------
def test_another_writer_is_waited_for(sqlite: SqliteBackend) -> None:
    store = sqlite.open()
    submitted = threading.Event()

    def submit() -> None:
        store.submit(job())
        submitted.set()

    with raw(sqlite.path) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=submit)
        waiting.start()
        assert not submitted.wait(0.3)
        other.execute("COMMIT")
        waiting.join(timeout=20)
    assert submitted.is_set()
    store.close()


def test_a_lease_that_runs_out_behind_another_writer_is_not_renewed(sqlite: SqliteBackend) -> None:
    """INV-ONCE: its guardian has ended the tree, and somebody may be about to hand the job on."""
    store = sqlite.open()
    store.submit(job())
    lease = take_one(store).lease
    held = [HeldLease(lease, None, None, 0.0)]

    def renew() -> None:
        held[:] = store.renew("worker-1", [lease], ttl=TTL)

    with raw(sqlite.path) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=renew)
        waiting.start()
        waiting.join(0.2)
        sqlite.clock.advance(TTL + 1)
        other.execute("COMMIT")
        waiting.join(timeout=20)
    assert held == []
    store.close()


def test_a_lock_that_never_ends_is_told_in_a_sentence(
    sqlite: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unjam.store.sqlite.BUSY_MS", 20)
    store = open_store(sqlite.url, patience=0.1)
    with raw(sqlite.path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"was locked by another process.*close that program"):
            store.submit(job())
        with pytest.raises(StoreUnavailable, match="was locked"):
            store.detach("watcher")
        assert store.get("job-1") is None
        other.execute("ROLLBACK")
    store.submit(job())
    store.close()


def test_no_look_keeps_a_read_transaction_open(sqlite: SqliteBackend) -> None:
    """One forgotten reader keeps the WAL growing: after any look it can be emptied."""
    store, writer = sqlite.open(), sqlite.open()
    for number in range(20):
        writer.submit(job(f"job-{number}"))
        store.get("job-0")
        store.list_jobs(JobFilter(), limit=2)
        store.events_since(0, limit=1)
        take_one(store)
    with raw(sqlite.path) as other:
        busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert sqlite.path.with_name("unjam.db-wal").stat().st_size == 0
    store.close()
    writer.close()


ASKED = "request_code = 'x', request_message = 'x'"
EVENT = "INSERT INTO event (at, kind, data, state_from, state_to)"


# -- the schema keeps the promises too ----------------------------------------------------------------------
def test_the_table_of_transitions_is_the_lifecycle(sqlite: SqliteBackend) -> None:
    sqlite.open().close()
    rows = sqlite.dump()["transition"]
    assert {(State(before), State(after)) for before, after in rows} == TRANSITIONS


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE job SET lease_expires_at = NULL WHERE state = 'running'",
        "UPDATE job SET worker_id = NULL WHERE state = 'running'",
        "UPDATE job SET phase = NULL WHERE state = 'running'",
        "UPDATE job SET phase = 'dreaming' WHERE state = 'running'",
        "UPDATE job SET finished_at = 1 WHERE state = 'running'",
        f"UPDATE job SET requested = 'cancel', {ASKED} WHERE state = 'running'",
        "UPDATE job SET requested = 'pause' WHERE state = 'running'",
        f"UPDATE job SET requested = 'pause', {ASKED} WHERE phase = 'publishing'",
        "UPDATE job SET state = 'queued' WHERE state = 'running'",
        "UPDATE job SET state = 'cancelling', phase = NULL WHERE state = 'running'",
        "UPDATE job SET lease_expires_at = 1, worker_id = 'w', host = 'h' WHERE state = 'queued'",
        "UPDATE job SET finished_at = 1 WHERE state = 'queued'",
        "UPDATE job SET state = 'succeeded' WHERE state = 'queued'",
        "UPDATE job SET state = 'succeeded', finished_at = 1 WHERE state = 'queued'",
        "UPDATE job SET state = 'dreaming' WHERE state = 'queued'",
        "UPDATE job SET finished_at = NULL WHERE state = 'failed'",
        "UPDATE job SET reason_code = NULL, reason_message = NULL WHERE state = 'failed'",
        "UPDATE job SET reason_message = NULL WHERE state = 'failed'",
        "UPDATE job SET output_path = '/out/same' WHERE state IN ('queued', 'running')",
        "UPDATE job SET dedupe_key = 'same' WHERE state IN ('queued', 'running')",
        "UPDATE attempt SET ended_at = 1",
        f"{EVENT} VALUES (1, 'x', '{{}}', 'queued', 'succeeded')",
        f"{EVENT} VALUES (1, 'x', '{{}}', 'succeeded', 'queued')",
        f"{EVENT} VALUES (1, 'x', '{{}}', NULL, 'running')",
        f"{EVENT} VALUES (1, 'x', '{{}}', 'queued', NULL)",
    ],
)
def test_a_contradiction_cannot_even_be_written(sqlite: SqliteBackend, wrong: str) -> None:
    """INV-ONCE, INV-DUP, INV-TRUTH in the schema: a bug of ours fails, it does not lie."""
    store = sqlite.open()
    for number, state in enumerate(["failed", "running", "publishing", "queued"]):
        bring(store, state, f"job-{number}")
    with raw(sqlite.path) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(wrong)
    assert store.check() == []
    store.close()


def test_opening_a_store_imports_little(sqlite: SqliteBackend) -> None:
    """The command line opens it at every call."""
    program = "import sys; from unjam.store import open_store; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=ROOT).split()
    assert not {"pydantic", "psycopg", "asyncio", "sqlalchemy", "multiprocessing"} & set(loaded)


def test_a_backup_is_a_whole_store(sqlite: SqliteBackend, tmp_path: Path) -> None:
    store = sqlite.open()
    lease = bring(store, "running")
    copy = tmp_path / "copy.db"
    copy.write_text("an older backup")
    store.backup(str(copy))
    assert lease is not None
    store.end(lease, ending(State.SUCCEEDED))
    again = open_store(f"sqlite:///{copy}", clock=sqlite.clock)
    assert state_of(again) is State.RUNNING
    assert again.check() == []
    again.close()
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    assert not copy.with_name("copy.db.part").exists()
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        store.backup(str(tmp_path / "no-such-folder" / "copy.db"))
    store.close()


def test_what_was_forgotten_leaves_no_room_behind(tmp_path: Path) -> None:
    """Neither in the file nor in its WAL."""
    path = tmp_path / "unjam.db"
    store = open_store(f"sqlite:///{path}")
    for start in range(0, 3000, 1000):
        ids = [f"j{start + n}" for n in range(1000)]
        store.submit_many([job(id, params={"much": "x" * 8000}) for id in ids])
        store.request_cancel(ids, by="ann")
    full = path.stat().st_size
    while store.prune(ended_before=store.now() + 1):
        continue
    steps = 0
    while store.shrink():
        steps += 1
    assert steps > 1
    assert not store.shrink()
    with raw(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        left = connection.execute("PRAGMA page_count").fetchone()[0] * 4096
    assert left < full / 2
    assert store.check() == []
    store.close()


def test_a_large_transaction_does_not_leave_its_size_in_the_wal(tmp_path: Path) -> None:
    path = tmp_path / "unjam.db"
    store = open_store(f"sqlite:///{path}")
    store.submit_many([job(f"j{n}", params={"much": "x" * 100_000}) for n in range(1500)])
    wal = Path(f"{path}-wal")
    assert wal.stat().st_size > 2 * WAL_KEPT
    for n in range(3):
        store.submit(job(f"more-{n}"))
    assert wal.stat().st_size <= WAL_KEPT
    store.close()
