"""Submission: what a user asked for becomes jobs, unless the same work is under way or unfinished."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from unjam.client.ids import new_id, resolve_all
from unjam.client.naming import Destination, as_text, destinations
from unjam.client.owners import runs_now
from unjam.client.results import job_input
from unjam.errors import Conflict, Duplicate, NotPermitted, UsageError
from unjam.jobs.digest import digest_of
from unjam.jobs.lifecycle import ACTIVE, RESUMABLE
from unjam.jobs.model import Budgets, Job, JobLimits, NewBatch, NewJob, Terms, Watcher
from unjam.jobs.reasons import Reason
from unjam.jobs.states import OnExists
from unjam.pipelines import registry
from unjam.pipelines.api import PipelineDef
from unjam.settings import Settings
from unjam.storage.inputs import Expansion, Found, expand, refuse, refuse_address
from unjam.store.port import OnDuplicate, Store

SUPERSEDE_LIMIT = 120.0
"""Seconds that a job which is superseded may take to end."""


class DuplicatePolicy(StrEnum):
    """What to do when a live worker does the same work right now."""

    REFUSE = "refuse"
    RETURN = "return"
    SUPERSEDE = "supersede"


@dataclass(frozen=True, slots=True)
class Submission:
    """What a user asks for. `inputs` as typed, relative to `cwd`; `listed` is what stdin holds for `-`."""

    pipeline: str
    inputs: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    cwd: str = field(default_factory=os.getcwd)
    listed: bytes | None = None
    output_dir: str | None = None
    name_template: str | None = None
    name: str | None = None
    """What people call the job; default: its input's file name."""
    queue: str = "default"
    priority: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    limits: JobLimits = field(default_factory=JobLimits)
    budgets: Budgets = field(default_factory=Budgets)
    on_exists: OnExists = OnExists.FAIL
    on_duplicate: DuplicatePolicy = DuplicatePolicy.REFUSE
    force: bool = False


