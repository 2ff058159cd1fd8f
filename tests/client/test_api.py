"""The Python API without a worker: what it returns, what it raises, and that following misses nothing."""

import subprocess
import sys
import threading

import pytest

import unjam
from tests.client.world import World
from unjam.client.api import Batch, JobHandle, Unjam
from unjam.client.follow import Follower, wait_for
from unjam.client.ids import ALPHABET, new_id, resolve
from unjam.errors import NotFound, UsageError
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import State
from unjam.store import open_store


def test_the_package_exports_lazily() -> None:
    code = "import sys, unjam; print(sorted(m for m in sys.modules if m.startswith('unjam')))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "['unjam']\n"
    )
    for name in unjam.__all__:
        assert getattr(unjam, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = unjam.nothing


def test_submit_returns_a_job_for_a_file_and_a_batch_for_a_folder(world: World) -> None:
    source = world.file("in/a.mov")
    with Unjam(world.settings) as client:
        job = client.submit("convert", source, output_dir=world.root / "out", preset="audio", timeout="5m")
        assert isinstance(job, JobHandle)
        assert (job.state, job.progress, job.artifacts, job.done) == (State.QUEUED, 0.0, [], False)
        assert job.job.spec.limits.timeout == 300
        assert "no_worker" in job.view()["next"]["why"]
        with pytest.raises(TimeoutError):
            job.wait(timeout=0.05)
        job.cancel()
        assert job.wait(timeout=5).state is State.CANCELLED
        world.file("in/b.mov")
        batch = client.submit("convert", source.parent, output_dir=world.root / "out2")
        assert isinstance(batch, Batch)
        assert batch.states == {State.QUEUED: 2}
        found = client.get(batch.id or "")
        assert isinstance(found, Batch)
        assert [j.id for j in found.jobs] == [j.id for j in batch.jobs]
        with pytest.raises(UsageError, match="crf"):
            client.submit("convert", source, output_dir=world.root / "out3", crf=99)


def test_a_job_that_was_removed_is_not_found(world: World) -> None:
    world.file("a.mov")
    with Unjam(world.settings) as client:
        job = client.submit("convert", world.root / "a.mov", output_dir=world.root / "out")
        assert isinstance(job, JobHandle)
        job.cancel()
        world.store.remove([job.id])
        with pytest.raises(NotFound):
            _ = job.state


def test_a_follower_sees_every_event_between_submission_and_end(world: World) -> None:
    world.file("a.mov")
    cursor = world.store.last_event_id()
    job = world.submit_one(world.ask("a.mov", output_dir="out"))
    world.end(world.claim(world.worker()), State.SUCCEEDED, ReasonCode.OK)
    follower = Follower(world.store, [job.id], cursor=cursor)
    seen = [event.state_to for event in follower.poll() if event.state_to]
    assert seen[0] is State.QUEUED
    assert State.RUNNING in seen
    assert seen[-1] is State.SUCCEEDED
    assert follower.unfinished() == []
    assert follower.poll() == []


def test_waiting_ends_when_another_process_ends_the_job(world: World) -> None:
    world.file("a.mov")
    job = world.submit_one(world.ask("a.mov", output_dir="out"))

    def cancel() -> None:
        store = open_store(world.settings.store)
        store.request_cancel([job.id], by="another")
        store.close()

    other = threading.Thread(target=cancel)
    other.start()
    (ended,) = wait_for(world.store, [job.id], timeout=10)
    other.join()
    assert ended.state is State.CANCELLED


def test_a_follower_of_many_jobs_pages_its_questions(world: World) -> None:
    for number in range(600):
        world.file(f"in/{number}.mov", "x")
    cursor = world.store.last_event_id()
    outcome = world.submit(world.ask("in", output_dir="out"))
    follower = Follower(world.store, outcome.job_ids, cursor=cursor)
    assert len(follower.jobs) == 600
    assert len({event.job_id for event in follower.poll()}) == 600


def test_ids_are_told_apart_by_prefix(world: World) -> None:
    ids = {new_id("j") for _ in range(2000)}
    assert len(ids) == 2000
    assert all(len(i) == 10 and i[0] == "j" and set(i[1:]) <= set(ALPHABET) for i in ids)
    world.file("in/a.mov")
    world.file("in/b.mov")
    outcome = world.submit(world.ask("in", output_dir="out"))
    assert resolve(world.store, "@last").job_ids == tuple(outcome.job_ids)
    assert resolve(world.store, outcome.job_ids[0]).job_ids == (outcome.job_ids[0],)
    with pytest.raises(UsageError, match="several ids"):
        resolve(world.store, "j")
    with pytest.raises(NotFound):
        resolve(world.store, "x")


def test_a_job_goes_on_with_other_limits(world: World) -> None:
    source = world.file("in/a.mov")
    with Unjam(world.settings) as client:
        job = client.submit("convert", source, output_dir=world.root / "out", timeout="5m")
        assert isinstance(job, JobHandle)
        job.pause()
        job.resume(timeout="2h", memory="1GiB", priority=3)
        spec = job.job.spec
        assert (spec.limits.timeout, spec.limits.memory_bytes, spec.priority) == (7200, 1 << 30, 3)
        claim = world.claim(world.worker())
        job.pause()
        job.resume(timeout=1)
        assert (job.job.requested, job.job.spec.limits.timeout) == (None, 7200), "it runs: as it began"
        world.end(claim, State.FAILED, ReasonCode.TIMEOUT)
        job.retry(timeout=9000)
        assert (job.state, job.job.spec.limits.timeout) == (State.QUEUED, 9000)
