"""What an attempt's end means, from everything that is known when its tree is gone. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from unjam.jobs.messages import Failed, Finished
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.retry import Blame, Ending
from unjam.jobs.states import AttemptState, Request
from unjam.measures import show_duration, show_signal, show_size
from unjam.pipelines.runner import EXIT_STOPPED
from unjam.supervise.values import TreeEnd

# Why a worker stops a tree, as told to the guardian and read again in TreeEnd.reason.
CANCEL, PAUSE, DRAIN, STALLED, STAGE_TIMEOUT, LEASE_LOST, BROKEN = (
    "cancel", "pause", "drain", "stalled", "stage_timeout", "lease_lost", "broken",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What the worker knows besides the guardian's word."""

    finished: Finished | None = None
    failed: Failed | None = None
    requested: Request | None = None
    asked_by: str = ""
    stall_evidence: str = ""
    stage: str | None = None
    timeout: float | None = None
    memory_bytes: int | None = None
    advanced: bool = False
    broken: str = ""
    """The attempt broke the channel's protocol: what it said."""


def succeeded(tree: TreeEnd, facts: Facts) -> bool:
    """The pipeline was through, and nothing of its tree had to be killed for another reason."""
    return facts.finished is not None and tree.exit_code == 0 and not tree.guardian_died


def ending_of(tree: TreeEnd, facts: Facts) -> Ending:
    """The bad (or asked-for) end of an attempt that did not succeed."""

    def end(code: ReasonCode, message: str, blame: Blame, request: Request | None = None) -> Ending:
        return Ending(
            code,
            message,
            blame,
            advanced=facts.advanced,
            request=request or facts.requested,
            asked=facts.asked_by,
        )

    match _asked(tree, facts):
        case Request.CANCEL:
            return end(
                ReasonCode.CANCELLED_BY_USER, facts.asked_by or "cancelled", Blame.ASKED, Request.CANCEL
            )
        case Request.PAUSE:
            return end(ReasonCode.INTERRUPTED, facts.asked_by or "paused", Blame.ASKED, Request.PAUSE)
    match tree.reason:
        case "drain" | "closing":
            return end(ReasonCode.INTERRUPTED, "its worker was stopped", Blame.ASKED)
        case "deadline":
            limit = show_duration(facts.timeout) if facts.timeout else "its limit"
            return end(ReasonCode.TIMEOUT, f"not done after {limit}{_in_stage(facts)}", Blame.JOB)
        case "stage_timeout":
            return end(ReasonCode.TIMEOUT, f"stage {facts.stage} was not done in its time limit", Blame.JOB)
        case "stalled":
            return end(ReasonCode.STALLED, f"{facts.stall_evidence}{_in_stage(facts)}", Blame.JOB)
        case "memory":
            return end(ReasonCode.MEMORY, _over_limit(tree, facts), Blame.JOB)
        case "short":
            told = "could not be started just now: the machine had no descriptor, process or memory for it"
            return end(ReasonCode.INTERRUPTED, told, Blame.ASKED)
        case "start_failed":
            told = "its processes could not be started; its log says why"
            return end(ReasonCode.INTERRUPTED, told, Blame.LOST)
        case "broken":
            return end(
                ReasonCode.INTERNAL_ERROR, f"broke the channel to its worker: {facts.broken}", Blame.JOB
            )
        case "lease" | "lease_lost":
            return end(ReasonCode.WORKER_LOST, "its lease ran out", Blame.LOST)
    if tree.guardian_died:
        return end(ReasonCode.WORKER_LOST, "its guardian process was killed", Blame.LOST)
    if tree.oom == "machine" and _looks_killed(tree, facts):
        # Whoever else filled the machine, this job only happened to be hit: no failure of its own.
        return end(ReasonCode.MEMORY, _machine_full(tree, facts), Blame.CRASH)
    if facts.failed is not None:
        return end(ReasonCode(facts.failed.code), facts.failed.message, Blame.JOB)
    if tree.signal is not None:
        return end(ReasonCode.CRASHED, _killed_by(tree), Blame.CRASH)
    if tree.exit_code == EXIT_STOPPED:
        return end(
            ReasonCode.CRASHED, f"somebody else told its process to stop{_in_stage(facts)}", Blame.CRASH
        )
    if tree.exit_code == 0:
        return end(ReasonCode.INTERNAL_ERROR, "ended without saying that it was done", Blame.JOB)
    return end(ReasonCode.CRASHED, f"ended with exit code {tree.exit_code}{_in_stage(facts)}", Blame.CRASH)


def _asked(tree: TreeEnd, facts: Facts) -> Request | None:
    """The request that this end fulfils, if it is one: by signal, at a commit, whose answer said to stop
    there, or by whoever would not wait for that and killed the guardian."""
    if tree.reason in (CANCEL, PAUSE):
        return Request.CANCEL if tree.reason == CANCEL else Request.PAUSE
    stopped = tree.guardian_died or tree.exit_code == EXIT_STOPPED
    return facts.requested if tree.reason is None and stopped else None


def _over_limit(tree: TreeEnd, facts: Facts) -> str:
    if tree.oom == "group":
        limit = f" of {show_size(facts.memory_bytes)}" if facts.memory_bytes else ""
        told = f"killed by the kernel for memory: peak {show_size(tree.peak_rss_bytes)}{limit}"
    else:
        limit = f" of {show_size(facts.memory_bytes)} allowed" if facts.memory_bytes else ""
        told = f"stopped for memory: used {show_size(tree.peak_rss_bytes)}{limit}"
    return f"{told}{_in_stage(facts)}"


def _looks_killed(tree: TreeEnd, facts: Facts) -> bool:
    """The attempt itself, or a tool of it: then the pipeline is still there to say that it crashed."""
    return tree.signal == signal.SIGKILL or (
        facts.failed is not None and facts.failed.code == ReasonCode.CRASHED
    )


def _machine_full(tree: TreeEnd, facts: Facts) -> str:
    peak = f"; peak {show_size(tree.peak_rss_bytes)}" if tree.peak_rss_bytes else ""
    told = f"killed by the kernel for memory: this machine (or its container) had none left{peak}"
    return f"{told}{_in_stage(facts)}"


def _killed_by(tree: TreeEnd) -> str:
    number = tree.signal or 0
    peak = f"; peak memory {show_size(tree.peak_rss_bytes)}" if tree.peak_rss_bytes else ""
    if number == signal.SIGKILL:
        return f"its process was killed (SIGKILL) by somebody else{peak}"
    return f"its process crashed with {show_signal(number)}{peak}"


def _in_stage(facts: Facts) -> str:
    return f" (stage {facts.stage})" if facts.stage else ""


def attempt_state_of(ending: Ending) -> AttemptState:
    """Did the attempt fail, or was it ended through no fault of its own?"""
    return AttemptState.INTERRUPTED if ending.blame in (Blame.ASKED, Blame.LOST) else AttemptState.FAILED
