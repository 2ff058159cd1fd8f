"""What nobody needs any more: work of jobs done or gone, staged files of dead attempts, old logs and rows."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unjam.jobs.model import LIVE, Job, State
from unjam.settings import Settings
from unjam.storage.staging import parts_in
from unjam.store.port import JobFilter, Store
from unjam.worker.paths import remove

PAGE = 500
DAY = 86400.0
KEEPS_UNITS = frozenset(set(State) - {State.SUCCEEDED, State.SKIPPED})
"""Jobs that may go on from their units: unfinished ones, and failed or cancelled ones until removed."""


@dataclass(slots=True)
class GarbageReport:
    """What was removed, or with `dry_run` what would be."""

    work: list[Path] = field(default_factory=list)
    staged: list[Path] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    sockets: list[Path] = field(default_factory=list)
    """Wake-up sockets of workers that died before the store knew them."""
    jobs: list[str] = field(default_factory=list)
    freed_bytes: int = 0


def collect(store: Store, settings: Settings, *, dry_run: bool = False) -> GarbageReport:
    """Safe beside running workers: nothing of a live attempt is touched."""
    report = GarbageReport()
    if not dry_run:
        report.jobs = _prune(store, settings)
    jobs = {job.id: job for job in _all_jobs(store)}
    for folder in _children(settings.work_root):
        job = jobs.get(folder.name)
        if job is None or job.state not in KEEPS_UNITS:
            report.work.append(folder)
        else:
            report.work += _void_attempts(store, folder, job)
    for output_dir in sorted({j.spec.output_dir for j in jobs.values() if j.spec.output_dir}):
        for part, owner, fence in parts_in(Path(output_dir)):
            known = jobs.get(owner)
            if known is None or known.state not in LIVE or fence < known.fence:
                report.staged.append(part)
    report.logs = [
        folder for folder in _children(settings.log_root) if folder.is_dir() and folder.name not in jobs
    ]
    report.sockets = [path for path in sorted((settings.home / "run").glob("*.wake")) if _deaf(path)]
    for path in (*report.work, *report.staged, *report.logs, *report.sockets):
        report.freed_bytes += _size(path)
        if not dry_run:
            remove(path)
    return report


def _void_attempts(store: Store, folder: Path, job: Job) -> Iterator[Path]:
    """Files in the folders of attempts that are over which no committed unit names."""
    kept = {unit.uri for unit in store.units(job.id) if unit.uri}
    for attempt in _children(folder):
        fence = int(attempt.name[1:]) if attempt.name[1:].isdigit() else -1
        if job.state in LIVE and fence >= job.fence:
            continue
        files = [Path(root) / name for root, _, names in os.walk(attempt) for name in names]
        if not any(str(f) in kept for f in files):
            yield attempt
        else:
            yield from (f for f in files if str(f) not in kept)


def _deaf(path: Path) -> bool:
    """Is nobody bound to this socket any more? The kernel says so, whatever the store knows."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False  # gone meanwhile, or not ours to ask
    return False


def _prune(store: Store, settings: Settings) -> list[str]:
    removed: list[str] = []
    before = store.now() - settings.keep_finished_days * DAY
    while batch := store.prune(ended_before=before):
        removed += batch
    return removed


def _all_jobs(store: Store) -> Iterator[Job]:
    cursor: int | None = None
    while page := store.list_jobs(JobFilter(), limit=PAGE, before_seq=cursor):
        yield from page
        cursor = page[-1].seq


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    try:
        if not path.is_dir():
            return path.lstat().st_size
        return sum(f.lstat().st_size for f in path.rglob("*") if f.is_file())
    except FileNotFoundError:
        return 0  # its owner was faster
