"""Every bad input ends once, says which file, why and the way out, and leaves nothing behind (C17)."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.shell import Said, Shell, decodes, make_clip, make_sound
from tests.helpers import BROKEN, DEMO

FAST = ("--speed", "ultrafast")


def _failed(said: Said, code: int, *words: str) -> None:
    """It ended with this code and one sentence that holds these words, and made nothing."""
    assert said.code == code, said.both
    assert said.out == ""
    for word in words:
        assert word in said.err, said.err


# -- refused at once: no job, no process --------------------------------------------------------------------
def _missing(_: Path) -> str:
    return "film.mp4"


def _empty(folder: Path) -> str:
    (folder / "film.mp4").touch()
    return "film.mp4"


def _fifo(folder: Path) -> str:
    os.mkfifo(folder / "film.mp4")
    return "film.mp4"


def _loop(folder: Path) -> str:
    (folder / "film.mp4").symlink_to("film.mp4")
    return "film.mp4"


def _dangling(folder: Path) -> str:
    (folder / "film.mp4").symlink_to("elsewhere.mp4")
    return "film.mp4"


def _no_media(folder: Path) -> str:
    (folder / "letters").mkdir()
    (folder / "letters" / "a.txt").write_text("dear")
    return "letters"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, "film.mp4: no such file or folder"),
        (_empty, "film.mp4: is empty (0 bytes)"),
        (_fifo, "film.mp4: is a named pipe (FIFO), not a file"),
        (lambda _: "/dev/zero", "/dev/zero: is a character device, not a file"),
        (_loop, "film.mp4: a link that leads back to itself"),
        (_dangling, "film.mp4: a link to 'elsewhere.mp4', which is not there"),
        (_no_media, "letters: no file in this folder ends in one of: "),
        (lambda _: "*.mov", "*.mov: no file matches this pattern"),
    ],
)
def test_what_is_no_file_is_refused_at_once(shell: Shell, make: Callable[[Path], str], words: str) -> None:
    _failed(shell.run("convert", make(shell.cwd), "-o", "out", timeout=20), 8, words)
    assert not (shell.cwd / "out").exists()
    assert shell.jobs() == []
    shell.assert_clean()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--preset", "mp5"), 2, ("preset='mp5'", "'mp4', 'remux' or 'audio'")),
        (("-p", "crf=high"), 2, ("crf='high'", "integer")),
        (("-p", "crf=52"), 2, ("crf='52'", "less than or equal to 51")),
        (("-p", "segment_seconds=0"), 2, ("segment_seconds='0'", "greater than or equal to 1")),
        (("-p", "crv=20"), 2, ("no parameter 'crv'", "did you mean crf?")),
        (("-p", "volume=11"), 2, ("no parameter 'volume'", "known: audio_bitrate")),
        (("-p", "crf"), 2, ("-p crf: write KEY=VALUE",)),
        (
            ("--preset", "remux", "--crf", "30"),
            2,
            ("convert: crf belongs to preset=mp4, not to preset=remux",),
        ),
        (("--timeout", "soon"), 2, ("'soon' is not a duration",)),
        (("--frobnicate",), 2, ("--frobnicate", "unjam convert --help")),
        (("--name-template", "{title}{ext}"), 2, ("no such word: {title}", "stem")),
        (("-o", "film.mkv"), 1, ("film.mkv: is a file, not a folder; choose another with -o",)),
        (("-o", "s3://bucket/films"), 2, ("s3://bucket/films: outputs to s3:// are not built yet",)),
        (("-o", "/proc/film"), 1, ("/proc/film: the output folder cannot be made",)),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    shell: Shell, options: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    (shell.cwd / "film.mkv").write_bytes(b"anything")
    _failed(shell.run("convert", "film.mkv", *options, timeout=20), code, *words)
    assert shell.jobs() == []
    assert os.listdir(shell.cwd) == ["film.mkv"]


def test_an_output_that_would_be_the_input(shell: Shell) -> None:
    """By name, through a link to the folder, and through a link to the file."""
    film = make_clip(shell.cwd / "film.mp4")
    before = film.read_bytes()
    (shell.cwd / "here").symlink_to(".")
    (shell.cwd / "links").mkdir()
    (shell.cwd / "links" / "film.mp4").symlink_to("../film.mp4")
    for options in ((), ("-o", "here"), ("-o", "links")):
        said = shell.run("convert", "film.mp4", *options, "--on-exists", "replace", timeout=20)
        _failed(said, 2, "film.mp4: would be output and input at once; choose another folder with -o")
    assert film.read_bytes() == before


# -- the store ----------------------------------------------------------------------------------------------
def test_a_store_that_is_none(shell: Shell) -> None:
    text = shell.cwd / "notes.db"
    text.write_text("milk, eggs " * 100)
    other = shell.cwd / "photos.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE photo (name TEXT)")
    newer = shell.cwd / "newer.db"
    assert shell.run("--store", f"sqlite:///{newer}", "ls").code == 0
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = {path: path.read_bytes() for path in (text, other)}
    for path, words in (
        (text, "notes.db is not a database. Move it away, or name another store"),
        (other, "photos.db is a database of another program. Name another store"),
        (newer, "newer.db has schema 99, this unjam knows only"),
        (shell.cwd, "is a folder: name a file in it"),
        (Path("/proc/unjam.db"), "/proc is not writable"),
        (Path("/nowhere/unjam.db"), "there is no folder /nowhere. Make it first"),
    ):
        _failed(shell.run("--store", f"sqlite:///{path}", "ls"), 7, words)
    assert {path: path.read_bytes() for path in before} == before


# -- what only a look inside shows: one batch, one end for each ----------------------------------------------
def _hostile(folder: Path) -> dict[str, tuple[str, str]]:
    """Bad files, with the reason code and a word of the sentence that each must end with."""
    folder.mkdir()
    whole = DEMO.read_bytes()
    (folder / "01 no index.mp4").write_bytes(whole[:700_000])
    # The same each time: now and then noise looks like some format to ffprobe, and is refused as that.
    (folder / "02 noise.mp4").write_bytes(random.Random(2).randbytes(100_000))
    (folder / "03 text.mkv").write_text("once upon a time " * 1000)
    with open(folder / "04 zeros.mp4", "wb") as file:
        file.truncate(40 * 2**30)  # sparse: 40 GB to whoever reads it to its end
    (folder / "05 empty.mp4").touch()
    (folder / "06 loop.mp4").symlink_to("06 loop.mp4")
    (folder / "07 dangling.mp4").symlink_to("nowhere.mp4")
    shutil.copy(BROKEN, folder / "08 damaged.ogv")
    faststart = make_clip(folder / "09 cut short.mp4", "-movflags", "+faststart", seconds=10)
    os.truncate(faststart, faststart.stat().st_size * 2 // 3)
    make_sound(folder / "10 no picture.mp4", "-c:a", "aac")
    name = os.fsencode(folder) + b"/11 caf\xe9.mp4"
    Path(os.fsdecode(name)).write_bytes(whole[:1000])
    return {
        "01 no index.mp4": ("input_bad", "moov atom not found"),
        "02 noise.mp4": ("input_bad", "not a video or audio file that can be read"),
        "03 text.mkv": ("input_bad", "not a video or audio file that can be read"),
        "04 zeros.mp4": ("input_bad", "not a video or audio file that can be read"),
        "05 empty.mp4": ("input_bad", "is empty (0 bytes)"),
        "06 loop.mp4": ("input_bad", "a link that leads back to itself"),
        "07 dangling.mp4": ("input_missing", "a link to 'nowhere.mp4', which is not there"),
        "08 damaged.ogv": ("input_bad", ""),
        "09 cut short.mp4": ("input_bad", "cut short"),
        "10 no picture.mp4": ("input_bad", "has sound but no video; preset=audio makes a sound file of it"),
        "11 caf%E9.mp4": ("input_bad", ""),
    }


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_folder_of_nothing_but_bad_files(shell: Shell) -> None:
    expected = _hostile(shell.cwd / "bad")
    said = shell.run("convert", "bad", "-o", "out", *FAST, timeout=100)
    _failed(said, 8, f"{len(expected)} jobs: {len(expected)} failed")
    ends = {job["name"]: job for job in shell.jobs()}
    assert set(ends) == set(expected)
    for name, (code, words) in expected.items():
        job = ends[name]
        assert (job["state"], job["reason"]["code"]) == ("failed", code), job
        assert words in job["reason"]["message"], job
        assert name.replace("%E9", "")[:6] in job["reason"]["message"], "it names the file"
        # Bad input fails once: it was not tried again.
        assert shell.show(job["id"])["attempts"][1:] == []
    assert list((shell.cwd / "out").iterdir()) == []
    shell.assert_clean()


NAMES = (
    b"-rf.mkv", b"it's \"quoted\".mkv", b"two\nlines.mkv", "ünïcödé ☃ 日本.mkv".encode(), b"caf\xe9.mkv",
    b"%d %s.mkv", b"[a-z]*?.mkv", b"$(touch owned).mkv", b" spaces  .mkv", b"n" * 251 + b".mkv",
    b"file:evil.mkv", b"|cat.mkv", b"a.b.c.mkv",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_names_of_every_kind(shell: Shell) -> None:
    clip = make_clip(shell.cwd / "clip.mkv", "-c:v", "libx264", "-c:a", "aac", seconds=0.4)
    for name in NAMES:
        shutil.copy(clip, shell.cwd / os.fsdecode(name))
    clip.unlink()
    # From inside the folder, as typed: the odd names are arguments of their own.
    said = shell.run("convert", "-o", "out", *FAST, "--", *NAMES, timeout=100)
    assert said.code == 0, said.both
    stems = {name.removesuffix(b".mkv") for name in NAMES}
    longest = b"n" * 251
    made = {os.fsencode(path.name) for path in (shell.cwd / "out").glob("*.mp4")}
    wanted = {stem + b".mp4" for stem in stems - {b"caf\xe9", longest}} | {b"caf%E9.mp4"}
    assert made > wanted
    (shortened,) = made - wanted
    assert shortened.startswith(b"n" * 200)
    assert [decodes(path) for path in (shell.cwd / "out").glob("*.mp4")] == [""] * len(NAMES)
    assert not (shell.cwd / "owned").exists()
    again = shell.run("convert", "-o", "out", *FAST, "--", *NAMES)
    assert f"{len(NAMES)} jobs: {len(NAMES)} skipped" in again.err, again.both
    shell.assert_clean()


# -- output names -------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_an_output_that_exists(shell: Shell) -> None:
    """Never overwritten by accident; renamed or replaced when asked for."""
    make_clip(shell.cwd / "film.mkv", "-c:v", "libx264", seconds=0.4)
    taken = shell.cwd / "out" / "film.mp4"
    taken.parent.mkdir()
    taken.write_text("my only copy")
    said = shell.run("convert", "film.mkv", "-o", "out")
    _failed(said, 1, "output_exists: ", "out/film.mp4: exists", "--on-exists replace or rename")
    assert shell.run("convert", "film.mkv", "-o", "out", "--on-exists", "rename").code == 0
    assert taken.read_text() == "my only copy"
    assert decodes(taken.with_name("film (2).mp4")) == ""
    assert shell.run("convert", "film.mkv", "-o", "out", "--on-exists", "replace").code == 0
    assert decodes(taken) == ""
    shell.assert_clean()


@pytest.mark.slow
def test_two_inputs_that_would_share_a_name(shell: Shell) -> None:
    """In one batch they are named apart; another job's name is refused."""
    for name in ("film.mkv", "film.mov"):
        make_clip(shell.cwd / name, "-c:v", "libx264", "-c:a", "aac", seconds=0.4)
    waiting = shell.run("convert", "film.mkv", "-o", "one", "--detach")
    assert waiting.code == 0
    assert "no_worker: no worker is running" in waiting.err
    refused = shell.run("convert", "film.mov", "-o", "one")
    _failed(refused, 4, "one/film.mp4", waiting.out.strip(), "(queued)")
    both = shell.run("convert", "film.mkv", "film.mov", "-o", "two")
    assert both.code == 0, both.both
    assert {Path(line).name for line in both.out.splitlines()} == {"film.mkv.mp4", "film.mov.mp4"}
    shell.assert_clean()
