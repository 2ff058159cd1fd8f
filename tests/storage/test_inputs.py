"""Attacks on the reading of inputs: odd files, odd names, links that lead in circles, large folders."""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unjam.errors import InputBad, InputMissing, UsageError
from unjam.jobs.reasons import ReasonCode
from unjam.storage.inputs import Expansion, expand, inspect, refuse

SUFFIXES = frozenset({".mov", ".mp4"})


def touch(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(*names: str | Path, cwd: Path, **options: object) -> Expansion:
    return expand([str(n) for n in names], cwd=str(cwd), suffixes=SUFFIXES, **options)  # type: ignore[arg-type]


def uris(expansion: Expansion) -> list[str]:
    return [item.file.uri for item in expansion.items]


def test_a_file_is_taken_whatever_its_suffix_with_size_and_time(tmp_path: Path) -> None:
    path = touch(tmp_path / "notes.bin", "four")
    (item,) = found("notes.bin", cwd=tmp_path).items
    assert (item.file.name, item.file.uri, item.file.size_bytes) == ("notes.bin", str(path), 4)
    assert item.file.mtime_ns == path.stat().st_mtime_ns
    assert item.problem is None
    assert item.folder == ""


def test_a_folder_gives_its_media_with_the_tree_kept(tmp_path: Path) -> None:
    touch(tmp_path / "in/b.mov")
    touch(tmp_path / "in/a.MP4")
    touch(tmp_path / "in/deep/er/c.mov")
    touch(tmp_path / "in/readme.txt")
    items = found("in", cwd=tmp_path).items
    assert [(i.file.name, i.folder) for i in items] == [("a.MP4", ""), ("b.mov", ""), ("c.mov", "deep/er")]


def test_a_folder_leaves_out_hidden_files_and_our_own(tmp_path: Path) -> None:
    touch(tmp_path / "in/.hidden.mov")
    touch(tmp_path / "in/.git/x.mov")
    touch(tmp_path / "in/.unjam-j123456789-f1-0.part")
    touch(tmp_path / "in/x.mov")
    touch(tmp_path / "in/x.mp4")
    touch(tmp_path / "in/x.mp4.unjam.json")
    assert uris(found("in", cwd=tmp_path)) == [str(tmp_path / "in/x.mov")]


def test_a_folder_of_results_can_be_an_input_when_the_output_goes_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path / "in/x.mp4")
    touch(tmp_path / "in/x.mp4.unjam.json")
    assert uris(found("in", cwd=tmp_path, output_dir=str(tmp_path / "out"))) == [str(tmp_path / "in/x.mp4")]


def test_the_output_folder_inside_the_input_folder_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "in/x.mov")
    touch(tmp_path / "in/out/x.mp4")
    assert uris(found("in", cwd=tmp_path, output_dir=str(tmp_path / "in/out"))) == [
        str(tmp_path / "in/x.mov")
    ]


def test_a_folder_without_media_is_missing_and_the_suffixes_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "in/readme.txt")
    with pytest.raises(InputMissing, match=r"no file in this folder ends in one of: \.mov \.mp4"):
        found("in", cwd=tmp_path)


def test_a_missing_file_and_a_pattern_without_hits(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"nope\.mov: no such file"):
        found("nope.mov", cwd=tmp_path)
    with pytest.raises(InputMissing, match="no file matches"):
        found("*.mov", cwd=tmp_path)


