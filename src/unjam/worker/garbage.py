"""What nobody needs any more: work of jobs done or gone, staged files of dead attempts, old logs and rows."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unjam.errors import Conflict
from unjam.jobs.model import Job
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import ENDED, LIVE, State
from unjam.settings import Settings
from unjam.storage.staging import parts_in
from unjam.store.port import JobFilter, Store
from unjam.worker.paths import remove

ATTACHED_LOG = re.compile(r"worker-attached-(\d+)\.log")
"""What a `run` calls the log of its own worker, by the number of its keeper."""
PAGE = 500
DAY = 86400.0
KEEPS_UNITS = frozenset(set(State) - {State.SUCCEEDED, State.SKIPPED})
"""Jobs that may go on from their units: unfinished ones, and failed ones until they are removed."""


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
    left: list[str] = field(default_factory=list)
    """Sentences about what could not be looked at or removed."""


def collect(store: Store, settings: Settings, *, dry_run: bool = False) -> GarbageReport:
    """Safe beside running workers: nothing of a live attempt is touched.

    Files are listed before their job is looked up. The other way round an attempt that began in between would
    be taken for one that nobody knows (INV-KEEP).
    """
    report = GarbageReport()
    if not dry_run:
        report.jobs = _prune(store, settings)
    for folder in _children(settings.work_root):
        report.work += _spare_work(store, folder, dry_run=dry_run)
    log_folders = [folder for folder in _children(settings.log_root) if folder.is_dir()]
    known, output_dirs = set[str](), set[str]()
    for job in _all_jobs(store):  # 300,000 may be there: no more is kept of them than this
        known.add(job.id)
        if job.spec.output_dir is not None:
            output_dirs.add(job.spec.output_dir)
    report.logs = [folder for folder in log_folders if folder.name not in known]
    report.logs += [path for path in _children(settings.log_root) if _left_by_a_run(path)]
    for output_dir in sorted(output_dirs):
        try:
            report.staged += _spare_parts(store, Path(output_dir))
        except OSError as error:
            report.left.append(f"{output_dir}: {error.strerror}")
    report.sockets = [path for path in sorted((settings.home / "run").glob("*.wake")) if _deaf(path)]
    for path in (*report.work, *report.staged, *report.logs, *report.sockets):
        size = _size(path)
        try:
            if not dry_run:
                remove(path)
        except OSError as error:
            report.left.append(f"{path}: {error.strerror}")
        else:
            report.freed_bytes += size
    if not dry_run:
        _remove_empty(store, settings.work_root)
    return report


def _spare_parts(store: Store, folder: Path) -> list[Path]:
    """Staged files in an output folder that nobody will publish."""
    spare = []
    for part, owner, fence in parts_in(folder):
        known = store.get(owner)
        if known is None or known.state not in LIVE or fence < known.fence:
            spare.append(part)
    return spare


def _spare_work(store: Store, folder: Path, *, dry_run: bool) -> list[Path]:
    """What of a job's work folder nobody will go on from."""
    files = {
        attempt: [Path(root) / name for root, _, names in os.walk(attempt) for name in names]
        for attempt in _children(folder)
    }
    job = store.get(folder.name)
    if job is None or job.state not in KEEPS_UNITS:
        return [folder]
    over = [attempt for attempt in files if job.state not in LIVE or _fence(attempt) < job.fence]
    if _spent(job):
        return over if dry_run or _forget_units(store, job) else []
    kept = {unit.uri for unit in store.units(job.id) if unit.uri}
    spare: list[Path] = []
    for attempt in over:
        if any(str(file) in kept for file in files[attempt]):
            spare += [file for file in files[attempt] if str(file) not in kept]
        else:
            spare.append(attempt)
    return spare


def _spent(job: Job) -> bool:
    """Nobody goes on from its units: a cancelled job kept them until now, a bad input must change first."""
    bad = job.reason is not None and job.reason.code is ReasonCode.INPUT_BAD
    return job.state is State.CANCELLED or (job.state is State.FAILED and bad)


def _forget_units(store: Store, job: Job) -> bool:
    """False when it was resumed meanwhile and runs: its attempt counts on what was committed."""
    try:
        store.drop_units(job.id)
    except Conflict:
        return False
    return True


def _fence(attempt: Path) -> int:
    return int(attempt.name[1:]) if attempt.name[1:].isdigit() else -1


def _remove_empty(store: Store, work_root: Path) -> None:
    """Folders of ended jobs in which nothing is left; those of active ones are about to be used."""
    for folder in _children(work_root):
        if not _children(folder) and (job := store.get(folder.name)) is not None and job.state in ENDED:
            try:
                folder.rmdir()
            except OSError:
                continue  # its worker was faster, or somebody just resumed the job


def _left_by_a_run(log: Path) -> bool:
    """Is this the log of a worker that is gone? Its `run` removes the log of one that ended well."""
    match = ATTACHED_LOG.fullmatch(log.name)
    if match is None:
        return False
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # somebody else's process has the number now: no proof
    return False


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
    while batch := forget_some(store, settings):
        removed += batch
    while store.shrink():
        continue
    return removed


def forget_some(store: Store, settings: Settings) -> list[str]:
    """Forget some of the jobs that ended longer ago than is kept; to be called until there is none."""
    return store.prune(ended_before=store.now() - settings.keep_finished_days * DAY)


def forget_files(settings: Settings, job_ids: Sequence[str]) -> None:
    """Remove what is left on disk of jobs that were forgotten; their outputs stay."""
    for job_id in job_ids:
        for folder in (settings.work_root / job_id, settings.log_root / job_id):
            remove(folder)


def _all_jobs(store: Store) -> Iterator[Job]:
    cursor: int | None = None
    while page := store.list_jobs(JobFilter(), limit=PAGE, before_seq=cursor):
        yield from page
        cursor = page[-1].seq


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []  # also when its owner removed it a moment ago


def _size(path: Path) -> int:
    try:
        if not path.is_dir():
            return path.lstat().st_size
        return sum(f.lstat().st_size for f in path.rglob("*") if f.is_file())
    except FileNotFoundError:
        return 0  # its owner was faster
