"""ls, show, watch, wait: looking at jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from unjam.cli.app import App, pass_app
from unjam.cli.output import data, document, json_line, paint, say, table
from unjam.errors import NotFound, UsageError
from unjam.jobs.lifecycle import ACTIVE, ENDED, LIVE
from unjam.jobs.model import Job
from unjam.jobs.states import State
from unjam.measures import parse_duration, show_duration, show_size
from unjam.printable import one_line

if TYPE_CHECKING:
    from unjam.client.waits import Surroundings
    from unjam.store.port import JobFilter, Store

PAGE = 200


@click.command(epilog="Example: unjam ls --state failed --state running")
@click.option("--state", "states", multiple=True, help="Only jobs in this state; may be given several times.")
@click.option("--active", is_flag=True, help="Only jobs that have not ended.")
@click.option("--pipeline", help="Only jobs of this pipeline.")
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--batch", metavar="ID", help="Only jobs of this batch.")
@click.option("--worker", metavar="ID", help="Only jobs this worker holds.")
@click.option("--tag", metavar="K=V", help="Only jobs with this tag.")
@click.option("--text", help="Only jobs whose name holds this.")
@click.option("-n", "--limit", type=click.IntRange(0), default=50, show_default=True, help="At most; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@pass_app
def ls(app: App, /, **options: Any) -> int:
    """List jobs, newest first."""
    from unjam.client.waits import look_around

    with app.store() as store:
        where = _filter(store, options)
        around = look_around(store)
        jobs = _pages(store, where, options["limit"])
        if options["as_json"]:
            from unjam.client.view import row_view

            for job in jobs:
                json_line(row_view(job, around))
            return 0
        rows = [_row(job, around) for job in jobs]
        if not rows:
            say("no jobs" + (" that match" if where != type(where)() else "; try: unjam convert FILE -o DIR"))
            return 0
        table(["ID", "STATE", "DONE", "AGE", "PIPELINE", "NAME", "WHY"], rows, colour_column=1, name_column=5)
        if options["limit"] and len(rows) == options["limit"]:
            say(f"the newest {len(rows)}; -n 0 lists all")
    return 0


@click.command(epilog="Example: unjam show @last")
@click.argument("ident", metavar="ID")
@click.option("--units", is_flag=True, help="Also the units.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_app
def show(app: App, /, ident: str, units: bool, as_json: bool) -> int:
    """Everything about one job or batch (its ID, the beginning of it, or @last)."""
    from unjam.client.ids import resolve
    from unjam.client.view import job_view, row_view
    from unjam.client.waits import look_around

    with app.store() as store:
        target = resolve(store, ident)
        if target.batch_id is None:
            view = job_view(store, target.job_ids[0], units=units)
            if as_json:
                document(view)
            else:
                _show_job(view)
            return 0
        jobs = store.get_many(target.job_ids)
        around = look_around(store)
        counts: dict[str, int] = {}
        for job in jobs:
            counts[job.state] = counts.get(job.state, 0) + 1
        if as_json:
            rows = [row_view(job, around) for job in jobs]
            document({"id": target.batch_id, "states": counts, "jobs": rows})
        else:
            data(f"{target.batch_id}: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}")
            table(
                ["ID", "STATE", "DONE", "AGE", "PIPELINE", "NAME", "WHY"],
                [_row(job, around) for job in jobs],
                colour_column=1,
                name_column=5,
            )
    return 0


@click.command(epilog="Example: unjam watch @last")
@click.argument("idents", nargs=-1, metavar="[ID]...")
@click.option("--json", "as_json", is_flag=True, help="One event a line.")
@pass_app
def watch(app: App, /, idents: tuple[str, ...], as_json: bool) -> int:
    """Follow jobs until they end (default: all that have not). Ctrl+C ends the watching only."""
    from unjam.cli import following
    from unjam.client.ids import resolve_all

    with app.store() as store:
        job_ids = resolve_all(store, idents) if idents else _all_active(store)
        if not job_ids:
            say("nothing to watch: no job is active")
            return 0
        return following.watch(store, job_ids, as_json=as_json)


@click.command(epilog="Example: unjam wait @last --timeout 1h && echo done")
@click.argument("idents", nargs=-1, required=True, metavar="ID...")
@click.option("--timeout", metavar="DUR", help="Give up after this (exit code 6); the jobs go on.")
@pass_app
def wait(app: App, /, idents: tuple[str, ...], timeout: str | None) -> int:
    """Wait until jobs end, silently; the exit code tells how they ended."""
    from unjam.cli import following
    from unjam.client.ids import resolve_all

    with app.store() as store:
        limit = None if timeout is None else parse_duration(timeout)
        return following.watch(store, resolve_all(store, idents), as_json=False, quiet=True, timeout=limit)


def _filter(store: Store, options: dict[str, Any]) -> JobFilter:
    from unjam.client.ids import resolve
    from unjam.store.port import JobFilter

    known = {state.value for state in State}
    for state in options["states"]:
        if state not in known:
            raise UsageError(f"--state {state}: one of {', '.join(sorted(known))}")
    states = frozenset(State(state) for state in options["states"])
    batch_id = None
    if options["batch"] is not None:
        batch_id = resolve(store, options["batch"]).batch_id
        if batch_id is None:
            raise NotFound(f"--batch {options['batch']}: a job, not a batch")
    key, separator, value = (options["tag"] or "").partition("=")
    if options["tag"] is not None and not separator:
        raise UsageError(f"--tag {options['tag']}: write KEY=VALUE")
    return JobFilter(
        states=states or (ACTIVE if options["active"] else frozenset()),
        pipeline=options["pipeline"],
        queue=options["queue"],
        batch_id=batch_id,
        worker_id=options["worker"],
        tag=(key, value) if separator else None,
        text=options["text"],
    )


def _pages(store: Store, where: JobFilter, limit: int) -> Iterator[Job]:
    """All that match, in pages: no statement holds the store for 100,000 rows."""
    cursor, left = None, limit or None
    while page := store.list_jobs(where, limit=min(PAGE, left or PAGE), before_seq=cursor):
        yield from page
        cursor = page[-1].seq
        if left is not None:
            left -= len(page)
            if left <= 0:
                return


def _all_active(store: Store) -> list[str]:
    from unjam.store.port import JobFilter

    return [job.id for job in _pages(store, JobFilter(states=ACTIVE), 0)]


def _row(job: Job, around: Surroundings) -> list[str]:
    now = around.now
    since = job.finished_at or job.started_at or job.created_at
    return [
        job.id,
        _state_text(job, now),
        "" if job.state in (State.QUEUED, State.WAITING) else f"{job.progress * 100:.0f} %",
        show_duration(max(0.0, now - since)),
        job.spec.pipeline,
        job.spec.name,
        _why(job, around),
    ]


def _state_text(job: Job, now: float) -> str:
    # INV-TRUTH: "running" is never shown without the age of its proof.
    if job.state in LIVE and job.heartbeat_at is not None:
        return f"{job.state} (seen {show_duration(max(0.0, now - job.heartbeat_at))} ago)"
    return str(job.state)


def _why(job: Job, around: Surroundings) -> str:
    from unjam.client.waits import next_step

    if job.state in ENDED:
        told = job.reason is not None and job.state not in (State.SUCCEEDED, State.SKIPPED)
        return f"{job.reason.code}: {job.reason.message}" if job.reason and told else ""
    upcoming = next_step(job, around)
    return "" if upcoming is None else upcoming.why


def _show_job(view: dict[str, Any]) -> None:
    state = view["state"]
    phase = f" ({view['phase']})" if view["phase"] else ""
    data(f"{paint(view['id'], 'bold')}  {one_line(view['name'])}")
    for label, value in (
        ("state", f"{state}{phase} {view['progress'] * 100:.0f} %"),
        ("reason", view["reason"] and f"{view['reason']['code']}: {view['reason']['message']}"),
        ("asked for", view["requested"]),
        ("stalled", view["stalled"]),
        ("next", view["next"] and f"{view['next']['action']}: {view['next']['why']}"),
        ("pipeline", f"{view['pipeline']} {view['pipeline_version']}"),
        ("batch", view["batch_id"]),
        ("queue", f"{view['queue']}, priority {view['priority']}"),
        ("worker", view["worker_id"] and _proof(view)),
        ("output", view["output_path"] or view["output_dir"]),
        ("created", view["created_at"]),
        ("started", view["started_at"]),
        ("finished", view["finished_at"]),
    ):
        if value:
            data(f"  {label:<10}{one_line(str(value))}")
    for name, value in view["params"].items():
        if value is not None:
            data(f"  {'param':<10}{name} = {one_line(str(value))}")
    for file in view["inputs"]:
        size = "" if file["size_bytes"] is None else f" ({show_size(file['size_bytes'])})"
        data(f"  {'input':<10}{one_line(file['source'] or file['uri'])}{size}")
    for stage in view["stages"]:
        units = (
            f", units {stage['units']['done']}/{stage['units']['total']}" if stage["units"]["total"] else ""
        )
        how_far = f"{stage['state']} {stage['progress'] * 100:.0f} %{units}"
        data(f"  {'stage':<10}{one_line(stage['name'])}: {how_far}")
    for unit in view.get("units", ()):
        data(f"  {'unit':<10}{one_line(unit['stage'])}/{one_line(unit['name'])}: {unit['state']}")
    for attempt in view["attempts"]:
        data(f"  {'attempt':<10}{_attempt_text(attempt)}")
    for artifact in view["artifacts"]:
        data(f"  {'artifact':<10}{one_line(artifact['path'])} ({show_size(artifact['size_bytes'])})")


def _proof(view: dict[str, Any]) -> str:
    parts = [view["worker_id"]]
    for key, words in (
        ("heartbeat_age_seconds", "heard of {} ago"),
        ("advanced_age_seconds", "advanced {} ago"),
        ("lease_expires_in_seconds", "lease for {} more"),
    ):
        if view[key] is not None:
            parts.append(words.format(show_duration(max(0.0, view[key]))))
    return ", ".join(parts)


def _attempt_text(attempt: dict[str, Any]) -> str:
    text = f"{attempt['number']}: {attempt['state']} on {attempt['host']}"
    if attempt["containment"]:
        text += f", {attempt['containment']}"
    if attempt["units_reused"]:
        text += f", {attempt['units_reused']} units reused"
    if attempt["peak_rss_bytes"]:
        text += f", peak {show_size(attempt['peak_rss_bytes'])}"
    if attempt["reason"]:
        text += f": {attempt['reason']['code']}: {one_line(attempt['reason']['message'])}"
    return text
