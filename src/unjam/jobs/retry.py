"""What becomes of a job after an attempt: queued again and when, or set aside and why. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from unjam.jobs.model import Budgets, Counters
from unjam.jobs.reasons import FAILURE_CLASS, FailureClass, Reason, ReasonCode
from unjam.jobs.states import Request, State

BACKOFF_FIRST = 2.0
BACKOFF_LONGEST = 300.0
"""Seconds: 2, 4, 8 ... 300, each shortened by up to a half at random: a burst of failures spreads out."""
RESOURCE_BACKOFF = 120.0
"""Seconds. What is scarce is seldom free again within the backoff of a crashed tool."""
RESOURCE_TRIES = 2


class Blame(StrEnum):
    """Who ended the attempt."""

    JOB = "job"
    """It failed by itself."""
    CRASH = "crash"
    """It died by a signal nobody of ours sent, or the kernel killed it because the machine was full."""
    LOST = "lost"
    """Its worker or guardian died."""
    ASKED = "asked"
    """It was stopped on purpose: pause, drain, cancel."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of an attempt when its tree is gone."""

    code: ReasonCode
    message: str
    blame: Blame
    advanced: bool = False
    """It committed at least one unit: earlier crashes and losses are forgiven."""
    request: Request | None = None
    """What was asked of the job; with blame `asked` and no request it is a worker that drains."""
    asked: str = ""
    """By whom and why, in words."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where the job goes (queued, failed, paused or cancelled), with its counters."""

    state: State
    reason: Reason
    counters: Counters
    delay: float = 0.0
    """Seconds before it may be claimed again."""


def backoff(tries: int, jitter: float) -> float:
    """Seconds to wait after the `tries`-th bad end; `jitter` in [0, 1)."""
    longest = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(tries - 1, 32))
    return longest * (1 - jitter / 2)


def decide(counters: Counters, budgets: Budgets, ending: Ending, *, jitter: float) -> Decision:
    """The next state of a job whose attempt ended as `ending`; `counters` count that attempt as tried."""
    if ending.advanced:
        counters = replace(counters, crashes=0, losses=0)
    if ending.blame is Blame.ASKED:
        return _asked(counters, ending)
    if ending.request is Request.CANCEL:
        # It died while being cancelled: the tree is gone, which is all that was asked for.
        return _asked(counters, ending)
    decision = _after_bad_end(counters, budgets, ending, jitter)
    if ending.request is Request.PAUSE and decision.state is State.QUEUED:
        return replace(decision, state=State.PAUSED, delay=0.0)
    return decision


def _asked(counters: Counters, ending: Ending) -> Decision:
    reason = Reason(ending.code, ending.message)
    if ending.request is Request.CANCEL or ending.code is ReasonCode.CANCELLED_BY_USER:
        if ending.code is not ReasonCode.CANCELLED_BY_USER:
            reason = Reason(
                ReasonCode.CANCELLED_BY_USER, f"{ending.asked or 'cancelled'}; it had ended: {ending.message}"
            )
        return Decision(State.CANCELLED, reason, counters)
    if ending.request is Request.PAUSE:
        return Decision(State.PAUSED, reason, counters)
    return Decision(State.QUEUED, reason, counters)


def _after_bad_end(counters: Counters, budgets: Budgets, ending: Ending, jitter: float) -> Decision:
    reason = Reason(ending.code, ending.message)
    match ending.blame:
        case Blame.LOST:
            counters = replace(counters, losses=counters.losses + 1)
            if counters.losses >= budgets.losses:
                return _poison(counters, counters.losses, "lost worker", ending)
            # A lost worker is not the job's fault: it waits for nothing.
            return Decision(State.QUEUED, reason, counters)
        case Blame.CRASH:
            counters = replace(counters, crashes=counters.crashes + 1)
            if counters.crashes >= budgets.crashes:
                return _poison(counters, counters.crashes, "crash", ending)
            delay = backoff(counters.crashes, jitter)
            if FAILURE_CLASS[ending.code] is FailureClass.RESOURCE:
                delay = RESOURCE_BACKOFF * (1 - jitter / 2)  # at once it would run into the same shortage
            return Decision(State.QUEUED, reason, counters, delay)
        case _:
            counters = replace(counters, failures=counters.failures + 1)
            return _after_failure(counters, budgets, reason, jitter)


def _after_failure(counters: Counters, budgets: Budgets, reason: Reason, jitter: float) -> Decision:
    match FAILURE_CLASS[reason.code]:
        case FailureClass.FINAL:
            return Decision(State.FAILED, reason, counters)
        case FailureClass.RESOURCE:
            if counters.failures >= min(RESOURCE_TRIES, budgets.failures):
                return Decision(State.FAILED, reason, counters)
            return Decision(State.QUEUED, reason, counters, RESOURCE_BACKOFF * (1 - jitter / 2))
        case _:
            if counters.failures >= budgets.failures:
                return Decision(State.FAILED, reason, counters)
            return Decision(State.QUEUED, reason, counters, backoff(counters.failures, jitter))


def _poison(counters: Counters, times: int, what: str, ending: Ending) -> Decision:
    plural = "" if times == 1 else "es" if what == "crash" else "s"
    told = f"set aside after {times} {what}{plural} without progress; the last: {ending.message}"
    return Decision(State.FAILED, Reason(ReasonCode.POISON, told), counters)