class Fate(StrEnum):
    """What becomes of one asked-for piece of work."""

    NEW = "new"
    CONTINUED = "continued"
    """An unfinished job that nobody runs: it goes on from its units."""
    RUNNING = "running"
    """A live worker does it already."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One piece of work and what would become of it. `known` is the job that does or did the same work."""

    job: NewJob
    fate: Fate
    known: Job | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a submission would do; nothing is written yet."""

    items: tuple[Planned, ...]
    warnings: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of each piece of work, in the order of the inputs. `refused`: sentence by input name."""

    jobs: tuple[tuple[str, Fate], ...]
    batch_id: str | None
    refused: tuple[tuple[str, Reason], ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def job_ids(self) -> list[str]:
        return [job_id for job_id, _ in self.jobs]


def plan(store: Store, settings: Settings, asked: Submission) -> Plan:
    """Look at the inputs and at the store. Raises what is wrong with the inputs, names or parameters."""
    pipeline = registry.get(asked.pipeline, settings.pipelines)
    params = pipeline.validate(asked.params)
    refuse_address(asked.output_dir or "", "outputs to")
    output_dir = os.path.abspath(os.path.join(asked.cwd, asked.output_dir)) if asked.output_dir else None
    found, waits = _inputs(store, pipeline, pipeline.suffixes(params), asked, output_dir)
    dumped = params.model_dump(mode="json")
    places: Sequence[Destination | None] = [None]
    if found.items:
        places = destinations(
            found.items,
            output_dir=output_dir,
            suffix_of=lambda source: pipeline.output_suffix(params, source),
            template=asked.name_template,
            words={
                "pipeline": pipeline.name,
                **{k: v for k, v in dumped.items() if isinstance(v, str | int)},
            },
        )
    # Several films at once with fewer threads each finish sooner than one after the other with all of them.
    needs = pipeline.needs(params, max(1, settings.slots // max(1, len(places))))
    limits = _merged(asked.limits, pipeline.limits, settings)
    if limits.memory_bytes is not None:
        needs = replace(needs, memory_bytes=limits.memory_bytes)
    base = NewJob(
        id="", pipeline=pipeline.name, pipeline_version=pipeline.version, params=dumped,
        output_dir=output_dir, name=as_text(asked.name or pipeline.name), queue=asked.queue,
        priority=asked.priority, tags=dict(asked.tags),
        after=tuple(resolve_all(store, asked.after)), needs=needs, limits=limits, budgets=asked.budgets,
        on_exists=asked.on_exists, force=asked.force,
    )  # fmt: skip
    jobs = [
        _job(base, item, place, asked.name, waits)
        for item, place in zip(found.items or (None,), places, strict=True)
    ]
    workers = store.workers()
    now = store.now()
    return Plan(
        tuple(_planned(store, job, lambda known: runs_now(known, workers, now)) for job in jobs),
        found.warnings,
        as_text(" ".join([asked.pipeline, *asked.inputs])),
    )


def carry_out(
    store: Store,
    settings: Settings,
    planned: Plan,
    asked: Submission,
    *,
    by: str,
    watcher: Watcher | None = None,
) -> Outcome:
    """Submit what is new, continue what is unfinished. Raises Duplicate when a live worker does any of it
    already and the policy says refuse; nothing is submitted then (INV-DUP). What is continued belongs to
    `watcher` from then on, or to nobody."""
    notes: list[str] = []
    items = [_superseded(store, settings, item, asked, by, notes) for item in planned.items]
    running = [item for item in items if item.fate is Fate.RUNNING]
    if running and asked.on_duplicate is not DuplicatePolicy.RETURN:
        raise _duplicate(running, asked.on_duplicate)
    for item in items:
        _make_folder(item.job)
    fresh = [item for item in items if item.fate is Fate.NEW]
    made, batch_id = _submit(store, [item.job for item in fresh], planned.source, asked)
    answers = dict(zip([item.job.id for item in fresh], made, strict=True))
    jobs: list[tuple[str, Fate]] = []
    refused: list[tuple[str, Reason]] = []
    for item in items:
        if item.known is not None and item.fate is not Fate.NEW:
            if item.fate is Fate.CONTINUED:
                notes.append(_continue(store, item, by, watcher))
            jobs.append((item.known.id, item.fate))
            continue
        answer = answers[item.job.id]
        if isinstance(answer, str):
            jobs.append((answer, Fate.NEW if answer == item.job.id else Fate.RUNNING))
        else:
            refused.append((item.job.name, answer))
    return Outcome(tuple(jobs), batch_id, tuple(refused), tuple(notes), planned.warnings)


def _inputs(
    store: Store,
    pipeline: PipelineDef,
    suffixes: frozenset[str],
    asked: Submission,
    output_dir: str | None,
) -> tuple[Expansion, frozenset[str]]:
    """The inputs, and the jobs among those whose results they are that have to be done first."""
    if not pipeline.takes_input:
        if asked.inputs:
            raise UsageError(f"{pipeline.name} takes no input: {asked.inputs[0]}")
        return Expansion((), ()), frozenset()
    if not asked.inputs:
        raise UsageError(
            f"{pipeline.name} needs an input: a file, a folder, a pattern, or - for a list on stdin"
        )
    plain = [name for name in asked.inputs if not name.startswith("job:")]
    found = expand(
        plain, cwd=asked.cwd, suffixes=suffixes, output_dir=output_dir, listed=asked.listed
    ) if plain else Expansion((), ())  # fmt: skip
    results = [job_input(store, name) for name in asked.inputs if name.startswith("job:")]
    items = (*found.items, *(item for item, _ in results))
    if len(items) == 1:
        # Of many the good ones are done and the bad one becomes a job that says what was wrong with it.
        refuse(items[0])
    if not items:
        raise UsageError("the list on stdin is empty")
    return Expansion(items, found.warnings), frozenset(job_id for _, job_id in results if job_id)


def _merged(asked: JobLimits, own: JobLimits, settings: Settings) -> JobLimits:
    return JobLimits(
        timeout=own.timeout if asked.timeout is None else asked.timeout,
        stall_after=own.stall_after if asked.stall_after is None else asked.stall_after,
        memory_bytes=own.memory_bytes if asked.memory_bytes is None else asked.memory_bytes,
        nice=asked.nice or own.nice or settings.nice,
    )


def _job(
    base: NewJob, item: Found | None, place: Destination | None, name: str | None, waits: frozenset[str]
) -> NewJob:
    upstream = item.file.job_id if item else None
    job = replace(
        base,
        after=tuple(dict.fromkeys([*base.after, *waits.intersection([upstream or ""])])),
        id=new_id("j"),
        inputs=(item.file,) if item else (),
        output_dir=place.folder if place else base.output_dir,
        output_path=place.path if place else None,
        name=as_text(name or (item.file.name if item else base.name)),
    )
    return replace(job, dedupe_key=dedupe_key(job))


def dedupe_key(job: NewJob) -> str:
    """The identity of a piece of work, asked for again: pipeline, inputs, parameters, destination."""
    return digest_of(
        {
            "pipeline": job.pipeline,
            "inputs": [source.uri for source in job.inputs],
            "params": dict(job.params),
            "output": job.output_path or job.output_dir,
        }
    )


def _planned(store: Store, job: NewJob, is_run: Callable[[Job], bool]) -> Planned:
    known = store.find_dedupe(job.dedupe_key or "")
    if known is None:
        return Planned(job, Fate.NEW)
    if known.state in ACTIVE:
        return Planned(job, Fate.RUNNING if is_run(known) else Fate.CONTINUED, known)
    if known.state in RESUMABLE and not job.force and _same_terms(known.spec, job):
        return Planned(job, Fate.CONTINUED, known)
    return Planned(job, Fate.NEW, known)


def _same_terms(known: NewJob, job: NewJob) -> bool:
    """Would a resumed job run on the terms now asked for? It takes over limits and priority; for other terms
    a new one is made."""
    return (known.pipeline_version, known.on_exists, known.queue) == (
        job.pipeline_version,
        job.on_exists,
        job.queue,
    )


def _superseded(
    store: Store, settings: Settings, item: Planned, asked: Submission, by: str, notes: list[str]
) -> Planned:
    """`supersede` cancels a stalled job, and with --force any active one, and takes its place when its
    processes are gone (INV-ONCE)."""
    known = item.known
    if known is None or known.state not in ACTIVE:
        return item
    if asked.on_duplicate is DuplicatePolicy.SUPERSEDE and (asked.force or known.stalled):
        from unjam.client.actions import cancel
        from unjam.client.follow import wait_for

        cancel(store, settings, [known.id], by=f"{by} for {item.job.id}, which supersedes it")
        try:
            [ended] = wait_for(store, [known.id], timeout=SUPERSEDE_LIMIT)
        except TimeoutError as error:
            raise Conflict(
                f"{item.job.name}: {known.id} was asked to end and did not within {SUPERSEDE_LIMIT:g} s; "
                f"see `unjam show {known.id}`"
            ) from error
        notes.append(f"{item.job.name}: {item.job.id} takes the place of {known.id}, which is {ended.state}")
        return Planned(item.job, Fate.NEW)
    if asked.force:
        raise Duplicate(
            f"{item.job.name}: {known.id} is {known.state} and is not run over by --force; "
            f"cancel it first, or add --on-duplicate supersede",
            known.id,
        )
    return item


def _duplicate(running: Sequence[Planned], policy: DuplicatePolicy) -> Duplicate:
    first = running[0]
    job_id = first.known.id if first.known else ""
    more = f" (and {len(running) - 1} more)" if len(running) > 1 else ""
    way_out = "or say --on-duplicate return or supersede"
    if policy is DuplicatePolicy.SUPERSEDE:
        way_out = "it is not stalled; add --force to take its place all the same"
    return Duplicate(
        f"{first.job.name}: {job_id} does this already{more}; follow it with `unjam watch {job_id}`, "
        f"{way_out}",
        job_id,
    )


def _make_folder(job: NewJob) -> None:
    if job.output_dir is None:
        return
    if os.path.lexists(job.output_dir) and not os.path.isdir(job.output_dir):
        raise NotPermitted(f"{job.output_dir}: is a file, not a folder; choose another with -o")
    try:
        os.makedirs(job.output_dir, exist_ok=True)
    except OSError as error:
        raise NotPermitted(
            f"{job.output_dir}: the output folder cannot be made: {error.strerror}; choose another with -o"
        ) from error
    if not os.access(job.output_dir, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise NotPermitted(
            f"{job.output_dir}: the output folder may not be written to; choose another with -o"
        )


def _submit(
    store: Store, jobs: Sequence[NewJob], source: str, asked: Submission
) -> tuple[list[str | Reason], str | None]:
    if not jobs:
        return [], None
    policy = OnDuplicate.RETURN if asked.on_duplicate is DuplicatePolicy.RETURN else OnDuplicate.REFUSE
    if len(jobs) == 1:
        return [store.submit(jobs[0], on_duplicate=policy).job_id], None
    batch = NewBatch(new_id("b"), source)
    answers = store.submit_many(jobs, batch=batch, on_duplicate=policy)
    return [answer if isinstance(answer, Reason) else answer.job_id for answer in answers], batch.id


def _continue(store: Store, item: Planned, by: str, watcher: Watcher | None) -> str:
    assert item.known is not None
    known = item.known
    # Counted before: a job that is claimed at once would show units of its new attempt.
    done = sum(stage.units_done for stage in store.stages(known.id))
    new = Terms(item.job.inputs, item.job.limits, item.job.priority)
    store.resume([known.id], by=by, fresh_budgets=True, terms={known.id: new}, watcher=watcher)
    terms = ""
    if not _same_terms(known.spec, item.job):
        terms = (
            f" (on the terms it was submitted with; `unjam cancel {known.id}` first makes room for others)"
        )
    return f"{item.job.name}: continuing {known.id} from {done} finished unit{'s' * (done != 1)}{terms}"
