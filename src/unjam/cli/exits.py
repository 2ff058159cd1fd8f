"""Exit codes: what scripts rely on."""

from __future__ import annotations

from collections.abc import Iterable

from unjam.errors import (
    Conflict,
    InputBad,
    InputMissing,
    NotFound,
    StoreUnavailable,
    UnjamError,
    UsageError,
)
from unjam.jobs.model import Job
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import State

DONE, FAILED, USAGE, NOT_FOUND, CONFLICT, CANCELLED, LIMIT, NO_STORE, BAD_INPUT, PARTIAL = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    10,
)
INTERRUPTED, TERMINATED = 130, 143

_OF_ERROR: tuple[tuple[type[UnjamError], int], ...] = (
    (UsageError, USAGE),
    (NotFound, NOT_FOUND),
    (Conflict, CONFLICT),
    (StoreUnavailable, NO_STORE),
    (InputBad, BAD_INPUT),
    (InputMissing, BAD_INPUT),
)
_OF_REASON = {
    ReasonCode.TIMEOUT: LIMIT,
    ReasonCode.STALLED: LIMIT,
    ReasonCode.INPUT_BAD: BAD_INPUT,
    ReasonCode.INPUT_MISSING: BAD_INPUT,
    ReasonCode.DUPLICATE: CONFLICT,
}


def of_error(error: UnjamError) -> int:
    """The exit code of an error."""
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), FAILED)


def of_job(job: Job) -> int:
    """The exit code of one ended job."""
    match job.state:
        case State.SUCCEEDED | State.SKIPPED:
            return DONE
        case State.PARTIAL:
            return PARTIAL
        case State.CANCELLED:
            return CANCELLED
        case State.PAUSED:
            return INTERRUPTED
    return _OF_REASON.get(job.reason.code, FAILED) if job.reason else FAILED


def of_jobs(jobs: Iterable[Job], *, refused: int = 0) -> int:
    """The exit code of several: the one they share, 10 when some did well and others did not, else 1."""
    codes = {of_job(job) for job in jobs} | ({CONFLICT} if refused else set())
    if len(codes) <= 1:
        return next(iter(codes), DONE)
    if INTERRUPTED in codes:
        return INTERRUPTED
    return PARTIAL if codes & {DONE, PARTIAL} else FAILED
