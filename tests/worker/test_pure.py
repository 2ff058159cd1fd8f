"""The worker's decisions that need no process: ends, pictures, what is settled before a start, logs."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.worker.crew import source_file
from unjam.errors import DiskFull, InputMissing, NotPermitted, OutputExists
from unjam.jobs.messages import (
    Failed,
    Finished,
    Progress,
    StageEnded,
    StageStarted,
    UnitCommitted,
    UnitsDeclared,
)
from unjam.jobs.model import Counters, Job, Needs, NewJob
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.records import Lease
from unjam.jobs.retry import Blame
from unjam.jobs.states import OnExists, Phase, Request, StageState, State
from unjam.storage import manifest
from unjam.storage.staging import staged_output
from unjam.supervise.launch import TreeEnd
from unjam.worker.ending import Facts, ending_of, succeeded
from unjam.worker.logs import trim
from unjam.worker.picture import Picture
from unjam.worker.preflight import Go, Skip, preflight

GONE = TreeEnd(0, None, None, 0, 0.0, 0, guardian_died=False)
LEASE = Lease("j1", 1)


# -- ends ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tree", "facts", "code", "blame", "words"),
    [
        (
            replace(GONE, exit_code=70),
            Facts(failed=Failed("input_bad", "no moov")),
            "input_bad",
            Blame.JOB,
            "no moov",
        ),
        (replace(GONE, exit_code=None, signal=11), Facts(), "crashed", Blame.CRASH, "SIGSEGV"),
        (
            replace(GONE, exit_code=None, signal=9, peak_rss_bytes=7_900_000_000),
            Facts(),
            "crashed",
            Blame.CRASH,
            "peak memory 7.9 GB",
        ),
        (
            replace(GONE, exit_code=3),
            Facts(stage="encode"),
            "crashed",
            Blame.CRASH,
            "exit code 3 (stage encode)",
        ),
        # Real-time signals have no name.
        (replace(GONE, exit_code=None, signal=40), Facts(), "crashed", Blame.CRASH, "signal 40"),
        (GONE, Facts(), "internal_error", Blame.JOB, "without saying"),
        (
            replace(GONE, guardian_died=True),
            Facts(finished=Finished(())),
            "worker_lost",
            Blame.LOST,
            "guardian",
        ),
        (replace(GONE, reason="deadline"), Facts(timeout=90.0), "timeout", Blame.JOB, "1 min 30 s"),
        (replace(GONE, reason="memory"), Facts(memory_bytes=10**9), "memory", Blame.JOB, "of 1.0 GB allowed"),
        (
            replace(GONE, reason="memory", oom="group", peak_rss_bytes=7_900_000_000),
            Facts(memory_bytes=8 * 10**9),
            "memory",
            Blame.JOB,
            "killed by the kernel for memory: peak 7.9 GB of 8.0 GB",
        ),
        (
            replace(GONE, exit_code=None, signal=9, oom="machine"),
            Facts(stage="encode"),
            "memory",
            Blame.CRASH,
            "had none left (stage encode)",
        ),
        # A tool of the pipeline was hit, and the pipeline lived to tell.
        (
            replace(GONE, exit_code=70, oom="machine"),
            Facts(failed=Failed("crashed", "ffmpeg was killed by SIGKILL")),
            "memory",
            Blame.CRASH,
            "killed by the kernel for memory",
        ),
        # Somebody else on this machine was hit just then.
        (
            replace(GONE, exit_code=70, oom="machine"),
            Facts(failed=Failed("input_bad", "no moov")),
            "input_bad",
            Blame.JOB,
            "no moov",
        ),
        (replace(GONE, exit_code=None, signal=11, oom="machine"), Facts(), "crashed", Blame.CRASH, "SEGV"),
        (replace(GONE, reason="drain"), Facts(), "interrupted", Blame.ASKED, "worker was stopped"),
        (
            replace(GONE, exit_code=None, signal=9, reason="closing"),
            Facts(),
            "interrupted",
            Blame.ASKED,
            "worker was stopped",
        ),
        (
            replace(GONE, reason="cancel"),
            Facts(requested=Request.CANCEL),
            "cancelled_by_user",
            Blame.ASKED,
            "cancel",
        ),
        (
            replace(GONE, reason="stalled"),
            Facts(stall_evidence="no new frame for 120 s"),
            "stalled",
            Blame.JOB,
            "120",
        ),
    ],
)
def test_what_an_end_means(tree: TreeEnd, facts: Facts, code: str, blame: Blame, words: str) -> None:
    ending = ending_of(tree, facts)
    assert (ending.code, ending.blame) == (ReasonCode(code), blame)
    assert words in ending.message


def test_only_a_clean_exit_after_the_word_is_success() -> None:
    done = Facts(finished=Finished(()))
    assert succeeded(GONE, done)
    assert not succeeded(replace(GONE, exit_code=1), done)
    assert not succeeded(replace(GONE, guardian_died=True), done)
    assert not succeeded(GONE, Facts())


# -- the picture ---------------------------------------------------------------------------------------
def test_a_picture_is_monotone_and_never_whole_before_it_is_published() -> None:
    picture = Picture(now=0.0, stall_after=None)
    phases = [picture.phase]
    picture.stage_started(StageStarted("encode", 1.0, 30.0, None, None), now=0.0, wall=100.0)
    picture.units_declared(UnitsDeclared("encode", 4, 0), now=0.0)
    seen = []
    for i, fraction in enumerate((0.1, 0.5, 0.3, 1.0)):
        picture.progressed(Progress("encode", fraction, str(i), "m", "u1", 0.5), now=float(i))
        seen.append(picture.update(LEASE, now=float(i), wall=100.0 + i).progress)
    assert seen == sorted(seen)
    assert seen[-1] < 1.0
    picture.unit_committed(UnitCommitted("encode", "u1", None, None, None), now=4.0)
    update = picture.update(LEASE, now=4.0, wall=104.0)
    assert (update.stages[0].units_done, update.stages[0].units_total) == (1, 4)
    assert update.units == ()
    picture.stage_ended(StageEnded("encode"), now=5.0, wall=105.0)
    picture.stage_started(StageStarted("verify", 0.1, None, None, None), now=5.0, wall=105.0)
    phases.append(picture.phase)
    assert phases == [Phase.STARTING, Phase.VERIFYING]
    assert [s.state for s in picture.stages_at_end(StageState.FAILED, wall=106.0)] == [
        StageState.SUCCEEDED,
        StageState.FAILED,
    ]


def test_cpu_use_alone_is_no_advance() -> None:
    """INV-STALL: CPU selects the busy limit, it never resets the clock."""
    picture = Picture(now=0.0, stall_after=None)
    picture.stage_started(StageStarted("encode", 1.0, 10.0, 40.0, None), now=0.0, wall=0.0)
    for second in range(1, 40):
        picture.used(cpu_seconds=float(second), rss_bytes=1, processes=1, now=float(second))
        picture.progressed(Progress("encode", 0.1, "frame 7"), now=float(second))
        assert not picture.check(float(second)).stalled or second >= 40
    assert picture.check(42.0).stalled


def test_only_news_of_the_use_of_cpu_and_memory_are_worth_a_transaction() -> None:
    picture = Picture(now=0.0, stall_after=None)
    picture.stage_started(StageStarted("encode", 1.0, 10.0, 40.0, None), now=0.0, wall=0.0)

    def use(now: float, cpu_seconds: float, rss: int = 100 << 20) -> bool:
        picture.used(cpu_seconds=cpu_seconds, rss_bytes=rss, processes=2, now=now)
        return picture.tells(now)

    def tell(now: float) -> Any:
        return picture.update(LEASE, now=now, wall=now).usage

    assert use(1.0, 2.0)
    assert use(2.0, 4.0)
    assert tell(2.0)["cpu_percent"] == 200.0
    assert not use(3.0, 5.98), "198 %"
    assert not use(4.0, 7.96, 102 << 20), "2 MiB more"
    assert use(5.0, 9.6), "164 %"
    assert tell(5.0)["cpu_percent"] == 164.0
    assert not use(6.0, 11.2)
    assert use(10.0, 17.7), "a little, for five seconds"
    assert tell(10.0)["cpu_percent"] == 162.5
    assert use(12.0, 20.95, 150 << 20), "half as much memory again"
    tell(12.0)
    assert not picture.tells(100.0), "nothing new since"


def test_what_idles_for_long_enough_is_told_to_stall_sooner() -> None:
    """INV-STALL: the moment at which it will count as stalled is shown, and moves with the limit."""
    picture = Picture(now=0.0, stall_after=None)
    picture.stage_started(StageStarted("encode", 1.0, 30.0, 300.0, None), now=0.0, wall=0.0)
    for second in (1.0, 2.0):
        picture.used(cpu_seconds=second, rss_bytes=1, processes=1, now=second)
    assert picture.update(LEASE, now=2.0, wall=2.0).stall_at == 300.0
    picture.used(cpu_seconds=2.0, rss_bytes=1, processes=1, now=3.0)
    picture.update(LEASE, now=3.0, wall=3.0)
    assert not picture.tells(3.0)
    picture.used(cpu_seconds=2.0, rss_bytes=1, processes=1, now=13.0)
    assert picture.tells(13.0)
    assert picture.update(LEASE, now=13.0, wall=13.0).stall_at == 30.0


def test_a_stall_is_told_at_once_although_nothing_else_is_new() -> None:
    """Whoever wants its place must see it before the attempt has ended for it."""
    picture = Picture(now=0.0, stall_after=3.0)
    picture.stage_started(StageStarted("encode", 1.0, None, None, None), now=0.0, wall=0.0)
    picture.used(cpu_seconds=0.1, rss_bytes=1, processes=1, now=1.0)
    picture.update(LEASE, now=1.0, wall=1.0)
    assert not picture.tells(3.0)
    picture.stalled = picture.check(3.0).evidence
    assert picture.tells(3.0)
    assert picture.update(LEASE, now=3.0, wall=3.0).stalled == picture.stalled
    assert not picture.tells(4.0)


def test_what_waits_for_a_token_does_not_look_silent() -> None:
    picture = Picture(now=0.0, stall_after=3.0)
    picture.hold("gpu")
    assert picture.tells(1.0)
    picture.update(LEASE, now=1.0, wall=1.0)
    picture.check(6.5)
    assert picture.tells(6.5)
    assert picture.update(LEASE, now=6.5, wall=6.5).advanced_at == 6.5


def test_a_new_stage_knows_from_the_first_sample_whether_it_is_busy() -> None:
    """INV-STALL: a guardian looks every two seconds; a limit of three must not strike before it has."""
    picture = Picture(now=0.0, stall_after=None)
    picture.used(cpu_seconds=1.0, rss_bytes=1, processes=1, now=1.0)
    picture.stage_started(StageStarted("encode", 1.0, 3.0, 30.0, None), now=2.0, wall=0.0)
    picture.used(cpu_seconds=3.0, rss_bytes=1, processes=1, now=3.0)
    assert not picture.check(6.0).stalled
    assert picture.check(32.0).stalled


def test_waiting_for_a_token_is_no_stall() -> None:
    picture = Picture(now=0.0, stall_after=5.0)
    picture.stage_started(StageStarted("gpu", 1.0, None, None, None), now=0.0, wall=0.0)
    picture.hold("gpu")
    assert not picture.check(100.0).stalled
    assert picture.update(LEASE, now=100.0, wall=0.0).message == "waiting for gpu"
    picture.hold(None)
    assert picture.check(106.0).stalled


def test_the_users_stall_limit_goes_before_the_pipelines() -> None:
    picture = Picture(now=0.0, stall_after=2.0)
    picture.stage_started(StageStarted("encode", 1.0, 600.0, 6000.0, 50.0), now=0.0, wall=0.0)
    assert picture.check(3.0).stalled
    assert picture.overdue(49.0) is None
    assert picture.overdue(50.0) == "encode"


# -- before the start ----------------------------------------------------------------------------------
@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.mov"
    path.write_bytes(b"film")
    return path


Make = Callable[..., Job]


@pytest.fixture
def job_of(tmp_path: Path, source: Path) -> Make:
    taken = source_file(source)

    def make(output: Path, **changes: Any) -> Job:
        spec = NewJob(
            "j1",
            "convert",
            1,
            {"crf": 21},
            (taken,),
            str(output.parent),
            str(output),
            **changes,
        )
        return Job(
            1, spec, None, State.RUNNING, None, None, None, Counters(), 1, "w1", 0.0, 0.0, None, 0.0, None,
            "", None, None, None, 0.0, None, None,
        )  # fmt: skip

    return make


def test_a_free_name_is_a_go(tmp_path: Path, job_of: Make) -> None:
    output = tmp_path / "new" / "folder" / "out.mp4"
    assert preflight(job_of(output)) == Go(str(output))
    assert output.parent.is_dir()


def test_a_taken_name(tmp_path: Path, job_of: Make) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"somebody's film")
    with pytest.raises(OutputExists, match="--on-exists replace or rename"):
        preflight(job_of(output))
    assert preflight(job_of(output, on_exists=OnExists.REPLACE)) == Go(str(output))
    (tmp_path / "out (2).mp4").touch()
    assert preflight(job_of(output, on_exists=OnExists.RENAME)) == Go(str(tmp_path / "out (3).mp4"))
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    with pytest.raises(OutputExists, match="is a folder"):
        preflight(job_of(folder, on_exists=OnExists.REPLACE))


def test_no_room_no_input_no_folder(tmp_path: Path, source: Path, job_of: Make) -> None:
    with pytest.raises(DiskFull, match="wanted"):
        preflight(job_of(tmp_path / "out.mp4", needs=Needs(disk_bytes=1 << 62)))
    with pytest.raises(NotPermitted, match="is a file"):
        preflight(job_of(source / "out.mp4"))
    source.unlink()
    with pytest.raises(InputMissing, match="not there any more"):
        preflight(job_of(tmp_path / "out.mp4"))


def publish(job: Job, data: bytes) -> Path:
    """Output and manifest as a publisher leaves them."""
    output = Path(job.spec.output_path or "")
    part = output.with_name("part")
    part.write_bytes(data)
    sealed = staged_output(part, output, name=output.name, kind="video", media=None, on_bytes=lambda _: None)
    body = manifest.build(
        job_id="j0",
        pipeline="convert",
        version=1,
        inputs=job.spec.inputs,
        params=job.spec.params,
        outputs=[sealed],
    )
    part.rename(output)
    manifest.manifest_path(output).write_text(json.dumps(body))
    return output


def skipped(job: Job) -> Path | None:
    found = preflight(job)
    return found.output if isinstance(found, Skip) else None


def test_the_same_work_is_skipped_and_any_change_is_not(tmp_path: Path, source: Path, job_of: Make) -> None:
    job = job_of(tmp_path / "out.mp4")
    output = publish(job, b"made")
    assert skipped(job) == output
    assert preflight(job_of(output, force=True)) == Go(str(output))

    touched = os.stat(output)
    output.write_bytes(b"mad3")
    os.utime(output, ns=(touched.st_atime_ns, touched.st_mtime_ns))
    with pytest.raises(
        OutputExists
    ):  # one byte, same size, mtime put back: the ctime tells, the hash decides
        preflight(job)
    output.write_bytes(b"made")
    assert skipped(job) == output

    other = replace(job, spec=replace(job.spec, params={"crf": 22}))
    with pytest.raises(OutputExists):
        preflight(other)
    source.write_bytes(b"another film")
    changed = replace(job, spec=replace(job.spec, inputs=(source_file(source),)))
    with pytest.raises(OutputExists):
        preflight(changed)


# -- logs ----------------------------------------------------------------------------------------------
def test_a_long_log_loses_its_middle_and_no_offset_changes(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    with open(path, "wb") as file:
        for i in range(300_000):
            file.write(b"line %06d\n" % i)
    size = path.stat().st_size
    assert trim(str(path), 10 << 20) == 0
    freed = trim(str(path), 1 << 20)
    assert freed > 1 << 20
    stat = path.stat()
    assert stat.st_size == size
    assert stat.st_blocks * 512 <= 1 << 20
    data = path.read_bytes()
    assert data.startswith(b"line 000000\n")
    assert data.endswith(b"line 299999\n")
    assert data[12 * 299_000 : 12 * 299_001] == b"line 299000\n"
    assert trim(str(path), 1 << 20) == 0
