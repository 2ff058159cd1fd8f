"""What an attempt owes the machine it runs on: it yields where that is asked, and its litter goes with it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.worker.crew import crew
from unjam.jobs.states import State
from unjam.supervise import linux


def _names(pids: list[int]) -> dict[str, int]:
    return {(linux.read_small(f"/proc/{pid}/comm") or b"").decode().strip(): pid for pid in pids}


@pytest.mark.parametrize(
    ("settings", "nice", "idle"),
    [({}, 0, False), ({"nice": 3}, 3, False), ({"background": True}, 10, True)],
    ids=["normal", "nice", "background"],
)
def test_jobs_yield_as_they_are_told_and_nobody_else_does(
    tmp_path: Path, ffmpeg: Path, settings: dict[str, int], nice: int, idle: bool
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with crew(tmp_path, **settings) as c:
        keeper = c.start()
        argv = [str(ffmpeg), "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc", "-f", "null", "-"]
        job_id = c.submit("exec", {"argv": argv})
        c.wait(job_id, State.RUNNING)

        def started() -> dict[str, int]:
            found = _names(linux.descendants(keeper.pid))
            return found if any(name.startswith("ffmpeg") for name in found) else {}

        found = wait_until(started, 20, "ffmpeg to start")
        # uj-init holds the attempt's namespace together: nothing of the job runs in it.
        ours = {"uj-guardian", "uj-zygote", "uj-init"} & set(found)
        assert {"uj-guardian", "uj-zygote"} <= ours
        tree = {name: pid for name, pid in found.items() if name.startswith(("ffmpeg", "uj:"))}
        assert len(tree) == 2
        for name in ours:
            assert os.getpriority(os.PRIO_PROCESS, found[name]) == own, name
        for name, pid in tree.items():
            assert os.getpriority(os.PRIO_PROCESS, pid) == own + nice, name
            disk = subprocess.check_output(["ionice", "-p", str(pid)], text=True)
            assert (disk.strip() == "idle") is idle, (name, disk)


def test_temporary_files_lie_in_the_work_folder_and_go_with_it(tmp_path: Path) -> None:
    with crew(tmp_path) as c:
        c.start()
        job_id = c.submit("test-temp")
        wait_until(lambda: len(c.lines()) >= 2 and c.store.attempts(job_id)[0].ended_at, 20)
        left = [Path(line) for line in c.lines()[:2]]
        assert all(path.is_relative_to(c.settings.work_root / job_id) for path in left), left
        assert all(path.exists() for path in left)
        job = c.wait(job_id)
        assert (job.state, len(c.lines())) == (State.SUCCEEDED, 4)
        wait_until(lambda: not (c.settings.work_root / job_id).exists(), 5, "the work folder to go")
