"""locks, recover: who holds what, proven dead or alive, and how to free it (INV-LOCK)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from unjam.cli.app import App, pass_app
from unjam.cli.output import data, document, json_line, say, table
from unjam.errors import Conflict, NotFound
from unjam.measures import show_duration

if TYPE_CHECKING:
    from unjam.store.port import Expired
    from unjam.worker.recovery import Recovery


@click.group(invoke_without_command=True, epilog="Example: unjam locks release j4k2m8p1qr")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@click.pass_context
def locks(ctx: click.Context, /, as_json: bool) -> int:
    """Who holds which job: a lock is the live lease of an attempt, and nothing else is locked."""
    if ctx.invoked_subcommand is not None:
        return 0
    app = ctx.find_object(App)
    assert app is not None
    with app.store() as store:
        now, here = store.now(), app.here()
        rows = [_view(held, now, here) for held in store.live_jobs()]
    if as_json:
        for row in rows:
            json_line(row)
        return 0
    if not rows:
        say("nothing is held")
        return 0
    table(
        ["KEY", "HOLDER", "HOST", "PID", "HELD FOR", "LEASE LEFT", "HOLDER IS", "NAME"],
        [
            [
                row["key"],
                row["holder"] or "?",
                row["host"] or "?",
                str(row["pid"] or "?"),
                show_duration(row["held_seconds"]),
                show_duration(row["lease_left_seconds"]) if row["lease_left_seconds"] > 0 else "over",
                row["holder_is"],
                row["name"],
            ]
            for row in rows
        ],
    )
    return 0


@locks.command()
@click.argument("key")
@click.option("--force", is_flag=True, help="Also from a holder that lives or may live: it is fenced.")
@pass_app
def release(app: App, /, key: str, force: bool) -> int:
    """Free the job KEY from a holder that is gone. A living one needs --force, and loses its lease by it."""
    from unjam.client.ids import resolve_job
    from unjam.worker.recovery import Recovery, free

    with app.store() as store:
        job_id = resolve_job(store, key)
        held = next((e for e in store.live_jobs() if e.job.id == job_id), None)
        if held is None:
            raise NotFound(f"{job_id}: nobody holds it")
        row = _view(held, store.now(), app.here())
        if row["holder_is"] != "dead" and not force:
            raise Conflict(
                f"{job_id}: its holder {row['holder']} on {row['host']} is {row['holder_is']}; "
                "cancel or pause the job instead, or say --force"
            )
        done = Recovery()
        # By force also what a lost host was publishing: nobody else could ever finish or end it.
        host = held.worker.host if force and held.worker else app.here()
        free(store, app.settings, host, held, done)
    if not done:
        raise Conflict(f"{job_id}: not freed: given back just now, or being published on another host")
    data(f"{job_id}: {done.sentence()}")
    return 0


@click.command(epilog="Example: unjam recover")
@click.option("--force", is_flag=True, help="Also take jobs from workers that live: they are fenced.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_app
def recover(app: App, /, force: bool, as_json: bool) -> int:
    """Free everything that dead workers of this machine hold, and end what they left running. Workers do the
    same at their start and once a second; nothing of a living one is touched without --force."""
    from unjam.worker.recovery import reap_expired
    from unjam.worker.recovery import recover as free_all

    with app.store() as store:
        here = app.here()
        done: Recovery = free_all(store, app.settings, here, force=force)
        # What ran before this machine restarted is proven dead by nothing but its silence.
        done.add(reap_expired(store, app.settings, here))
    if as_json:
        document(
            {
                "requeued": done.requeued,
                "finished": done.finished,
                "set_aside": done.set_aside,
                "still_owned": done.still_owned,
                "killed": done.killed,
            }
        )
        return 0
    for kind, ids in (
        ("queued again", done.requeued),
        ("published", done.finished),
        ("set aside", done.set_aside),
    ):
        for job_id in ids:
            data(f"{job_id} {kind}")
    if done.still_owned:
        one = len(done.still_owned) == 1
        whose = "its owner lives, or its death is" if one else "their owners live, or their death is"
        say(f"left alone: {', '.join(done.still_owned)}: {whose} not proven")
    say(done.sentence())
    return 0


def _view(held: Expired, now: float, here: str) -> dict[str, Any]:
    owner = held.worker
    return {
        "key": held.job.id,
        "name": held.job.spec.name,
        "holder": owner.id if owner else held.job.worker_id,
        "host": (owner.host_name or owner.host) if owner else None,
        "pid": _pid(owner.identity) if owner else None,
        "attempt": held.attempt,
        "held_seconds": round(max(0.0, now - (held.job.started_at or held.job.created_at)), 3),
        "lease_left_seconds": round(held.lease_expires_at - now, 3),
        "holder_is": _proof(held, here),
        "phase": held.job.phase,
    }


def _proof(held: Expired, here: str) -> str:
    from unjam.supervise.identity import Identity, is_alive, of_this_boot

    if held.worker is None:
        return "dead"
    if held.worker.host != here:
        return "on another host"
    identity = Identity.from_json(held.worker.identity)
    if not of_this_boot(identity):
        return "of another boot"
    return "alive" if is_alive(identity) else "dead"


def _pid(identity: str) -> int | None:
    from unjam.supervise.identity import Identity

    try:
        return Identity.from_json(identity).pid
    except ValueError:
        return None
