"""cancel, pause, resume, retry, rm: acting on jobs that exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from unjam.cli.app import App, pass_app
from unjam.cli.output import data, json_line, say
from unjam.errors import Conflict
from unjam.jobs.lifecycle import ACTIVE, LIVE
from unjam.jobs.model import Request, State

if TYPE_CHECKING:
    from unjam.store.port import RequestOutcome, Store

idents_argument = click.argument("idents", nargs=-1, required=True, metavar="ID...")
json_option = click.option("--json", "as_json", is_flag=True, help="One object a line.")
attach_options = (
    click.option("--detach", is_flag=True, help="Return at once instead of following."),
    click.option("-j", "slots", type=click.IntRange(1), help="CPU slots of the worker that is started here."),
)


@click.command(epilog="Example: unjam cancel @last --wait")
@idents_argument
@click.option("--now", is_flag=True, help="Kill at once instead of TERM and grace (jobs on this machine).")
@click.option("--wait", "wait_for_end", is_flag=True, help="Return when their processes are gone.")
@json_option
@pass_app
def cancel(app: App, /, idents: tuple[str, ...], now: bool, wait_for_end: bool, as_json: bool) -> int:
    """End jobs: TERM, grace, KILL. Finished units are kept until `unjam gc`, so that resume goes on."""
    from unjam.client import actions
    from unjam.client.api import who
    from unjam.client.follow import wait_for

    with app.store() as store:
        job_ids = _resolved(store, idents)
        outcomes = actions.cancel(store, app.settings, job_ids, by=who())
        going = [o.job_id for o in outcomes if o.state in LIVE]
        if now and going:
            actions.kill_now(store, going)
        if wait_for_end and going:
            wait_for(store, going)
            outcomes = _reread(store, outcomes)
        return _told(outcomes, {State.CANCELLED, State.CANCELLING}, "cancelled", as_json=as_json)


@click.command(epilog="Example: unjam pause @last")
@idents_argument
@json_option
@pass_app
def pause(app: App, /, idents: tuple[str, ...], as_json: bool) -> int:
    """Stop jobs at their next finished unit (or after the grace); they hold no slot until resumed."""
    from unjam.client import actions
    from unjam.client.api import who

    with app.store() as store:
        outcomes = actions.pause(store, _resolved(store, idents), by=who())
        return _told(outcomes, {State.PAUSED, State.RUNNING}, "paused", as_json=as_json)


@click.command(epilog="Example: unjam resume @last")
@idents_argument
@click.option("--json", "as_json", is_flag=True, help="One event a line on stdout.")
@attach_options[0]
@attach_options[1]
@pass_app
def resume(app: App, /, idents: tuple[str, ...], as_json: bool, detach: bool, slots: int | None) -> int:
    """Go on with paused, failed or cancelled jobs from their finished units, and follow them; a job that runs
    is followed as it is."""
    from unjam.client import actions
    from unjam.client.api import who
    from unjam.client.handover import hand_over

    with app.store() as store:
        cursor = store.last_event_id()
        job_ids = _resolved(store, idents)
        pausing = [job.id for job in store.get_many(job_ids) if job.requested is Request.PAUSE]
        if pausing:
            # Asked to pause a moment ago: it goes on once it has, and does not stop under whoever resumed it.
            hand_over(store, app.settings, pausing, say)
        outcomes = actions.resume(store, job_ids, by=who())
        return _go_on(app, store, outcomes, cursor, as_json=as_json, detach=detach, slots=slots)


@click.command(epilog="Example: unjam retry @last --failed")
@idents_argument
@click.option("--failed", is_flag=True, help="Only the failed jobs of a batch.")
@click.option("--fresh", is_flag=True, help="Forget the finished units and begin anew.")
@click.option("--unit", "units", multiple=True, metavar="NAME", help="Do these units anew.")
@click.option("--json", "as_json", is_flag=True, help="One event a line on stdout.")
@attach_options[0]
@attach_options[1]
@pass_app
def retry(
    app: App, /, idents: tuple[str, ...], failed: bool, fresh: bool, units: tuple[str, ...], **options: Any
) -> int:
    """Like resume, with fresh budgets: for jobs that failed too often."""
    from unjam.client import actions
    from unjam.client.api import who

    with app.store() as store:
        cursor = store.last_event_id()
        job_ids = _resolved(store, idents)
        outcomes = actions.retry(
            store, job_ids, by=who(), only_failed=failed, fresh=fresh, units=units or None
        )
        return _go_on(app, store, outcomes, cursor, **options)


@click.command(epilog="Example: unjam rm @last")
@idents_argument
@json_option
@pass_app
def rm(app: App, /, idents: tuple[str, ...], as_json: bool) -> int:
    """Forget ended jobs with their logs and unfinished work; their outputs stay."""
    from unjam.client import actions

    with app.store() as store:
        removed = actions.remove(store, app.settings, _resolved(store, idents))
    for job_id in removed:
        if as_json:
            json_line({"id": job_id, "removed": True})
        else:
            data(f"{job_id} removed")
    return 0


def _resolved(store: Store, idents: Sequence[str]) -> list[str]:
    from unjam.client.ids import resolve_all

    return resolve_all(store, idents)


def _reread(store: Store, outcomes: Sequence[RequestOutcome]) -> list[RequestOutcome]:
    from dataclasses import replace

    states = {job.id: job.state for job in store.get_many([o.job_id for o in outcomes])}
    return [replace(o, state=states.get(o.job_id, o.state)) for o in outcomes]


def _told(outcomes: Sequence[RequestOutcome], wanted: set[State], word: str, *, as_json: bool) -> int:
    """One line for each; conflict when none of them is where it should be or on the way there."""
    for outcome in outcomes:
        if as_json:
            json_line({"id": outcome.job_id, "state": outcome.state, "changed": outcome.changed})
        elif outcome.changed and outcome.state in LIVE:
            data(f"{outcome.job_id} {outcome.state}: {word} when its processes are gone")
        elif outcome.changed or outcome.state in wanted:
            data(f"{outcome.job_id} {outcome.state}")
        else:
            data(f"{outcome.job_id} is {outcome.state} and cannot be {word} any more")
    if any(o.changed or o.state in wanted for o in outcomes):
        return 0
    raise Conflict(f"nothing was {word}")


def _go_on(
    app: App,
    store: Store,
    outcomes: Sequence[RequestOutcome],
    cursor: int,
    *,
    as_json: bool,
    detach: bool,
    slots: int | None,
) -> int:
    ids = [o.job_id for o in outcomes if o.state in ACTIVE]
    for outcome in outcomes:
        if outcome.state not in ACTIVE:
            say(f"{outcome.job_id} is {outcome.state}: nothing to go on with")
        elif not as_json:
            say(f"{outcome.job_id} {'goes on' if outcome.changed else f'is {outcome.state}'}")
    if not ids:
        raise Conflict("nothing to go on with; finished work is done anew by `unjam run --force`")
    if detach:
        from unjam.cli.run import say_if_nobody_takes

        if (first := store.get(ids[0])) is not None:
            say_if_nobody_takes(store, first)
        return 0
    from unjam.cli.following import run_attached

    return run_attached(store, app.settings, ids, cursor=cursor, as_json=as_json, slots=slots)
