"""worker, workers, queues, gc: running the machine room."""

from __future__ import annotations

import os
from typing import Any

import click

from unjam.cli.app import App, pass_app
from unjam.cli.output import data, data_name, document, json_line, say, table
from unjam.measures import show_duration, show_size
from unjam.printable import one_line


@click.command(epilog="Example: unjam worker -j 4")
@click.option("-j", "slots", type=click.IntRange(1), help="Jobs at once, in CPU slots; default: all CPUs.")
@click.option("--queue", "queues", multiple=True, metavar="Q", help="Only jobs of this queue; several times.")
@click.option("--exit-when-idle", is_flag=True, help="End when no job is left.")
@click.option(
    "--drain", is_flag=True, help="On the first signal let running jobs finish instead of giving them back."
)
@pass_app
def worker(app: App, /, slots: int | None, queues: tuple[str, ...], exit_when_idle: bool, drain: bool) -> int:
    """Run a worker here until it is stopped. The first Ctrl+C (or TERM) gives its jobs back to the queue, the
    second kills at once; finished units are kept both times."""
    from unjam.worker.spawn import environment, keeper_argv, worker_argv

    # Said here, where somebody reads it, and not by each of the keeper's restarts.
    with app.store():
        pass
    settings = app.settings
    argv = keeper_argv(
        worker_argv(slots=slots, exit_when_idle=exit_when_idle, drain=drain, queues=queues or None),
        restart=True,
    )
    # This very process becomes the keeper: the pid the user sees is the one to signal.
    os.execve(argv[0], argv, environment(settings))


@click.command(epilog="Example: unjam workers --json")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@pass_app
def workers(app: App, /, as_json: bool) -> int:
    """List workers: alive, silent, or proven dead."""
    from unjam.client.owners import proven_dead
    from unjam.client.view import iso

    with app.store() as store:
        now = store.now()
        rows: list[list[str]] = []
        for found in store.workers():
            state = "dead" if proven_dead(found) else "silent" if found.expires_at <= now else "alive"
            if found.draining and state == "alive":
                state = "draining"
            if as_json:
                json_line(
                    {
                        "id": found.id,
                        "host": found.host_name or found.host,
                        "state": state,
                        "slots": found.slots,
                        "queues": None if found.queues is None else list(found.queues),
                        "pipelines": list(found.pipelines),
                        "started_at": iso(found.started_at),
                        "heartbeat_age_seconds": round(max(0.0, now - found.heartbeat_at), 3),
                    }
                )
            rows.append(
                [
                    found.id,
                    state,
                    found.host_name or found.host,
                    str(found.slots),
                    "all" if found.queues is None else ",".join(found.queues),
                    show_duration(max(0.0, now - found.started_at)),
                    f"{show_duration(max(0.0, now - found.heartbeat_at))} ago",
                ]
            )
    if not as_json:
        if rows:
            table(["ID", "STATE", "HOST", "SLOTS", "QUEUES", "UP", "HEARD OF"], rows)
        else:
            say("no worker is running; start one with `unjam worker`")
    return 0


@click.group(invoke_without_command=True, epilog="Example: unjam queues pause night")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@click.pass_context
def queues(ctx: click.Context, /, as_json: bool) -> int:
    """List queues, or pause and resume one."""
    if ctx.invoked_subcommand is not None:
        return 0
    app = ctx.find_object(App)
    assert app is not None
    with app.store() as store:
        now, found = store.now(), store.queues()
    if as_json:
        for queue in found:
            json_line(
                {
                    "name": queue.name,
                    "paused": queue.paused,
                    "paused_by": queue.paused_by,
                    "counts": dict(queue.counts),
                    "oldest_queued_age_seconds": None
                    if queue.oldest_queued_at is None
                    else round(max(0.0, now - queue.oldest_queued_at), 3),
                }
            )
        return 0
    rows = [
        [
            queue.name,
            f"paused by {queue.paused_by}" if queue.paused else "open",
            " ".join(f"{state}:{n}" for state, n in sorted(queue.counts.items()) if n),
            "" if queue.oldest_queued_at is None else show_duration(max(0.0, now - queue.oldest_queued_at)),
        ]
        for queue in found
    ]
    if rows:
        table(["QUEUE", "STATE", "JOBS", "OLDEST WAITS"], rows)
    else:
        say("no queues: they come with their first job")
    return 0


@queues.command("pause")
@click.argument("name")
@pass_app
def pause_queue(app: App, /, name: str) -> int:
    """Start no more jobs of a queue; what runs goes on."""
    from unjam.client.api import who

    with app.store() as store:
        store.pause_queue(name, by=who())
    data_name(f"{name} paused")
    return 0


@queues.command("resume")
@click.argument("name")
@pass_app
def resume_queue(app: App, /, name: str) -> int:
    """Start jobs of a paused queue again."""
    with app.store() as store:
        store.resume_queue(name)
    data_name(f"{name} open")
    return 0


@click.command(epilog="Example: unjam gc --dry-run")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_app
def gc(app: App, /, dry_run: bool, as_json: bool) -> int:
    """Remove what nobody needs: work of jobs that are done or gone, staged files without an owner, logs of
    forgotten jobs, and ended jobs past keep_finished_days. Safe while workers run."""
    from unjam.worker.garbage import collect

    with app.store() as store:
        report = collect(store, app.settings, dry_run=dry_run)
    found: dict[str, Any] = {
        "work": [str(path) for path in report.work],
        "staged": [str(path) for path in report.staged],
        "logs": [str(path) for path in report.logs],
        "sockets": [str(path) for path in report.sockets],
        "jobs": report.jobs,
        "left": report.left,
        "freed_bytes": report.freed_bytes,
        "dry_run": dry_run,
    }
    if as_json:
        document(found)
        return 0
    for kind in ("work", "staged", "logs", "sockets"):
        for path in found[kind]:
            data_name(f"{kind:<8}{path}")
    for job_id in report.jobs:
        data(f"{'job':<8}{job_id}")
    for sentence in report.left:
        say(f"unjam: left: {one_line(sentence)}")
    verb = "would free" if dry_run else "freed"
    say(f"{verb} {show_size(report.freed_bytes)}")
    return 0
