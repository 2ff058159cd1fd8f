"""logs: the log of a job, its tail or the whole, and on from there while it runs."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from unjam.cli.app import App, pass_app
from unjam.cli.output import say
from unjam.errors import NotFound, UsageError
from unjam.measures import show_size
from unjam.printable import printable

if TYPE_CHECKING:
    from unjam.client.logs import Cursor
    from unjam.store.port import Store

FOLLOW_EVERY = 0.2
_HARMLESS = re.compile("(\t|\033\\[[0-9;]*m)")


@click.command(epilog="Example: unjam logs @last -f")
@click.argument("ident", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends, over all its attempts.")
@click.option("-n", "--lines", default="100", show_default=True, help="How many of the last lines; 'all'.")
@click.option("--attempt", type=click.IntRange(1), help="The log of this attempt; default: the newest.")
@click.option("--cursor", metavar="ATTEMPT.OFFSET", help="Only what comes after this place.")
@pass_app
def logs(app: App, /, ident: str, follow: bool, lines: str, attempt: int | None, cursor: str | None) -> int:
    """The log of a job. With -f, Ctrl+C ends the reading only."""
    from unjam.client.ids import resolve_job
    from unjam.client.logs import Cursor

    if lines != "all" and not lines.isdecimal():
        raise UsageError(f"-n {lines}: a number of lines, or all")
    with app.store() as store:
        job_id = resolve_job(store, ident)
        start = (
            Cursor.parse(cursor)
            if cursor
            else _start(store, job_id, None if lines == "all" else int(lines), attempt, follow=follow)
        )
        if follow:
            return _follow(store, job_id, start)
        _write(store, job_id, start, only=attempt)
    return 0


def _start(store: Store, job_id: str, lines: int | None, attempt: int | None, *, follow: bool) -> Cursor:
    from unjam.client.logs import Cursor, start_of_tail

    attempts = [a for a in store.attempts(job_id) if attempt is None or a.number == attempt]
    if attempt is not None and not attempts:
        raise NotFound(f"{job_id} has no attempt {attempt}; see `unjam show {job_id}`")
    if follow and not attempts:
        return Cursor(0, 0)
    return start_of_tail(attempts, lines)


def _write(store: Store, job_id: str, start: Cursor, *, only: int | None = None) -> Cursor:
    """Everything since `start`, as bytes; returns where it ended."""
    from unjam.client.logs import read_all

    attempts = [a for a in store.attempts(job_id) if only is None or a.number == only]
    for chunk in read_all(attempts, start):
        if chunk.skipped:
            sys.stdout.flush()
            say(f"[{show_size(chunk.skipped)} of this log were dropped]")
        if chunk.attempt != start.attempt and start.attempt:
            say(f"[attempt {chunk.attempt}]")
        sys.stdout.buffer.write(on_screen(chunk.data) if sys.stdout.isatty() else chunk.data)
        start = chunk.end
    sys.stdout.buffer.flush()
    return start


def on_screen(log: bytes) -> bytes:
    """What a program wrote, harmless on a terminal: colours stay, whatever else would move the cursor, set
    a title or reset the screen becomes visible."""
    text = log.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    parts = _HARMLESS.split(text)  # every second one is harmless
    parts[::2] = [printable(part) for part in parts[::2]]
    return "".join(parts).encode("utf-8", "surrogateescape")


def _follow(store: Store, job_id: str, start: Cursor) -> int:
    from unjam.cli.signals import Signals
    from unjam.jobs.lifecycle import ENDED

    with Signals() as signals:
        while not signals.pressed:
            job = store.get(job_id)
            # The state before the bytes: a job that ended has written all of its log.
            start = _write(store, job_id, start)
            if job is None or job.state in ENDED:
                return 0
            signals.wait(FOLLOW_EVERY)
        return signals.exit_code
