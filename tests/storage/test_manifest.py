"""The manifest proves that the same work was done, and only that."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from unjam.jobs.model import InputFile
from unjam.storage.manifest import build, manifest_path, proven

SOURCE = InputFile("in.mov", "/in.mov", 100, 5)
PARAMS = {"crf": 21}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"film")
    fields = {
        "name": path.name,
        "kind": "media",
        "size_bytes": 4,
        "sha256": hashlib.sha256(b"film").hexdigest(),
        "staged_path": str(path),
    }
    body = build(job_id="j", pipeline="convert", version=1, inputs=[SOURCE], params=PARAMS, outputs=[fields])
    manifest_path(path).write_text(json.dumps(body))
    return path


def same(path: Path, **changes: Any) -> bool:
    values: dict[str, Any] = {
        "pipeline": "convert",
        "version": 1,
        "inputs": [SOURCE],
        "params": PARAMS,
        **changes,
    }
    made = proven(path, **values)
    if made is not None:
        assert [(a.name, a.path, a.size_bytes) for a in made] == [(path.name, str(path), 4)]
    return made is not None


def test_the_same_work_is_found(output: Path) -> None:
    assert same(output)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"pipeline": "other"},
        {"params": {"crf": 22}},
        {"inputs": [InputFile("in.mov", "/in.mov", 101, 5)]},
        {"inputs": [InputFile("in.mov", "/in.mov", 100, 6)]},
        {"inputs": [InputFile("in.mov", "/other.mov", 100, 5)]},
    ],
)
def test_other_work_is_not(output: Path, changes: dict[str, Any]) -> None:
    assert not same(output, **changes)


def test_one_changed_byte_is_seen_though_size_and_mtime_stay(output: Path) -> None:
    stat = output.stat()
    output.write_bytes(b"fiLm")
    os.utime(output, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not same(output)


def test_an_untouched_file_that_was_only_renamed_is_proved_by_its_hash(output: Path) -> None:
    os.utime(output, (9, 9))
    assert same(output), "content decides when times do not"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 99}', "\udcff"])
def test_a_broken_manifest_proves_nothing(output: Path, text: str) -> None:
    manifest_path(output).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert not same(output)


def test_without_output_or_manifest(output: Path) -> None:
    output.unlink()
    assert not same(output)
    manifest_path(output).unlink()
    assert not same(output)


def test_the_longest_name_has_a_manifest_too(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".mp4")
    path.touch()
    manifest_path(path).touch()
    assert manifest_path(path).parent == tmp_path
    assert manifest_path(path) != manifest_path(tmp_path / ("y" * 251 + ".mp4"))


def test_a_manifest_that_cannot_be_read_proves_nothing(output: Path) -> None:
    """Another user's, or a folder of that name: the job is refused by name, the worker does not stumble."""
    manifest_path(output).unlink()
    manifest_path(output).mkdir()
    assert not same(output)


@pytest.mark.parametrize(
    "forged",
    [
        {"name": "../secret", "size_bytes": 6},
        {"name": "/etc/passwd"},
        {"name": ".."},
        {"name": 7},
        {"size_bytes": "4"},
        {"sha256": None},
        None,
    ],
    ids=str,
)
def test_a_forged_manifest_proves_nothing_and_leads_nowhere(
    output: Path, forged: dict[str, Any] | None
) -> None:
    """Whoever may write the output folder must not choose what is shown, or served, as an artifact."""
    secret = output.parent.parent / "secret"
    secret.write_bytes(b"secret")
    path = manifest_path(output)
    body = json.loads(path.read_text())
    [row] = body["outputs"]
    if forged is None:
        body["outputs"] = [None]
    else:
        if forged.get("name") == "../secret":
            row |= {"mtime_ns": secret.stat().st_mtime_ns, "sha256": hashlib.sha256(b"secret").hexdigest()}
        row |= forged
    path.write_text(json.dumps(body))
    assert proven(output, "convert", 1, [SOURCE], PARAMS) is None
