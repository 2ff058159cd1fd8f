"""Queues, workers, locks, recovery, gc, config, db, doctor: the machine room from the command line."""

import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.client.world import World
from tests.e2e.shell import Shell
from unjam.cli.doctor import LONGEST_SOCKET, sockets
from unjam.client.ids import new_id
from unjam.jobs.states import State
from unjam.settings import Settings
from unjam.worker.paths import work_dir


def test_queues_are_listed_paused_and_opened(terminal: Shell) -> None:
    terminal.quick("exec", "--detach", "--queue", "night", "--", "true")
    assert terminal.quick("queues", "pause", "night").out == "night paused\n"
    (night,) = [q for q in terminal.quick("queues", "--json").lines if q["name"] == "night"]
    assert night["paused"] is True
    assert night["counts"]["queued"] == 1
    assert "is paused by" in terminal.quick("show", "@last").out
    assert terminal.quick("queues", "resume", "night").out == "night open\n"
    assert "open" in terminal.quick("queues").out


def test_workers_are_alive_silent_or_dead(terminal: Shell) -> None:
    world = World(terminal.home.parent)
    assert "no worker is running" in terminal.quick("workers").err
    living, dead = world.worker(), world.worker(alive=False)
    states = {w["id"]: w["state"] for w in terminal.quick("workers", "--json").lines}
    assert states == {living.id: "alive", dead.id: "dead"}
    world.store.close()


def test_locks_tell_the_dead_from_the_living_and_recover_frees_only_the_dead(terminal: Shell) -> None:
    """INV-LOCK"""
    world = World(terminal.home.parent)
    assert "nothing is held" in terminal.quick("locks").err
    jobs = []
    for alive in (True, False):
        job_id = terminal.quick("exec", "--detach", "--", "true", str(alive)).out.strip()
        world.claim(world.worker(alive=alive))
        jobs.append(job_id)
    held, orphaned = jobs
    locks = {lock["key"]: lock["holder_is"] for lock in terminal.quick("locks", "--json").lines}
    assert locks == {held: "alive", orphaned: "dead"}
    refused = terminal.quick("locks", "release", held)
    assert refused.code == 4
    assert "alive" in refused.err
    assert terminal.quick("recover", "--json").json["requeued"] == [orphaned]
    assert world.job(held).state is State.RUNNING
    assert world.job(orphaned).state is State.QUEUED
    assert terminal.quick("locks", "release", orphaned).code == 3
    assert terminal.quick("locks", "release", held, "--force").code == 0
    assert world.job(held).state is State.QUEUED
    world.store.close()


def test_gc_removes_what_nobody_needs_and_a_dry_run_nothing(terminal: Shell) -> None:
    terminal.quick("ls")
    stray = terminal.settings.work_root / "j000000000" / "f1"
    stray.mkdir(parents=True)
    (stray / "unit").write_bytes(b"x" * 1000)
    dry = terminal.quick("gc", "--dry-run")
    assert str(stray.parent) in dry.out
    assert stray.exists()
    assert terminal.quick("gc", "--json").json["freed_bytes"] == 1000
    assert not stray.exists()


def test_config_show_names_value_and_origin(terminal: Shell) -> None:
    (terminal.cwd / "unjam.toml").write_text("slots = 3\n")
    shown = terminal.quick("--set", "nice=7", "config", "show", "--json").json
    assert shown["slots"] == {"value": 3, "origin": str(terminal.cwd / "unjam.toml")}
    assert shown["nice"] == {"value": 7, "origin": "flag --nice"}
    assert shown["grace"] == {"value": 2.0, "origin": "UNJAM_GRACE"}
    assert shown["lease_ttl"] == {"value": 30.0, "origin": "default"}
    assert str(terminal.cwd / "unjam.toml") in terminal.quick("config", "path").out


def test_db_backup_is_a_whole_store_and_is_never_written_over(terminal: Shell) -> None:
    terminal.quick("exec", "--detach", "--", "true")
    target = terminal.cwd / "copy.db"
    assert terminal.quick("db", "backup", "copy.db").out == f"{target}\n"
    with sqlite3.connect(target) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    assert terminal.quick("--store", str(target), "ls", "--json").lines[0]["pipeline"] == "exec"
    assert terminal.quick("db", "backup", "copy.db").code == 2
    assert terminal.quick("db", "check").code == 0
    assert terminal.quick("db", "upgrade").code == 0


def test_pipelines_with_parameters(terminal: Shell) -> None:
    listed = {p["name"] for p in terminal.quick("pipelines", "--json").lines}
    assert {"convert", "exec"} <= listed
    schema = terminal.quick("pipelines", "convert", "--json").json["params"]
    assert {"preset", "segment_seconds", "verify"} <= set(schema["properties"])
    assert "segment_seconds" in terminal.quick("pipelines", "convert").out
    assert terminal.quick("pipelines", "convrt").code == 3


def test_doctor_says_how_to_fix_what_is_wrong(terminal: Shell) -> None:
    good = {f["what"]: f for f in terminal.quick("doctor", "--json").lines}
    assert good["ffmpeg pinned"]["verdict"] == "ok"
    assert good["store"]["verdict"] == "ok"
    assert "containment" in good
    assert ("cgroup" in good["memory limit"]["found"]) is (good["memory limit"]["verdict"] == "ok")
    assert good["jobs yield"]["found"].startswith("no; on a laptop")
    polite = terminal.quick("--set", "background=yes", "doctor", "--json").lines
    assert [f["found"][:10] for f in polite if f["what"] == "jobs yield"] == ["background"]
    bad = terminal.quick("--set", "ffmpeg=/no/such/ffmpeg", "doctor", "--json")
    assert bad.code == 1
    (finding,) = [f for f in bad.lines if f["verdict"] == "fail"]
    assert "/no/such/ffmpeg" in finding["found"]
    assert finding["fix"]


@pytest.mark.parametrize(("too_long", "verdict"), [(0, "ok"), (1, "warn")])
def test_doctor_knows_which_work_folder_is_too_long_for_sockets(too_long: int, verdict: str) -> None:
    """Tried with what really makes one: the TMPDIR of an attempt lies in there."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        found = sockets(Settings(home=Path(folder), work_root=Path(folder)))
        room = LONGEST_SOCKET - int(found.found.split(": ")[1].split()[0])
        root = Path(folder) / ("x" * (room - 1 + too_long))
        found = sockets(Settings(home=Path(folder), work_root=root))
        temporary = work_dir(Settings(home=Path(folder), work_root=root), new_id("j"), 999)
        temporary.mkdir(parents=True)
        program = "from multiprocessing.connection import Listener; Listener(family='AF_UNIX').close()"
        made = subprocess.run(
            [sys.executable, "-c", program], env={"TMPDIR": str(temporary)}, capture_output=True, text=True
        )
        assert ("path too long" in made.stderr) is bool(too_long), made.stderr
        assert found.verdict == verdict
        assert ("UNJAM_WORK_ROOT" in found.fix) is bool(too_long)


def test_completion_scripts(terminal: Shell) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_UNJAM_COMPLETE" in terminal.quick("completion", shell).out
