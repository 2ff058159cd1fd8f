"""run and exec: submit work and follow it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from unjam.cli.app import App, pass_app
from unjam.cli.options import FILES, GENERAL, pairs, submission, with_options
from unjam.cli.output import data, data_name, document, json_line, say
from unjam.cli.waiting import say_if_nobody_takes
from unjam.errors import Duplicate
from unjam.jobs.lifecycle import LIVE
from unjam.printable import one_line

if TYPE_CHECKING:
    from unjam.client.submit import Outcome, Plan


@click.command(epilog="Example: unjam run convert film.mov clips/ -o out -p preset=mp4")
@click.argument("pipeline")
@click.argument("inputs", nargs=-1)
@with_options(FILES)
@with_options(GENERAL)
@pass_app
def run(app: App, /, pipeline: str, inputs: tuple[str, ...], **options: Any) -> int:
    """Submit PIPELINE for each INPUT (files, folders, patterns, job:ID/ARTIFACT, or - for a list on stdin)
    and follow the jobs until they end. The same command again continues what is unfinished."""
    return submit_and_follow(app, pipeline, inputs, {}, options)


@click.command(
    "exec",
    epilog="Example: unjam exec --timeout 10m --retry 2 -- rsync -a photos/ backup/",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", help="What to call it in lists; default: the command.")
@click.option("--cwd", metavar="DIR", help="Folder to run it in; default: this one.")
@click.option("--env", "env_pairs", multiple=True, metavar="K=V", help="A variable for it.")
@with_options(GENERAL)
@pass_app
def exec_(
    app: App,
    /,
    command: tuple[str, ...],
    name: str | None,
    cwd: str | None,
    env_pairs: tuple[str, ...],
    **options: Any,
) -> int:
    """Run any COMMAND as a job: with limits, its whole process tree surely ended, its output in the log."""
    params = {
        "argv": list(command),
        "cwd": os.path.abspath(cwd or os.getcwd()),
        "env": pairs(env_pairs, "--env"),
    }
    if options["retries"] is None:
        # Nobody knows whether any command may be run twice: only who asks for it does.
        options["retries"] = 0
    return submit_and_follow(app, "exec", (), params, options, name=name or shlex.join(command)[:200])


def submit_and_follow(
    app: App,
    pipeline: str,
    inputs: tuple[str, ...],
    params: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    name: str | None = None,
) -> int:
    """The common path of all three commands; returns the exit code."""
    # Loaded before anything is stored: between that and the watching lies no moment for a Ctrl+C.
    from unjam.cli.following import run_attached
    from unjam.client.api import who
    from unjam.client.attach import Attachment
    from unjam.client.handover import hand_over
    from unjam.client.submit import carry_out, plan

    asked = submission(pipeline, inputs, params, options, name)
    with app.store() as store:
        cursor = store.last_event_id()
        planned = plan(store, app.settings, asked)
        for warning in planned.warnings:
            say(f"unjam: {one_line(warning)}")
        if options["dry_run"]:
            _show_plan(planned, as_json=options["as_json"])
            return 0
        known = [item.known.id for item in planned.items if item.known and item.known.state in LIVE]
        if known and hand_over(store, app.settings, known, lambda text: say(one_line(text))):
            planned = plan(store, app.settings, asked)
        attachment = Attachment(store, ttl=app.settings.attach_ttl)
        watcher = None if options["detach"] else attachment.watcher
        outcome = carry_out(store, app.settings, planned, asked, by=who(), watcher=watcher)
        for note in outcome.notes:
            say(one_line(note))
        for refused, reason in outcome.refused:
            say(f"unjam: {one_line(refused)}: {one_line(reason.message)}")
        if not outcome.jobs:
            first, reason = outcome.refused[0]
            raise Duplicate(f"{first}: nothing was submitted: {reason.message}", "")
        if options["detach"]:
            return _detached(app, store, outcome, as_json=options["as_json"])
        return run_attached(
            store,
            app.settings,
            outcome.job_ids,
            attachment,
            cursor=cursor,
            as_json=options["as_json"],
            quiet=options["wait_only"],
            slots=options["slots"],
            refused=len(outcome.refused),
            guests=[job_id for job_id, fate in outcome.jobs if fate == "running"],
        )


def _show_plan(planned: Plan, *, as_json: bool) -> None:
    words = {
        "new": "would run",
        "continued": "would continue",
        "running": "runs already",
    }
    for item in planned.items:
        job, known = item.job, item.known
        if as_json:
            json_line(
                {
                    "name": job.name,
                    "fate": item.fate,
                    "job_id": known.id if known and item.fate != "new" else None,
                    "input": job.inputs[0].uri if job.inputs else None,
                    "output_path": job.output_path,
                    "params": dict(job.params),
                }
            )
        else:
            where = f" -> {job.output_path}" if job.output_path else ""
            whose = f" ({known.id})" if known and item.fate != "new" else ""
            data_name(f"{words[item.fate]}: {job.name}{where}{whose}")


def _detached(app: App, store: Any, outcome: Outcome, *, as_json: bool) -> int:
    first = store.get(outcome.job_ids[0])
    ident = outcome.batch_id or (outcome.job_ids[0] if len(outcome.job_ids) == 1 else None)
    if ident is None and first and first.batch_id and store.batch_jobs(first.batch_id) == outcome.job_ids:
        ident = first.batch_id
    if as_json:
        document({"id": ident, "batch_id": outcome.batch_id, "jobs": outcome.job_ids})
    else:
        for job_id in [ident] if ident else outcome.job_ids:
            data(job_id)
    if first is not None:
        say_if_nobody_takes(store, first)
    return 10 if outcome.refused else 0
