"""cancel --now kills the guardian of the attempt that is meant, and of no other."""

from pathlib import Path

from tests.helpers import wait_until
from tests.worker.crew import crew
from unjam.client.actions import kill_now
from unjam.jobs.states import State
from unjam.supervise.faults import VARIABLE


def test_a_guardian_that_serves_the_next_job_already_is_spared(tmp_path: Path) -> None:
    """The first job is held just when its tree is gone; its guardian has taken the second one meanwhile."""
    faults = tmp_path / "faults"
    faults.mkdir()
    with crew(tmp_path / "home", grace=10.0, containment="tree") as c:
        (faults / "tree_gone@first").touch()
        c.start(slots=2, env={VARIABLE: str(faults)})
        first = c.submit("test-note", id="first")
        wait_until(lambda: list(faults.glob("tree_gone@first.at.*")), 10, "the first to be held")
        second = c.submit("test-hang", {"how": "native", "pid_file": str(tmp_path / "second")})
        wait_until((tmp_path / "second").exists, 10, "the second to run")
        [one], [other] = c.store.attempts(first), c.store.attempts(second)
        assert one.identity == other.identity, "no guardian was reused: nothing is tested"

        c.store.request_cancel([first], by="a test")
        assert kill_now(c.store, [first]) == []
        (faults / "tree_gone@first").unlink()
        c.wait(first)
        assert c.job(second).state is State.RUNNING
        assert len(c.store.attempts(second)) == 1

        c.store.request_cancel([second], by="a test")
        assert kill_now(c.store, [second]) == [second]
        assert c.wait(second, timeout=8).state is State.CANCELLED
