"""Every promise, judged after the kills: by the output files, by the ledger the jobs wrote themselves, by the
kernel, and by the event log."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from tests.torture import ledger
from tests.torture.census import name_of
from tests.worker.crew import Crew
from tests.worker.fault_recipes import content
from unjam.jobs.lifecycle import can
from unjam.jobs.records import Event
from unjam.jobs.states import AttemptState, State
from unjam.supervise.sweep import marked_processes
from unjam.worker.garbage import collect


def judge(c: Crew, out: Path, jobs: Mapping[str, set[int]], marks: set[int], unswept: set[str]) -> list[str]:
    """Sentences that begin with a job's id, one for each promise that was broken.

    `jobs`: how many attempts each may have had. `unswept`: jobs that may leave their work to `unjam gc`,
    because their worker was killed between their end and the removal. All workers must have ended.
    """
    found: list[str] = []
    for job_id, attempts in jobs.items():
        found += [f"{job_id}: {told}" for told in _judge_job(c, out, job_id, attempts)]
    reader = ledger.Reader(c.home)
    reader.read()
    verdict = ledger.judge(reader.lines)
    found += verdict.doubled + verdict.redone + verdict.overlaps
    found += _judge_events(c.store.events_since(0, job_ids=list(jobs), limit=100_000))
    found += [f"{held.job.id}: still leased (INV-LOCK)" for held in c.store.live_jobs()]
    found += c.store.check()
    found += _strays(c, out, jobs, unswept)
    for mark in marks:
        left = [f"{pid} {name_of(pid)}" for pid in marked_processes(mark)]
        found += [f"processes left with mark {mark}: {', '.join(left)} (INV-ORPHAN)"] if left else []
    return found


def _judge_job(c: Crew, out: Path, job_id: str, attempts: set[int]) -> list[str]:
    found = []
    job, tried = c.job(job_id), c.store.attempts(job_id)
    if job.state is not State.SUCCEEDED:
        found.append(f"{job.state}, {job.reason} (INV-LOST)")
    if len(tried) not in attempts:
        told = [f"{a.state} {a.reason.message if a.reason else ''}" for a in tried]
        logs = [Path(a.log_path).read_text() for a in tried if a.log_path and os.path.exists(a.log_path)]
        found.append(f"{len(tried)} attempts, not {attempts}: {told}\n{''.join(logs)}")
    if any(a.ended_at is None for a in tried):
        found.append("an attempt has no end (INV-TRUTH)")
    if [a.state for a in tried].count(AttemptState.SUCCEEDED) != 1:
        found.append("not one attempt succeeded (INV-ONCE)")
    for before, after in pairwise(tried):
        if before.ended_at is None or after.started_at is None or before.ended_at > after.started_at:
            found.append(f"attempt {after.number} began before {before.number} had ended (INV-ONCE)")
    path = out / f"{job_id}.txt"
    if not path.exists() or path.read_bytes() != content(job_id):
        found.append("its output is not the whole one (INV-TORN)")
    told_paths = sorted(artifact.path for artifact in c.store.artifacts(job_id))
    if told_paths != [str(path), f"{path}.unjam.json"]:
        found.append(f"artifacts {told_paths} (INV-TRUTH)")
    return found


def _judge_events(events: list[Event]) -> list[str]:
    """The history alone must be a life: an unbroken chain of allowed changes, no word of an older attempt
    after a newer claim, no unit committed twice."""
    found = []
    state: dict[str, State | None] = defaultdict(lambda: None)
    newest: dict[str, int] = defaultdict(int)
    committed: set[tuple[str, str]] = set()
    for event in events:
        job = event.job_id
        assert job is not None, "asked for the events of jobs"
        if event.kind == "claimed":
            newest[job] = max(newest[job], event.attempt or 0)
        if event.attempt is not None and event.attempt < newest[job]:
            found.append(f"{job}: {event.kind} of attempt {event.attempt} after a newer claim (INV-FENCE)")
        if event.kind == "unit_committed":
            unit = (job, str(event.data["unit"]))
            if unit in committed:
                found.append(f"{job}: {unit[1]} committed twice under one plan (INV-KEEP)")
            committed.add(unit)
        if event.kind in ("plan_changed", "units_voided"):
            found.append(f"{job}: {event.kind}, though its plan is the same (INV-KEEP)")
        if event.state_to is not None:
            before = state[job]
            if event.state_from is not before or (before is not None and not can(before, event.state_to)):
                found.append(f"{job}: {event.kind} from {event.state_from}, but it was {before} (INV-TRUTH)")
            state[job] = event.state_to
    return found


def _strays(c: Crew, out: Path, jobs: Iterable[str], unswept: set[str]) -> list[str]:
    wanted = {name for job in jobs for name in (f"{job}.txt", f"{job}.txt.unjam.json")}
    found = [
        f"{path.name}: not wanted in the output folder" for path in out.iterdir() if path.name not in wanted
    ]
    work = c.settings.work_root
    for path in work.iterdir() if work.is_dir() else ():
        if path.name not in unswept:
            found.append(f"{path.name}: its work folder is still there")
    collect(c.store, c.settings)
    if work.is_dir():
        found += [f"{path.name}: its work folder is still there after gc" for path in work.iterdir()]
    run = c.home / "run"
    found += [f"{path.name}: left by a worker" for path in run.iterdir()] if run.is_dir() else []
    return found
