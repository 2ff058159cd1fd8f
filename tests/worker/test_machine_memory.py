"""The kernel's own killer, when the machine (here: a container's worth of it) has no memory left."""

from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.supervise.rig import in_subreaper
from tests.worker.crew import crew
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import AttemptState, State
from unjam.supervise import cgroup

ROOM = 400 << 20


@pytest.mark.root
def test_the_machines_killer_is_no_crash(tmp_path: Path) -> None:
    """It takes the job, not its guardian; the job waits for memory instead of being tried again at once; and
    the worker goes on with other jobs."""
    around = cgroup.make(1 << 61 | 4711, "machine", ROOM)
    if around is None:
        pytest.skip("no control group with a memory limit may be made here")

    def inside() -> None:
        around.admit(0)
        with crew(tmp_path) as c:
            c.start()
            job_id = c.submit("test-memory", {"size": 2 * ROOM})
            wait_until(lambda: any(a.reason for a in c.store.attempts(job_id)), 40)
            [attempt] = c.store.attempts(job_id)
            assert attempt.reason is not None
            assert (attempt.state, attempt.reason.code) == (AttemptState.FAILED, ReasonCode.MEMORY), attempt
            assert (
                "killed by the kernel for memory: this machine (or its container)" in attempt.reason.message
            )
            assert ROOM / 2 < (attempt.peak_rss_bytes or 0) < ROOM, attempt
            job = c.job(job_id)
            assert (job.state, job.counters.crashes, job.counters.failures) == (State.QUEUED, 1, 0)
            assert job.run_at > c.store.now() + 50
            assert c.wait(c.submit("test-note")).state is State.SUCCEEDED
            assert len(c.workers()) == 1

    try:
        in_subreaper(inside)
    finally:
        assert around.remove()
