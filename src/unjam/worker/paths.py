"""Where an attempt's files lie, and their removal: work folders, staged files, logs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from unjam.jobs.model import Job
from unjam.settings import Settings
from unjam.storage.staging import parts_in
from unjam.supervise.launch import LaunchSpec


def work_dir(settings: Settings, job_id: str, fence: int) -> Path:
    """One attempt's private folder; committed units stay where the attempt wrote them."""
    return settings.work_root / job_id / f"f{fence}"


def log_path(settings: Settings, job_id: str, attempt: int) -> Path:
    return settings.log_root / job_id / f"{attempt}.log"


def make_folders(spec: LaunchSpec) -> None:
    """The attempt's own folders, on the disk of our own state."""
    os.makedirs(os.path.dirname(spec.log_path), exist_ok=True)
    os.makedirs(spec.cwd, exist_ok=True)


def drop_parts(job: Job, fence: int) -> str | None:
    """Remove the job's staged files up to this fence: nobody may publish them any more.

    Never raises: an output folder that went read-only or away must not keep a job from its end (INV-LOST).
    Returns the sentence that says what was left for `unjam gc`.
    """
    if job.spec.output_dir is None:
        return None
    try:
        for part, owner, part_fence in parts_in(Path(job.spec.output_dir)):
            if owner == job.id and part_fence <= fence:
                remove(part)
    except OSError as error:
        return f"staged files of {job.id} were left in {job.spec.output_dir}: {error.strerror}"
    return None


def drop_empty_work(settings: Settings, job_id: str, fence: int) -> bool:
    """Remove the work folders of a job that left nothing in them; False when there is something."""
    work = work_dir(settings, job_id, fence)
    try:
        os.rmdir(work)
        os.rmdir(work.parent)
    except OSError:
        return False
    return True


def drop_work(settings: Settings, job_id: str) -> None:
    """Remove every unit and scratch file of a job that is done."""
    shutil.rmtree(settings.work_root / job_id, ignore_errors=True)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
