"""doctor: what works on this machine, what does not, and how to get it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import click

from unjam.cli.app import App, pass_app
from unjam.cli.output import data, json_line, paint
from unjam.errors import UnjamError
from unjam.measures import show_size
from unjam.printable import one_line
from unjam.settings import Settings

LITTLE_ROOM = 2 * 10**9
"""Free bytes below which a film's units may not fit."""

LONGEST_SOCKET = 107 if sys.platform == "linux" else 103
"""Bytes of the path of a unix socket (sun_path, without the zero at its end)."""
HIGH_FENCE = 999
"""Attempts of a job that are thought of."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fix` says how to get what is missing."""

    verdict: Literal["ok", "warn", "fail"]
    what: str
    found: str
    fix: str = ""


@click.command(epilog="Example: unjam doctor")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@pass_app
def doctor(app: App, /, as_json: bool) -> int:
    """What works here, what does not, how to get it. Exit code 1 when something needed is missing."""
    failed = False
    for finding in _findings(app):
        failed = failed or finding.verdict == "fail"
        if as_json:
            json_line(asdict(finding))
            continue
        colour = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.verdict]
        data(f"{paint(f'{finding.verdict:<5}', colour)}{finding.what:<22}{one_line(finding.found)}")
        if finding.fix:
            data(f"{'':<27}{finding.fix}")
    return 1 if failed else 0


def _findings(app: App) -> Iterator[Finding]:
    settings = app.settings
    yield Finding("ok", "python", f"{sys.version.split()[0]} on {sys.platform}")
    yield from _folders(settings)
    yield sockets(settings)
    yield _store(app)
    yield from _ffmpegs(settings)
    for look in (_identity, _mark, _descriptors):
        yield look()
    yield _containment(settings)
    yield _memory_limit()
    yield _manners(settings)
    yield Finding("ok", "cpu slots", f"{settings.slots} on {socket.gethostname()}")
    yield Finding("ok", "memory for jobs", show_size(settings.memory_bytes))


def _folders(settings: Settings) -> Iterator[Finding]:
    for what, folder in (
        ("home", settings.home),
        ("work folder", settings.work_root),
        ("logs", settings.log_root),
    ):
        there = folder
        while not there.exists():
            there = there.parent
        if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
            yield Finding(
                "fail", what, f"{folder}: {there} may not be written to", "set UNJAM_HOME to another folder"
            )
            continue
        free = shutil.disk_usage(there).free
        verdict: Literal["ok", "warn"] = "ok" if free >= LITTLE_ROOM else "warn"
        fix = "" if verdict == "ok" else "free some room (`unjam gc`), or set UNJAM_WORK_ROOT"
        yield Finding(verdict, what, f"{folder}: writable, {show_size(free)} free", fix)


def sockets(settings: Settings) -> Finding:
    """Does a socket fit that Python's multiprocessing, or another tool, makes in an attempt's TMPDIR?"""
    from unjam.client.ids import new_id
    from unjam.worker.paths import work_dir

    temporary = work_dir(settings, new_id("j"), HIGH_FENCE) / "pymp-12345678" / "listener-12345678"
    size, limit = len(os.fsencode(temporary)), LONGEST_SOCKET
    if size <= limit:
        return Finding("ok", "sockets of jobs", f"their names fit: {size} of {limit} bytes")
    return Finding(
        "warn",
        "sockets of jobs",
        f"{settings.work_root}: too long a name. Tools that make a socket in their TMPDIR (multiprocessing) "
        f"fail with 'path too long': {size} bytes, {limit} fit",
        f"set UNJAM_WORK_ROOT to a folder whose name is {size - limit} bytes shorter",
    )


def _store(app: App) -> Finding:
    from unjam.store.url import shown

    try:
        with app.store() as store:
            findings = store.check()
            if findings:
                return Finding(
                    "fail", "store", f"{shown(store.url)}: {findings[0]}", "restore a backup of it"
                )
            return Finding("ok", "store", f"{shown(store.url)}: opens, no damage")
    except UnjamError as error:
        return Finding("fail", "store", str(error), "set UNJAM_STORE, or repair the file named")


