"""Attacks on log reading: long logs, holes, missing ends, cursors that must not move."""

from pathlib import Path

import pytest

from unjam.client.logs import BLOCK, Chunk, Cursor, read_all, read_from, start_of_tail, tail_start
from unjam.errors import NotFound, UsageError
from unjam.jobs.records import AttemptRecord
from unjam.jobs.states import AttemptState
from unjam.worker.logs import trim


def attempt(path: Path | None, number: int = 1) -> AttemptRecord:
    log_path = None if path is None else str(path)
    return AttemptRecord(number, number, "w1", "host", AttemptState.RUNNING, log_path=log_path)


def text(chunks: list[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks)


@pytest.mark.parametrize("ending", ["\n", ""])
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_the_last_lines(tmp_path: Path, count: int, ending: str) -> None:
    path = tmp_path / "log"
    lines = [f"line {n}" for n in range(count)]
    path.write_text("\n".join(lines) + (ending if lines else ""))
    tail = path.read_bytes()[tail_start(str(path), 3) :].decode()
    assert tail.splitlines() == lines[-3:]


def test_the_tail_of_a_long_log_reads_little_and_over_block_edges(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = ["x" * 50_000 for _ in range(100)]
    path.write_text("\n".join(lines) + "\n")
    start = tail_start(str(path), 3)
    assert path.stat().st_size - start == 3 * 50_001
    assert start > path.stat().st_size - 4 * BLOCK


def test_no_file_yet_is_nothing(tmp_path: Path) -> None:
    assert tail_start(str(tmp_path / "none"), 5) == 0
    assert list(read_from(attempt(tmp_path / "none"), 0)) == []
    assert list(read_from(attempt(None), 0)) == []
    with pytest.raises(NotFound, match="no log"):
        start_of_tail([attempt(None)], 5)


def test_reading_goes_on_from_a_cursor_without_gap_or_double(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    seen = text(list(read_from(attempt(path), 0)))
    end = list(read_from(attempt(path), 0))[-1].end
    with path.open("ab") as file:
        file.write(b"two\n")
    seen += text(list(read_from(attempt(path), end.offset)))
    assert seen == b"one\ntwo\n"
    assert str(end) == "1.4"


def test_a_trimmed_log_keeps_every_offset_and_the_hole_is_stepped_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [f"{n:07d}\n" for n in range(100_000)]
    path.write_text("".join(lines))
    size = path.stat().st_size
    if not trim(str(path), 1 << 17):
        pytest.fail("this file system punches no holes: the test proves nothing here")
    chunks = list(read_from(attempt(path), 0))
    assert chunks[-1].end.offset == size
    assert sum(chunk.skipped for chunk in chunks) > 0
    assert sum(len(chunk.data) + chunk.skipped for chunk in chunks) == size
    assert b"\0" not in text(chunks)
    assert text(chunks).endswith("".join(lines[-1000:]).encode())
    # A cursor of before, inside the hole now.
    late = list(read_from(attempt(path), size // 2))
    assert late[0].start >= size // 2
    assert b"\0" not in text(late)


def test_the_tail_of_a_trimmed_log_stops_at_the_hole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{n:07d}\n" for n in range(100_000)))
    assert trim(str(path), 1 << 17)
    start = tail_start(str(path), 90_000)
    rest = path.read_bytes()[start:]
    assert b"\0" not in rest
    assert 0 < len(rest) < 1 << 17
    assert len(path.read_bytes()[tail_start(str(path), 5) :].splitlines()) == 5


def test_following_passes_over_to_the_next_attempt(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"a\n")
    second.write_bytes(b"b\n")
    attempts = [attempt(first, 1), attempt(second, 2)]
    assert text(list(read_all(attempts, Cursor(1, 2)))) == b"b\n"
    assert text(list(read_all(attempts, Cursor(2, 0)))) == b"b\n"
    assert list(read_all(attempts, Cursor(2, 2))) == []


@pytest.mark.parametrize("word", ["", "1", "1.", ".5", "a.b", "1.-5"])
def test_bad_cursors(word: str) -> None:
    with pytest.raises(UsageError, match=r"ATTEMPT\.OFFSET"):
        Cursor.parse(word)
    assert Cursor.parse("2.17") == Cursor(2, 17)


def test_a_real_run_of_nuls_shorter_than_a_hole_is_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + bytes(100) + b"\nlast\n")
    assert path.read_bytes()[tail_start(str(path), 2) :] == bytes(100) + b"\nlast\n"
    assert tail_start(str(path), 3) == 0
