"""Publishing takes a name once, whole, and never over somebody else's file."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unjam.errors import OutputExists
from unjam.jobs.records import StagedOutput
from unjam.storage import publish as publishing
from unjam.storage.publish import StillWritten, already_published, check_sealed, publish
from unjam.storage.staging import part_path, staged_output


def staged(
    folder: Path, name: str = "film.mp4", content: bytes = b"film", kind: str = "media", number: int = 1
) -> StagedOutput:
    part = part_path(folder, "jtest", 1, number)
    part.write_bytes(content)
    return StagedOutput(
        **staged_output(part, folder / name, name=name, kind=kind, media=None, on_bytes=lambda _: None)
    )


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_all_outputs_take_their_names(tmp_path: Path) -> None:
    outputs = [staged(tmp_path), staged(tmp_path, "m.json", b"{}", "manifest", 2)]
    publish(outputs, replace=False)
    assert names(tmp_path) == ["film.mp4", "m.json"]
    assert all(already_published(o) for o in outputs)


def test_a_second_call_finishes_what_a_kill_left(tmp_path: Path) -> None:
    """INV-TORN: killed between any two steps, the roll-forward ends in the same place."""
    outputs = [staged(tmp_path, f"{i}.mp4", number=i) for i in range(3)]
    for done in range(4):
        publish(outputs[:done], replace=False)
    publish(outputs, replace=False)
    assert names(tmp_path) == ["0.mp4", "1.mp4", "2.mp4"]


def test_a_foreign_file_is_never_overwritten(tmp_path: Path) -> None:
    output = staged(tmp_path)
    (tmp_path / "film.mp4").write_bytes(b"precious")
    with pytest.raises(OutputExists, match="it was kept"):
        publish([output], replace=False)
    assert (tmp_path / "film.mp4").read_bytes() == b"precious"
    publish([output], replace=True)
    assert (tmp_path / "film.mp4").read_bytes() == b"film"


def test_an_old_manifest_is_replaced_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b"old")
    publish([staged(tmp_path, "m.json", b"new", "manifest")], replace=False)
    assert (tmp_path / "m.json").read_bytes() == b"new"


def test_a_lost_part_is_told(tmp_path: Path) -> None:
    output = staged(tmp_path)
    os.unlink(output.staged_path)
    with pytest.raises(StillWritten, match="is gone"):
        publish([output], replace=False)
    with pytest.raises(StillWritten, match="is gone"):
        check_sealed(output)


def append(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"!")


def swap(path: str) -> None:
    Path(path + "2").write_bytes(b"film")
    os.replace(path + "2", path)


def touch_back(path: str) -> None:
    stat = os.stat(path)
    Path(path).write_bytes(b"FILM")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("harm", [append, swap, touch_back])
def test_a_file_that_changed_after_its_seal_is_refused(tmp_path: Path, harm: Callable[[str], None]) -> None:
    output = staged(tmp_path)
    check_sealed(output)
    harm(output.staged_path)
    with pytest.raises(StillWritten, match="changed after it was verified"):
        check_sealed(output)


def test_an_open_writer_is_found_by_the_kernel(tmp_path: Path) -> None:
    output = staged(tmp_path)
    code = f"f = open({output.staged_path!r}, 'ab'); print('open', flush=True); input()"
    writer = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(StillWritten, match="still has it open"):
            check_sealed(output)
    finally:
        writer.communicate("\n", timeout=10)
    check_sealed(output)


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_without_renameat2_the_promise_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """For file systems that know no RENAME_NOREPLACE; they say EINVAL, as here to an
    unknown flag."""

    def refused(*_names: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(publishing, "RENAME_NOREPLACE", 1 << 30)
    if not links:
        monkeypatch.setattr(os, "link", refused)
    (tmp_path / "taken.mp4").write_bytes(b"precious")
    with pytest.raises(OutputExists):
        publish([staged(tmp_path, "taken.mp4")], replace=False)
    publish([staged(tmp_path, number=2)], replace=False)
    assert (tmp_path / "taken.mp4").read_bytes() == b"precious"
    assert (tmp_path / "film.mp4").read_bytes() == b"film"


@pytest.mark.parametrize(("call", "number"), [("open", errno.EACCES), ("fsync", errno.EINVAL)])
def test_a_folder_that_cannot_be_synced_fails_no_published_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """INV-LOST: one that may be written to and not read, and shared folders of virtual machines."""

    def refused(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    output = staged(tmp_path)
    with monkeypatch.context() as folder:
        folder.setattr(os, call, refused)
        publish([output], replace=False)
    assert names(tmp_path) == ["film.mp4"]
