"""cancel, pause, resume, retry, rm: acting on jobs that exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from unjam.cli.app import App, pass_app
from unjam.cli.options import LIMITS, positive, size, with_options
from unjam.cli.output import data, json_line, say
from unjam.cli.waiting import say_if_nobody_takes
from unjam.errors import Conflict
from unjam.jobs.lifecycle import ACTIVE, LIVE
from unjam.jobs.states import State

if TYPE_CHECKING:
    from unjam.client.actions import Changes
    from unjam.jobs.model import Watcher
    from unjam.store.port import RequestOutcome, Store

idents_argument = click.argument("idents", nargs=-1, required=True, metavar="ID...")
json_option = click.option("--json", "as_json", is_flag=True, help="One object a line.")
_GO_ON = (
    click.option("--json", "as_json", is_flag=True, help="One event a line on stdout."),
    click.option("--detach", is_flag=True, help="Return at once instead of following."),
    click.option("-j", "slots", type=click.IntRange(1), help="CPU slots of the worker that is started here."),
    click.option("--priority", type=int, help="Another priority; higher is first."),
    *LIMITS,
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


@click.command(epilog="Example: unjam resume @last --timeout 2h")
@idents_argument
@with_options(_GO_ON)
@pass_app
def resume(app: App, /, idents: tuple[str, ...], **options: Any) -> int:
    """Go on with paused, failed or cancelled jobs from their finished units, and follow them; a job that runs
    is followed as it is, and if it was asked to pause it does not. Limits and priority can be changed."""
    from unjam.client import actions

    changes = _changes(options)

    def act(store: Store, job_ids: list[str], by: str, watcher: Watcher | None) -> list[RequestOutcome]:
        return actions.resume(store, job_ids, by=by, changes=changes, watcher=watcher)

    return _go_on(app, idents, act, changes, options)


@click.command(epilog="Example: unjam retry @last --failed")
@idents_argument
@click.option("--failed", is_flag=True, help="Only the failed jobs of a batch.")
@click.option("--fresh", is_flag=True, help="Forget the finished units and begin anew.")
@click.option("--unit", "units", multiple=True, metavar="NAME", help="Do these units anew.")
@with_options(_GO_ON)
@pass_app
def retry(
    app: App, /, idents: tuple[str, ...], failed: bool, fresh: bool, units: tuple[str, ...], **options: Any
) -> int:
    """Like resume, with fresh budgets: for jobs that failed too often."""
    from unjam.client import actions

    changes = _changes(options)

    def act(store: Store, job_ids: list[str], by: str, watcher: Watcher | None) -> list[RequestOutcome]:
        return actions.retry(
            store,
            job_ids,
            by=by,
            only_failed=failed,
            fresh=fresh,
            units=units or None,
            changes=changes,
            watcher=watcher,
        )

    return _go_on(app, idents, act, changes, options)


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
        elif outcome.publishing:
            data(f"{outcome.job_id} is publishing: it ends by itself, and cannot be {word} any more")
        elif outcome.changed and outcome.state in LIVE:
            data(f"{outcome.job_id} {outcome.state}: {word} when its processes are gone")
        elif outcome.changed or outcome.state in wanted:
            data(f"{outcome.job_id} {outcome.state}")
        else:
            data(f"{outcome.job_id} is {outcome.state} and cannot be {word} any more")
    if any(o.changed or (o.state in wanted and not o.publishing) for o in outcomes):
        return 0
    raise Conflict(f"nothing was {word}")


def _changes(options: Mapping[str, Any]) -> Changes:
    from unjam.client.actions import Changes

    return Changes(
        timeout=positive(options["timeout"], "--timeout"),
        stall_after=positive(options["stall_after"], "--stall-after"),
        memory_bytes=size(options["memory"]),
        priority=options["priority"],
    )


def _go_on(
    app: App,
    idents: Sequence[str],
    act: Callable[[Store, list[str], str, Watcher | None], list[RequestOutcome]],
    changes: Changes,
    options: Mapping[str, Any],
) -> int:
    """Resume or retry, tell what became of each, and follow what goes on."""
    # Loaded before anything is changed: between that and the watching lies no moment for a Ctrl+C.
    from unjam.cli.following import run_attached
    from unjam.client.actions import Changes
    from unjam.client.api import who
    from unjam.client.attach import Attachment

    with app.store() as store:
        cursor = store.last_event_id()
        attachment = Attachment(store, ttl=app.settings.attach_ttl)
        watcher = None if options["detach"] else attachment.watcher
        outcomes = act(store, _resolved(store, idents), who(), watcher)
        for outcome in outcomes:
            _say_goes_on(store, outcome, as_json=options["as_json"])
            if outcome.state in LIVE and changes != Changes():
                say(f"{outcome.job_id} runs: its limits stay until it is paused and resumed")
        going = [o.job_id for o in outcomes if o.state in ACTIVE]
        ids = list(dict.fromkeys([*going, *(job_id for o in outcomes for job_id in o.revived)]))
        if not ids:
            raise Conflict("nothing to go on with; finished work is done anew by `unjam run --force`")
        if options["detach"]:
            if (first := store.get(ids[0])) is not None:
                say_if_nobody_takes(store, first)
            return 0
        return run_attached(
            store,
            app.settings,
            ids,
            attachment,
            cursor=cursor,
            as_json=options["as_json"],
            slots=options["slots"],
        )


def _say_goes_on(store: Store, outcome: RequestOutcome, *, as_json: bool) -> None:
    if outcome.changed and outcome.state is State.FAILED:
        # Resumed, and failed again at once: what it waits for has failed.
        job = store.get(outcome.job_id)
        why = job.reason.message if job is not None and job.reason is not None else "it waits for another job"
        say(f"{outcome.job_id} cannot go on: {why}. Resume that one, if it is still there: this goes with it")
    elif outcome.state not in ACTIVE:
        say(f"{outcome.job_id} is {outcome.state}: nothing to go on with")
    elif not as_json:
        say(f"{outcome.job_id} {'goes on' if outcome.changed else f'is {outcome.state}'}")
        if outcome.revived:
            say(f"and with it {', '.join(outcome.revived)}: failed because of it before")
