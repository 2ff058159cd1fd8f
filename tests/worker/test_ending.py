import pytest

from unjam.jobs.reasons import ReasonCode
from unjam.jobs.retry import Blame
from unjam.jobs.states import Request
from unjam.pipelines.runner import EXIT_STOPPED
from unjam.supervise.values import TreeEnd
from unjam.worker.ending import Facts, ending_of


def ended(exit_code: int | None = None, signal: int | None = None, reason: str | None = None) -> TreeEnd:
    return TreeEnd(exit_code, signal, reason, 0, 0.0, 0, guardian_died=False)


@pytest.mark.parametrize(
    ("request_", "code"),
    [(Request.PAUSE, ReasonCode.INTERRUPTED), (Request.CANCEL, ReasonCode.CANCELLED_BY_USER)],
)
def test_an_attempt_that_stops_at_its_own_commit_was_asked_to(request_: Request, code: ReasonCode) -> None:
    """The answer to a commit says "stop here"; nobody signals it, and its exit is no crash."""
    facts = Facts(requested=request_, asked_by="interrupted")
    found = ending_of(ended(exit_code=EXIT_STOPPED), facts)
    assert (found.blame, found.code, found.message) == (Blame.ASKED, code, "interrupted")
    assert found.request is request_


def test_an_attempt_that_a_stranger_told_to_stop_crashed() -> None:
    found = ending_of(ended(exit_code=EXIT_STOPPED), Facts(stage="encode"))
    assert (found.blame, found.code) == (Blame.CRASH, ReasonCode.CRASHED)
    assert found.message == "somebody else told its process to stop (stage encode)"


def test_a_crash_while_a_pause_was_asked_is_still_a_crash() -> None:
    found = ending_of(ended(signal=11), Facts(requested=Request.PAUSE))
    assert (found.blame, found.request) == (Blame.CRASH, Request.PAUSE)


def test_a_guardian_killed_by_somebody_in_a_hurry_fulfils_what_was_asked() -> None:
    """`cancel --now` and a second Ctrl+C kill the guardian: that is no lost worker."""
    end = TreeEnd(None, None, None, 0, 0.0, 0, guardian_died=True)
    asked = ending_of(end, Facts(requested=Request.CANCEL, asked_by="cancelled by anna"))
    assert (asked.blame, asked.message) == (Blame.ASKED, "cancelled by anna")
    assert ending_of(end, Facts()).blame is Blame.LOST