def test_patterns_keep_the_tree_below_their_fixed_part(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.mov")
    touch(tmp_path / "in/s/b.mov")
    items = found("in/**/*.mov", cwd=tmp_path).items
    assert [(i.file.name, i.folder) for i in items] == [("a.mov", ""), ("b.mov", "s")]


def test_a_name_with_wildcard_characters_is_a_name_first(tmp_path: Path) -> None:
    touch(tmp_path / "[1].mov")
    touch(tmp_path / "1.mov")
    assert uris(found("[1].mov", cwd=tmp_path)) == [str(tmp_path / "[1].mov")]


def test_the_same_file_named_twice_is_one_input(tmp_path: Path) -> None:
    touch(tmp_path / "d/a.mov")
    assert uris(found("d/a.mov", "./d/../d/a.mov", "d", cwd=tmp_path)) == [str(tmp_path / "d/a.mov")]


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_a_list_on_stdin(tmp_path: Path, separator: bytes) -> None:
    touch(tmp_path / "a.mov")
    touch(tmp_path / "b b.mov")
    listed = separator.join([b"a.mov", b"b b.mov", b""])
    assert uris(found("-", cwd=tmp_path, listed=listed)) == [
        str(tmp_path / "a.mov"),
        str(tmp_path / "b b.mov"),
    ]


def test_a_nul_separated_list_keeps_newlines_in_names(tmp_path: Path) -> None:
    path = touch(tmp_path / "two\nlines.mov")
    assert uris(found("-", cwd=tmp_path, listed=b"two\nlines.mov\0")) == [str(path)]


@pytest.mark.parametrize("name", ["-dash.mov", 'it\'s "quoted".mov', "two\nlines.mov", "été 日本 🎬.mov"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    path = touch(tmp_path / name)
    assert uris(found(path, cwd=tmp_path)) == [str(path)]


def test_a_name_that_is_not_utf8_survives(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.mov"
    with open(raw, "wb") as file:
        file.write(b"x")
    (item,) = found(tmp_path, cwd=tmp_path).items
    assert os.fsencode(item.file.uri) == raw


def test_odd_kinds_each_have_their_own_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mov")
    touch(tmp_path / "empty.mov", "")
    (tmp_path / "dangling.mov").symlink_to("nowhere")
    (tmp_path / "circle.mov").symlink_to("circle.mov")
    (tmp_path / "directory.mov").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        # A relative name: the whole path may be longer than a socket address can hold.
        previous = os.open(".", os.O_RDONLY)
        os.chdir(tmp_path)
        try:
            listener.bind("socket.mov")
        finally:
            os.fchdir(previous)
            os.close(previous)
        expected = {
            "pipe.mov": (ReasonCode.INPUT_BAD, "a named pipe"),
            "socket.mov": (ReasonCode.INPUT_BAD, "a socket"),
            "empty.mov": (ReasonCode.INPUT_BAD, "0 bytes"),
            "dangling.mov": (ReasonCode.INPUT_MISSING, "'nowhere', which is not there"),
            "circle.mov": (ReasonCode.INPUT_BAD, "leads back to itself"),
            "directory.mov": (ReasonCode.INPUT_BAD, "a folder"),
        }
        for name, (code, words) in expected.items():
            problem = inspect(str(tmp_path / name)).problem
            assert problem is not None, name
            assert problem.code is code
            assert words in problem.message
            assert name in problem.message
    assert inspect("/dev/null").problem is not None
    with pytest.raises(InputBad, match="character device"):
        refuse(inspect("/dev/null"))


def test_a_folder_takes_neither_pipe_nor_circle_and_still_ends(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.mov")
    os.mkfifo(tmp_path / "in/pipe.mov")
    (tmp_path / "in/self").symlink_to(tmp_path / "in")
    (tmp_path / "in/up").symlink_to("..")
    (tmp_path / "in/circle").symlink_to("circle")
    names = [i.file.name for i in found("in", cwd=tmp_path).items]
    assert names.count("a.mov") == 1
    assert "pipe.mov" not in names


def test_empty_and_dangling_files_of_a_folder_are_kept_with_their_problem(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.mov")
    touch(tmp_path / "in/empty.mov", "")
    (tmp_path / "in/gone.mov").symlink_to("nowhere")
    problems = {i.file.name: i.problem and i.problem.code for i in found("in", cwd=tmp_path).items}
    assert problems == {
        "a.mov": None,
        "empty.mov": ReasonCode.INPUT_BAD,
        "gone.mov": ReasonCode.INPUT_MISSING,
    }


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may read everything: a test of permissions must be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_read_permission() -> None:
    # Not tmp_path: only its owner may enter it.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = touch(Path(folder) / "a.mov")
        path.chmod(0)
        with as_ordinary_user(), pytest.raises(InputBad, match="may not be read") as caught:
            refuse(inspect(str(path)))
    assert caught.value.code is ReasonCode.PERMISSION


def test_addresses_are_refused_by_their_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="s3:// are not built yet"):
        found("s3://bucket/a.mov", cwd=tmp_path)


def test_thousands_of_files_in_a_second(tmp_path: Path) -> None:
    for folder in range(10):
        (tmp_path / f"in/{folder}").mkdir(parents=True)
        for number in range(400):
            (tmp_path / f"in/{folder}/{number}.mov").write_bytes(b"x")
    begin = time.process_time()
    assert len(found("in", cwd=tmp_path).items) == 4_000
    # Measured 0.1 s; a walk that grows with the square of the files would take minutes.
    assert time.process_time() - begin < 2


def test_a_link_that_is_removed_during_the_look_is_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.mp4").symlink_to("nowhere")
    look = os.readlink

    def readlink(path: str) -> str:
        os.unlink(path)
        return look(path)

    monkeypatch.setattr(os, "readlink", readlink)
    problem = inspect(str(tmp_path / "b.mp4")).problem
    assert problem is not None
    assert problem.message.endswith("no such file")
