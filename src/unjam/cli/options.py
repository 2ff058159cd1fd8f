"""The options that run, exec and the short forms share, and the submission that they describe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unjam.errors import UsageError
from unjam.jobs.model import Budgets, JobLimits
from unjam.jobs.states import OnExists
from unjam.measures import parse_duration, parse_size

if TYPE_CHECKING:
    from unjam.client.submit import Submission

Command = TypeVar("Command", bound=Callable[..., Any])

LIMITS = (
    click.option("--timeout", metavar="DUR", help="Limit of one attempt: 90s, 5m, 2h."),
    click.option("--stall-after", metavar="DUR", help="End an attempt that does not advance for so long."),
    click.option("--memory", metavar="SIZE", help="Limit of the whole process tree: 512MiB, 4GB."),
)
GENERAL = (
    click.option("--detach", is_flag=True, help="Return as soon as the jobs are stored."),
    click.option("--wait", "wait_only", is_flag=True, help="Wait without showing progress."),
    click.option("--json", "as_json", is_flag=True, help="One event a line on stdout."),
    click.option("-j", "slots", type=click.IntRange(1), help="CPU slots of the worker that is started here."),
    click.option("--queue", default="default", show_default=True),
    click.option("--priority", type=int, default=0, show_default=True, help="Higher is first."),
    click.option("--after", multiple=True, metavar="ID", help="Start when this job or batch has succeeded."),
    *LIMITS,
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
FILES = (
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


def submission(
    pipeline: str,
    inputs: tuple[str, ...],
    params: Mapping[str, Any],
    options: Mapping[str, Any],
    name: str | None,
) -> Submission:
    """What the options of a submitting command ask for. Reads the list on stdin where `-` is an input."""
    from unjam.client.submit import DuplicatePolicy, Submission

    retries = options["retries"]
    budgets = Budgets()
    if retries is not None:
        budgets = replace(budgets, failures=retries + 1, crashes=retries + 1)
    return Submission(
        pipeline=pipeline,
        inputs=inputs,
        params={**pairs(options.get("pairs", ()), "-p"), **params},
        listed=sys.stdin.buffer.read() if "-" in inputs else None,
        output_dir=options.get("output_dir"),
        name_template=options.get("name_template"),
        name=name,
        queue=options["queue"],
        priority=options["priority"],
        tags=pairs(options["tags"], "--tag"),
        after=options["after"],
        limits=JobLimits(
            timeout=positive(options["timeout"], "--timeout"),
            stall_after=positive(options["stall_after"], "--stall-after"),
            memory_bytes=size(options["memory"]),
        ),
        budgets=budgets,
        on_exists=OnExists(options.get("on_exists", OnExists.FAIL)),
        on_duplicate=DuplicatePolicy(options["on_duplicate"]),
        force=options["force"],
    )


def positive(text: str | None, option: str) -> float | None:
    """Seconds of a duration that is more than 0. Raises UsageError."""
    if text is None:
        return None
    seconds = parse_duration(text)
    if seconds <= 0:
        raise UsageError(f"{option} {text}: must be more than 0")
    return seconds


def size(text: str | None) -> int | None:
    """Bytes of a size like 4GB."""
    return None if text is None else parse_size(text)


def pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE, several times. Raises UsageError."""
    result = {}
    for pair in given:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{option} {pair}: write KEY=VALUE")
        result[key] = value
    return result
