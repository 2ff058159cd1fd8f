"""Why a job or an attempt ended: the fixed codes, and what each means for the next attempt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """Every end carries one of these. Scripts rely on the names (interfaces: "A job, as JSON")."""

    OK = "ok"
    INPUT_BAD = "input_bad"
    INPUT_MISSING = "input_missing"
    OUTPUT_EXISTS = "output_exists"
    DISK_FULL = "disk_full"
    PERMISSION = "permission"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    MEMORY = "memory"
    CRASHED = "crashed"
    WORKER_LOST = "worker_lost"
    INTERRUPTED = "interrupted"
    CANCELLED_BY_USER = "cancelled_by_user"
    DEPENDENCY_FAILED = "dependency_failed"
    DUPLICATE = "duplicate"
    POISON = "poison"
    TOOL_MISSING = "tool_missing"
    MODEL_MISSING = "model_missing"
    INTERNAL_ERROR = "internal_error"


class FailureClass(StrEnum):
    """What a failure says about trying again."""

    TRANSIENT = "transient"
    """Another try may well succeed: a crashed tool, a lost worker, a stall."""
    RESOURCE = "resource"
    """Something is scarce (memory, time): try again, later and fewer times."""
    FINAL = "final"
    """The world must change first (bad input, full disk, missing tool): trying again by itself is noise."""


FAILURE_CLASS: dict[ReasonCode, FailureClass] = {
    ReasonCode.INPUT_BAD: FailureClass.FINAL,
    ReasonCode.INPUT_MISSING: FailureClass.FINAL,
    ReasonCode.OUTPUT_EXISTS: FailureClass.FINAL,
    ReasonCode.DISK_FULL: FailureClass.FINAL,
    ReasonCode.PERMISSION: FailureClass.FINAL,
    ReasonCode.TIMEOUT: FailureClass.RESOURCE,
    ReasonCode.STALLED: FailureClass.TRANSIENT,
    ReasonCode.MEMORY: FailureClass.RESOURCE,
    ReasonCode.CRASHED: FailureClass.TRANSIENT,
    ReasonCode.WORKER_LOST: FailureClass.TRANSIENT,
    ReasonCode.INTERRUPTED: FailureClass.TRANSIENT,
    ReasonCode.CANCELLED_BY_USER: FailureClass.FINAL,
    ReasonCode.DEPENDENCY_FAILED: FailureClass.FINAL,
    ReasonCode.DUPLICATE: FailureClass.FINAL,
    ReasonCode.POISON: FailureClass.FINAL,
    ReasonCode.TOOL_MISSING: FailureClass.FINAL,
    ReasonCode.MODEL_MISSING: FailureClass.FINAL,
    ReasonCode.INTERNAL_ERROR: FailureClass.TRANSIENT,
}


@dataclass(frozen=True, slots=True)
class Reason:
    """A code for programs and one sentence for people."""

    code: ReasonCode
    message: str
