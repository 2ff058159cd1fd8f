"""Staged files: hidden names, and the seal by which a publisher knows them again."""

import hashlib
import os
from pathlib import Path

import pytest

from unjam.errors import InputBad
from unjam.storage.staging import part_path, parts_in, staged_output


def test_a_hidden_name_holds_job_and_fence_and_is_short(tmp_path: Path) -> None:
    path = part_path(tmp_path, "jabc123", 7, 2)
    assert path.name == ".unjam-jabc123-f7-2.part"
    path.touch()
    (tmp_path / ".unjam-other").touch()
    (tmp_path / "film.mp4").touch()
    assert list(parts_in(tmp_path)) == [(path, "jabc123", 7)]
    assert list(parts_in(tmp_path / "none")) == []


def test_the_seal_is_what_the_file_is(tmp_path: Path) -> None:
    part = tmp_path / "p"
    part.write_bytes(b"x" * 3_000_000)
    counts: list[int] = []
    sealed = staged_output(part, tmp_path / "f", name="f", kind="media", media=None, on_bytes=counts.append)
    stat = part.stat()
    assert (sealed["inode"], sealed["size_bytes"], sealed["ctime_ns"]) == (
        stat.st_ino,
        3_000_000,
        stat.st_ctime_ns,
    )
    assert sealed["sha256"] == hashlib.sha256(part.read_bytes()).hexdigest()
    assert sum(counts) == 3_000_000


def test_a_file_that_grows_meanwhile_is_not_sealed(tmp_path: Path) -> None:
    """INV-TORN"""
    part = tmp_path / "p"
    part.write_bytes(b"x" * 10)

    def grow(_: int) -> None:
        if part.stat().st_size < 50:
            os.truncate(part, 50)
            os.truncate(part, 20)
            os.truncate(part, 5)

    with pytest.raises(InputBad, match="was written to while it was sealed"):
        staged_output(part, tmp_path / "f", name="f", kind="media", media=None, on_bytes=grow)
