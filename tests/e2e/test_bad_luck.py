"""What goes wrong while the work is under way: sources that change, tools that die, disks that fill up."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import Said, Shell, decodes, make_clip
from tests.helpers import DEMO, wait_until

CONVERT = ("convert", "film.mp4", "-o", "out", "--speed", "medium", "-p", "segment_seconds=5")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def film(shell: Shell) -> Path:
    """60 s in pieces of 5 s: long enough to do something to it meanwhile."""
    path = shell.cwd / "film.mp4"
    shutil.copy2(DEMO, path)
    return path


@contextmanager
def running(shell: Shell, *, pieces: int = 2) -> Iterator["subprocess.Popen[bytes]"]:
    """The conversion, as soon as it has begun with this many pieces after the sound."""
    with shell.start(*CONVERT) as process:
        try:
            wait_until(lambda: len(_pieces(shell)) >= pieces, 50, "the pieces")
            yield process
        except BaseException:
            shell.end_all()
            raise


def _pieces(shell: Shell) -> list[str]:
    return [name for name in shell.ledger.starts() if "/encode/" in name and name.endswith(".mp4")]


def _end(process: "subprocess.Popen[bytes]") -> Said:
    out, err = process.communicate(timeout=60)
    return Said(process.returncode, out.decode(), err.decode())


def _events(shell: Shell, kind: str) -> list[dict[str, Any]]:
    with shell.store() as store:
        return [dict(event.data) for event in store.events_since(0, limit=10_000) if event.kind == kind]


# -- the source ---------------------------------------------------------------------------------------------
def test_a_source_that_is_replaced(shell: Shell, film: Path) -> None:
    """Half of one film and half of another is worse than no film; run again, it is the new film."""
    other = make_clip(shell.cwd / "other.mp4", "-c:v", "libx264", "-c:a", "aac", seconds=2)
    with running(shell) as process:
        os.replace(other, film)
        said = _end(process)
    assert said.code == 8, said.both
    assert "input_bad: " in said.err
    assert "film.mp4: changed while the job was running; run it again on the new file" in said.err
    assert list((shell.cwd / "out").iterdir()) == []
    again = shell.run(*CONVERT)
    assert again.code == 0, again.both
    assert decodes(shell.cwd / "out" / "film.mp4") == ""
    assert (shell.cwd / "out" / "film.mp4").stat().st_size < 300_000  # two seconds, not sixty
    shell.assert_clean()


def test_a_source_that_is_deleted(shell: Shell, film: Path) -> None:
    with running(shell) as process:
        film.unlink()
        said = _end(process)
    assert said.code == 8, said.both
    assert "input_missing: " in said.err
    assert "film.mp4: not there any more" in said.err
    assert list((shell.cwd / "out").iterdir()) == []
    # It comes back (a disk that was unplugged): no piece that was done is done again.
    done = len([unit for unit in shell.show()["units"] if unit["state"] == "committed"])
    assert done >= 3
    shutil.copy2(DEMO, film)
    again = shell.run(*CONVERT)
    assert again.code == 0, again.both
    assert f"from {done} finished units" in again.err
    assert shell.show()["attempts"][-1]["units_reused"] == done
    assert decodes(shell.cwd / "out" / "film.mp4") == ""
    shell.assert_clean()


# -- ffmpeg -------------------------------------------------------------------------------------------------
def test_ffmpeg_that_is_killed(shell: Shell, film: Path) -> None:
    """The attempt fails, the next one goes on: no piece that was finished is done again."""
    with running(shell, pieces=3) as process:
        (victim,) = wait_until(lambda: shell.pids("-progress pipe:1"), 10, "an ffmpeg")[:1]
        os.kill(victim, signal.SIGKILL)
        said = _end(process)
    assert said.code == 0, said.both
    assert "was killed by SIGKILL" in said.err
    job = shell.show()
    first, second = job["attempts"]
    assert (first["state"], first["reason"]["code"]) == ("failed", "crashed")
    assert second["units_reused"] >= 3
    pieces = _pieces(shell)
    twice = {
        name.rpartition("/")[2]
        for name in pieces
        if sum(n.endswith(name.rpartition("/")[2]) for n in pieces) > 1
    }
    assert len(twice) <= 1, "only the one that was being made is made again"
    assert decodes(shell.cwd / "out" / "film.mp4") == ""
    shell.assert_clean()


def test_ffmpeg_that_is_upgraded_between_two_attempts(shell: Shell, film: Path) -> None:
    """Two builds never meet in one film: what the old one made is void, and an event says so."""
    with running(shell, pieces=3) as process:
        process.send_signal(signal.SIGINT)
        said = _end(process)
    assert said.code == 130, said.both
    assert "go on with the same command" in said.err
    finished = {
        unit["name"]
        for unit in shell.show()["units"]
        if unit["stage"] == "encode" and unit["state"] == "committed"
    }
    assert len(finished) >= 3
    with open(shell.ledger.path, "a") as file:
        file.write("# another build\n")
    again = shell.run(*CONVERT, timeout=100)
    assert again.code == 0, again.both
    (change,) = _events(shell, "plan_changed")
    assert (change["stage"], change["voided"]) == ("encode", len(finished))
    assert f"the plan changed, {len(finished)} finished unit(s) are void" in shell.run("logs", "@last").both
    assert decodes(shell.cwd / "out" / "film.mp4") == ""
    shell.assert_clean()


def test_ffmpeg_that_is_missing_or_none(shell: Shell) -> None:
    make_clip(shell.cwd / "film.mkv", seconds=0.4)
    (shell.cwd / "no-program").write_text("#!/bin/sh\necho hello\n")
    (shell.cwd / "no-program").chmod(0o755)
    for number, (choice, words) in enumerate(
        (
            ("/nowhere/ffmpeg", "/nowhere/ffmpeg: No such file or directory"),
            (str(shell.cwd / "no-program"), "no-program is not an ffmpeg that works"),
        ),
        1,
    ):
        said = shell.run("convert", "film.mkv", "-o", "out", UNJAM_FFMPEG=choice)
        assert said.code == 1, said.both
        assert "tool_missing: " in said.err
        assert words in said.err
        assert "UNJAM_FFMPEG" in said.err, "the way out"
        assert len(shell.show()["attempts"]) == number  # tried once a command
    assert list((shell.cwd / "out").iterdir()) == []
    shell.assert_clean()


# -- rights -------------------------------------------------------------------------------------------------
WITHOUT_RIGHTS = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    if os.geteuid() == 0
    else ()
)
"""Root without the capabilities that make it stand above modes: an ordinary owner of its files."""


def test_what_may_not_be_read_or_written(tmp_path: Path) -> None:
    with Shell(tmp_path, prefix=WITHOUT_RIGHTS) as shell:
        for name in ("open.mkv", "shut.mkv"):
            make_clip(shell.cwd / "in" / name, "-c:v", "libx264", seconds=0.4)
        (shell.cwd / "in" / "shut.mkv").chmod(0)
        alone = shell.run("convert", "in/shut.mkv", "-o", "out")
        assert alone.code == 8, alone.both
        assert "shut.mkv: may not be read; change its mode or its owner" in alone.err
        both = shell.run("convert", "in", "-o", "out")
        assert both.code == 10, both.both
        assert "shut.mkv: permission: " in both.err
        assert os.listdir(shell.cwd / "out") != []

        (shell.cwd / "sealed").mkdir(mode=0o555)
        for out, words in (
            ("sealed", "sealed: the output folder may not be written to; choose another with -o"),
            ("sealed/new", "sealed/new: the output folder cannot be made: Permission denied"),
        ):
            said = shell.run("convert", "in/open.mkv", "-o", out)
            assert said.code == 1, said.both
            assert words in said.err
        said = shell.run("--store", f"sqlite:///{shell.cwd}/sealed/jobs.db", "ls")
        assert said.code == 7, said.both
        assert "sealed is not writable for this user" in said.err
        store = shell.cwd / "locked.db"
        assert shell.run("--store", f"sqlite:///{store}", "ls").code == 0
        store.chmod(0o400)
        said = shell.run("--store", f"sqlite:///{store}", "ls")
        assert said.code == 7, said.both
        assert "locked.db is not writable for this user" in said.err
        shell.assert_clean()


# -- room ---------------------------------------------------------------------------------------------------
@contextmanager
def _small_disk(where: Path, size: str) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


def _fill(ballast: Path) -> None:
    with open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


@pytest.mark.root
def test_a_disk_that_is_full_where_the_output_goes(shell: Shell) -> None:
    make_clip(shell.cwd / "film.mkv", "-c:v", "libx264", seconds=0.4)
    with _small_disk(shell.cwd / "out", "4m") as out:
        said = shell.run("convert", "film.mkv", "-o", "out")
        assert said.code == 1, said.both
        assert "disk_full: " in said.err
        assert f"free some room, then resume ({out} has 4." in said.err
        assert list(out.iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=64m", out], check=True)
        again = shell.run("resume", "@last")
        assert again.code == 0, again.both
        assert decodes(out / "film.mp4") == ""
        shell.assert_clean()


@pytest.mark.root
def test_a_disk_that_fills_up_under_the_work(shell: Shell, film: Path) -> None:
    """The unit that did not fit is gone, those that did are kept; with room again it goes on from them."""
    with _small_disk(shell.root / "scratch", "800k") as scratch:
        shell.env["UNJAM_WORK_ROOT"] = str(scratch)
        said = shell.run(*CONVERT, timeout=60)
        assert said.code == 1, said.both
        assert "disk_full: " in said.err
        assert f"film.mp4; free some room, then resume ({scratch} has " in said.err
        assert list((shell.cwd / "out").iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=64m", scratch], check=True)
        again = shell.run(*CONVERT, timeout=80)
        assert again.code == 0, again.both
        assert shell.show()["attempts"][-1]["units_reused"] >= 1
        assert decodes(shell.cwd / "out" / "film.mp4") == ""
        assert list(scratch.iterdir()) == []
        shell.assert_clean()


@pytest.mark.root
def test_an_output_disk_that_fills_up_under_the_work(shell: Shell, film: Path) -> None:
    """INV-TORN, INV-KEEP: there was room at first. No part of the film is left, and no unit is done again."""
    with _small_disk(shell.cwd / "out", "32m") as out:
        with running(shell) as process:
            with pytest.raises(OSError, match="No space"):
                _fill(out / "ballast")
            said = _end(process)
        assert said.code == 1, said.both
        assert "disk_full: " in said.err
        assert f"({out} has 0 B left of 33.6 MB)" in said.err
        assert os.listdir(out) == ["ballast"]
        done = len([unit for unit in shell.show()["units"] if unit["state"] == "committed"])
        (out / "ballast").unlink()
        again = shell.run(*CONVERT, timeout=80)
        assert again.code == 0, again.both
        assert shell.show()["attempts"][-1]["units_reused"] == done
        assert done >= 3
        assert decodes(out / "film.mp4") == ""
        shell.assert_clean()


@pytest.mark.root
def test_a_disk_that_is_full_where_the_store_is(shell: Shell) -> None:
    make_clip(shell.cwd / "film.mkv", "-c:v", "libx264", seconds=0.4)
    with _small_disk(shell.home, "2m") as home:
        assert shell.run("convert", "film.mkv", "-o", "out", "--detach").code == 0
        with pytest.raises(OSError, match="No space"):
            _fill(home / "ballast")
        said = shell.run("convert", "film.mkv", "-o", "other", "--detach")
        assert said.code == 1, said.both
        assert "is full: free some" in said.err
        (home / "ballast").unlink()
        assert len(shell.jobs()) == 1
        shell.assert_clean()