def _ffmpegs(settings: Settings) -> Iterator[Finding]:
    from unjam.media.ffmpeg import find

    choices = dict.fromkeys(("pinned", "system", settings.ffmpeg))
    for choice in choices:
        name = choice if choice in ("pinned", "system") else "own"
        used = " (used)" if choice == settings.ffmpeg else ""
        try:
            found = find(choice)
            yield Finding("ok", f"ffmpeg {name}", f"{found.version} at {found.path}{used}")
        except UnjamError as error:
            verdict: Literal["fail", "warn"] = "fail" if used else "warn"
            fix = "set UNJAM_FFMPEG to one that works" if used else "only needed with UNJAM_FFMPEG=" + choice
            yield Finding(verdict, f"ffmpeg {name}", str(error), fix)


def _identity() -> Finding:
    from unjam.supervise.linux import pidfd_inode

    if not hasattr(os, "pidfd_open"):
        return Finding("fail", "process identity", "no pidfds on this system", "use Linux 5.4 or later")
    fd = os.pidfd_open(os.getpid())
    try:
        if pidfd_inode(fd) is None:
            what = "pid and start time (no pidfs inode before Linux 6.9)"
            return Finding("warn", "process identity", what, "good enough; a newer kernel makes it certain")
        return Finding(
            "ok", "process identity", "pidfd with its own inode: a reused pid is always told apart"
        )
    finally:
        os.close(fd)


def _mark() -> Finding:
    from unjam.supervise.mark import get_mark, new_mark, set_mark

    if _in_fork(lambda: set_mark(mark := new_mark(1)) and get_mark(os.getpid()) == mark):
        return Finding("ok", "leftovers", "marked by RLIMIT_LOCKS: found again after everything was killed")
    fix = "lift the limit on file locks (ulimit -x unlimited)"
    return Finding("warn", "leftovers", "RLIMIT_LOCKS is limited: a sweep cannot find them", fix)


def _descriptors() -> Finding:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1024:
        return Finding(
            "warn", "open files", f"at most {soft}", "raise it (ulimit -n 4096) for more than a few jobs"
        )
    return Finding("ok", "open files", f"at most {soft}")


def _containment(settings: Settings) -> Finding:
    from unjam.supervise import nsprobe, userns

    what, tree = "containment", "tree: guardian, subreaper, death signals"
    if settings.containment == "tree":
        return Finding("ok", what, "tree (as set): guardian, subreaper, death signals")
    ordinary = userns.own_ids() is not None
    if obstacle := nsprobe.obstacle(insist=True):
        insisting = settings.containment == "pidns"
        found = f"no PID namespace here: {obstacle.why}" + (
            ". Every job fails, since containment = pidns insists on one" if insisting else f"; {tree}"
        )
        return Finding("fail" if insisting else "warn", what, found, obstacle.way_out)
    if ordinary and settings.containment == "auto":
        offer = (
            "to have none left even then: UNJAM_CONTAINMENT=pidns (tried: it works for you). "
            "Inside, sudo and other setuid tools do not work, and files of other users are nobody's"
        )
        found = f"{tree}. Killed all at once, processes may stay until the next start"
        return Finding("warn", what, found, offer)
    around = ", inside a user namespace" if ordinary else ""
    return Finding("ok", what, f"pidns: the kernel ends every process of an attempt at one stroke{around}")


def _memory_limit() -> Finding:
    from unjam.supervise.cgroup import probe

    if version := probe():
        return Finding(
            "ok", "memory limit", f"kept by the kernel (+cgroup): a control group {version} for each such job"
        )
    found = "kept by samples, once a second and ten times near the limit: no control group may be made here"
    fix = "run the worker under `systemd-run --user --scope -p Delegate=yes`, or as root on the host itself"
    return Finding("warn", "memory limit", found, fix)


def _manners(settings: Settings) -> Finding:
    if settings.background:
        return Finding(
            "ok", "jobs yield", "background: niceness at least 10, disk only when nobody else wants it"
        )
    if settings.nice:
        return Finding("ok", "jobs yield", f"niceness {settings.nice}")
    return Finding("ok", "jobs yield", "no; on a laptop set background = true")


def _in_fork(attempt: Callable[[], bool]) -> bool:
    """The answer of a throw-away child: what is tried must not change this process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if attempt() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
