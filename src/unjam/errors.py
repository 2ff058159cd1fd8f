"""The one exception family: each carries a reason code; its text names the thing, the value, the way out."""

from __future__ import annotations

from unjam.jobs.reasons import Reason, ReasonCode


class UnjamError(Exception):
    """Base of everything unjam raises on purpose."""

    code: ReasonCode = ReasonCode.INTERNAL_ERROR

    def __init__(self, message: str, *, code: ReasonCode | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    @property
    def reason(self) -> Reason:
        """The error as the end of a job."""
        return Reason(self.code, str(self))


class UsageError(UnjamError):
    """What was asked makes no sense: unknown pipeline, preset or parameter, a value out of range."""

    code = ReasonCode.INTERNAL_ERROR


class NotFound(UnjamError):
    """No such job, batch, queue or pipeline."""


class Conflict(UnjamError):
    """The thing exists but is in a state that forbids what was asked."""


class Duplicate(Conflict):
    """The same work, or the same output name, belongs to an active job already (INV-DUP)."""

    code = ReasonCode.DUPLICATE

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class PastReturn(Conflict):
    """The job is publishing: it can only be rolled forward (INV-TORN)."""


class StoreUnavailable(UnjamError):
    """The store cannot be opened, read or written: not reachable, not a database, of a newer schema."""


class LeaseLost(UnjamError):
    """A write named a fence that is no longer the job's (INV-FENCE): the attempt must stop."""

    code = ReasonCode.WORKER_LOST


class InputBad(UnjamError):
    """The input can be read but is not what the pipeline needs."""

    code = ReasonCode.INPUT_BAD


class InputMissing(UnjamError):
    """The input is not there, or vanished."""

    code = ReasonCode.INPUT_MISSING


class OutputExists(UnjamError):
    """The output name is taken by something that is not proven to be the same work."""

    code = ReasonCode.OUTPUT_EXISTS


class DiskFull(UnjamError):
    """Not enough room where the output or the work files go."""

    code = ReasonCode.DISK_FULL


class NotPermitted(UnjamError):
    """The file system forbids it."""

    code = ReasonCode.PERMISSION


class ToolMissing(UnjamError):
    """A program that the work needs is not installed or does not start."""

    code = ReasonCode.TOOL_MISSING
