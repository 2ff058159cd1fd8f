"""run, convert, exec: submit work and follow it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click

from unjam.cli.app import App, pass_app
from unjam.cli.output import data, data_name, document, json_line, say
from unjam.errors import Duplicate, UsageError
from unjam.jobs.lifecycle import LIVE
from unjam.jobs.model import Budgets, JobLimits, OnExists
from unjam.measures import parse_duration, parse_size
from unjam.printable import one_line

if TYPE_CHECKING:
    from unjam.client.submit import Outcome, Plan, Submission
    from unjam.jobs.model import Job
    from unjam.store.port import Store

Command = TypeVar("Command", bound=Callable[..., Any])

_GENERAL = (
    click.option("--detach", is_flag=True, help="Return as soon as the jobs are stored."),
    click.option("--wait", "wait_only", is_flag=True, help="Wait without showing progress."),
    click.option("--json", "as_json", is_flag=True, help="One event a line on stdout."),
    click.option("-j", "slots", type=click.IntRange(1), help="CPU slots of the worker that is started here."),
    click.option("--queue", default="default", show_default=True),
    click.option("--priority", type=int, default=0, show_default=True, help="Higher is first."),
    click.option("--after", multiple=True, metavar="ID", help="Start when this job or batch has succeeded."),
    click.option("--timeout", metavar="DUR", help="Limit of one attempt: 90s, 5m, 2h."),
    click.option("--stall-after", metavar="DUR", help="End an attempt that does not advance for so long."),
    click.option("--memory", metavar="SIZE", help="Limit of the whole process tree: 512MiB, 4GB."),
    click.option(
        "--retry", "retries", type=click.IntRange(0), help="Tries again after a failure of its own."
    ),
    click.option("--tag", "tags", multiple=True, metavar="K=V", help="For `unjam ls --tag`."),
    click.option(
        "--on-duplicate",
        type=click.Choice(["refuse", "return", "supersede"]),
        default="refuse",
        show_default=True,
        help="When a live worker does the same work: refuse, follow it, or take over if it is stalled.",
    ),
    click.option("--force", is_flag=True, help="Do it even if it was done already."),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
)
_FILES = (
    click.option(
        "-o", "--output", "output_dir", metavar="DIR", help="Where outputs go; default: beside the input."
    ),
    click.option(
        "-p", "--param", "pairs", multiple=True, metavar="KEY=VALUE", help="A parameter of the pipeline."
    ),
    click.option(
        "--on-exists",
        type=click.Choice([e.value for e in OnExists]),
        default=OnExists.FAIL.value,
        show_default=True,
        help="When the output name is taken by something else.",
    ),
    click.option(
        "--name-template",
        metavar="T",
        help="Output names: {stem} {ext} {name} {source_ext} {index} {pipeline}.",
    ),
)


def with_options(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Several click options at once, in the order they are listed."""

    def apply(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


@click.command(epilog="Example: unjam run convert film.mov clips/ -o out -p preset=mp4")
@click.argument("pipeline")
@click.argument("inputs", nargs=-1)
@with_options(_FILES)
@with_options(_GENERAL)
@pass_app
def run(app: App, /, pipeline: str, inputs: tuple[str, ...], **options: Any) -> int:
    """Submit PIPELINE for each INPUT (files, folders, patterns, job:ID/ARTIFACT, or - for a list on stdin)
    and follow the jobs until they end. The same command again continues what is unfinished."""
    return submit_and_follow(app, pipeline, inputs, {}, options)


class PipelineCommand(click.Command):
    """The short form of one pipeline: its parameters are options. Read from the pipeline when called."""

    def __init__(self, pipeline: str, **more: Any) -> None:
        self._pipeline = pipeline
        super().__init__(pipeline, **more)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        taken = {param.name for param in own}
        extra = [option for option in self._own_options() if option.name not in taken]
        # After the inputs and -o, which everybody needs, and before what all pipelines share.
        return [*own[:2], *extra, *own[2:]]

    def _own_options(self) -> list[click.Parameter]:
        from pydantic_core import PydanticUndefined

        from unjam.pipelines import registry

        fields = registry.get(self._pipeline).params.model_fields
        return [
            click.Option(
                [f"--{name.replace('_', '-')}", f"param_{name}"],
                metavar=_metavar(field.annotation),
                help=(field.description or name)
                + ("" if field.default in (None, PydanticUndefined) else f" [default: {field.default}]"),
            )
            for name, field in fields.items()
        ]


def _metavar(kind: Any) -> str:
    """What may be written, as far as the type says it: `mp4|remux`, INTEGER, NUMBER."""
    for part in (kind, *get_args(kind)):
        if get_origin(part) is Literal:
            return "|".join(str(value) for value in get_args(part))
        if part in (int, float):
            return "INTEGER" if part is int else "NUMBER"
    return "VALUE"


def _short_form(pipeline: str, summary: str, example: str) -> PipelineCommand:
    @click.pass_context
    def callback(ctx: click.Context, /, inputs: tuple[str, ...], **options: Any) -> int:
        own = {
            name.removeprefix("param_"): options.pop(name)
            for name in list(options)
            if name.startswith("param_")
        }
        given = {name: value for name, value in own.items() if value is not None}
        return submit_and_follow(ctx.find_object(App) or App({}), pipeline, inputs, given, options)

    decorated = with_options(_FILES)(with_options(_GENERAL)(callback))
    params = list(reversed(getattr(decorated, "__click_params__", [])))
    argument = click.Argument(["inputs"], nargs=-1)
    return PipelineCommand(
        pipeline, callback=decorated, params=[argument, *params], help=summary, epilog=example
    )


convert = _short_form(
    "convert",
    "Convert each INPUT (files, folders, patterns, or - for a list on stdin).",
    "Example: unjam convert holiday.mov clips/ -o out --preset mp4",
)


@click.command(
    "exec",
    epilog="Example: unjam exec --timeout 10m --retry 2 -- rsync -a photos/ backup/",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", help="What to call it in lists; default: the command.")
@click.option("--cwd", metavar="DIR", help="Folder to run it in; default: this one.")
@click.option("--env", "env_pairs", multiple=True, metavar="K=V", help="A variable for it.")
@with_options(_GENERAL)
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
        "env": _pairs(env_pairs, "--env"),
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
    from unjam.client.handover import hand_over
    from unjam.client.submit import carry_out, plan

    asked = _submission(pipeline, inputs, params, options, name)
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
        outcome = carry_out(store, planned, asked, by=who())
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
            cursor=cursor,
            as_json=options["as_json"],
            quiet=options["wait_only"],
            slots=options["slots"],
            refused=len(outcome.refused),
            guests=[job_id for job_id, fate in outcome.jobs if fate == "running"],
        )


def _submission(
    pipeline: str,
    inputs: tuple[str, ...],
    params: Mapping[str, Any],
    options: Mapping[str, Any],
    name: str | None,
) -> Submission:
    from unjam.client.submit import DuplicatePolicy, Submission

    retries = options["retries"]
    budgets = Budgets()
    if retries is not None:
        budgets = replace(budgets, failures=retries + 1, crashes=retries + 1)
    return Submission(
        pipeline=pipeline,
        inputs=inputs,
        params={**_pairs(options.get("pairs", ()), "-p"), **params},
        listed=sys.stdin.buffer.read() if "-" in inputs else None,
        output_dir=options.get("output_dir"),
        name_template=options.get("name_template"),
        name=name,
        queue=options["queue"],
        priority=options["priority"],
        tags=_pairs(options["tags"], "--tag"),
        after=options["after"],
        limits=JobLimits(
            timeout=_positive(options["timeout"], "--timeout"),
            stall_after=_positive(options["stall_after"], "--stall-after"),
            memory_bytes=None if options["memory"] is None else parse_size(options["memory"]),
        ),
        budgets=budgets,
        on_exists=OnExists(options.get("on_exists", OnExists.FAIL)),
        on_duplicate=DuplicatePolicy(options["on_duplicate"]),
        force=options["force"],
    )


def _positive(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    seconds = parse_duration(text)
    if seconds <= 0:
        raise UsageError(f"{option} {text}: must be more than 0")
    return seconds


def _pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    result = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{option} {pair}: write KEY=VALUE")
        result[key] = value
    return result


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


def say_if_nobody_takes(store: Store, job: Job) -> None:
    """A warning when nothing will happen to this job by itself."""
    from unjam.client.owners import live, suitable

    workers, now = store.workers(), store.now()
    if not suitable(workers, job, now):
        what = "no worker is running" if not live(workers, now) else "no running worker takes such jobs"
        say(f"no_worker: {what}: the jobs wait until one is started with `unjam worker`")
