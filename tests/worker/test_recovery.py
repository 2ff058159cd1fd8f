"""Recovery meets a world that does not hold still: trees that die slowly, folders that went read-only."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.world import World
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import AttemptEnd, Claim, StagedOutput
from unjam.jobs.states import AttemptState, Phase, State
from unjam.storage.staging import part_path
from unjam.supervise.identity import identity_of
from unjam.supervise.mark import new_mark, set_mark
from unjam.worker.recovery import Recovery, free, reap_expired, recover


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def claimed_by_the_dead(world: World, **fields: object) -> Claim:
    world.file("a.mov")
    world.submit(world.ask("a.mov", output_dir="out"))
    return world.claim(world.worker(alive=False, **fields))  # type: ignore[arg-type]


def test_a_dead_workers_tree_that_still_dies_is_left_for_the_next_round(world: World) -> None:
    """INV-ONCE, INV-LOST: its guardian needs a moment more than the worker did."""
    claim = claimed_by_the_dead(world)
    with subprocess.Popen(["sleep", "60"]) as guardian:
        identity = identity_of(guardian.pid)
        assert identity is not None
        world.store.begin(claim.lease, identity=identity.to_json(), pid=guardian.pid, log_path="log")
        assert recover(world.store, world.settings, world.here, patience=0.0).still_owned == [claim.job.id]
        assert world.job(claim.job.id).state is State.RUNNING
        guardian.kill()
    assert recover(world.store, world.settings, world.here, patience=0.0).requeued == [claim.job.id]
    assert world.store.workers() == []


def test_what_a_keeper_had_no_time_to_end_is_found_by_the_next_round(world: World) -> None:
    """INV-ORPHAN, INV-STRANGER: a neighbour's recovery comes between the death of a worker and that of its
    keeper: it must neither end what the keeper answers for, nor forget by which mark that is known."""
    mark = new_mark(4711)
    keeper = subprocess.Popen(["sleep", "60"])
    leaf = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: set_mark(mark))
    try:
        identity = identity_of(keeper.pid)
        assert identity is not None
        dead = world.worker(alive=False, mark=mark, keeper_identity=identity.to_json())
        assert recover(world.store, world.settings, world.here).killed == 0
        assert leaf.poll() is None
        assert [worker.id for worker in world.store.workers()] == [dead.id]
        keeper.kill()
        keeper.wait()
        assert recover(world.store, world.settings, world.here).killed == 1
        assert leaf.wait(2) == -signal.SIGKILL
        recover(world.store, world.settings, world.here)
        assert world.store.workers() == []
    finally:
        for process in (keeper, leaf):
            process.kill()
            process.wait()


def test_an_output_folder_that_went_read_only_keeps_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-LOST: a stick that was remounted read-only must not stop the recovery of everything else."""
    claim = claimed_by_the_dead(world)
    part = part_path(world.root / "out", claim.job.id, claim.lease.fence, 1)
    part.write_bytes(b"half a film")

    def refused(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(os, "unlink", refused)  # a read-only mount needs root
    done = recover(world.store, world.settings, world.here)
    assert done.requeued == [claim.job.id]
    [told] = done.left
    assert "Read-only file system" in told


def publish_half(world: World, claim: Claim) -> StagedOutput:
    """The point of no return, and then nothing more."""
    out = world.root / "out"
    part = part_path(out, claim.job.id, claim.lease.fence, 1)
    part.write_bytes(b"film")
    stat = part.stat()
    output = StagedOutput(
        "a.mp4", "media", str(part), str(out / "a.mp4"), stat.st_ino, 4, stat.st_ctime_ns, "0"
    )
    reason = Reason(ReasonCode.OK, "done")
    end = AttemptEnd(AttemptState.SUCCEEDED, reason, State.SUCCEEDED, reason, claim.job.counters)
    assert world.store.begin_publish(claim.lease, (output,), end)
    return output


def test_what_a_lost_host_was_publishing_can_be_freed_by_force_only(world: World) -> None:
    """INV-LOST: nobody but that host rolls it forward by itself, and it may never come back."""
    claim = claimed_by_the_dead(world, host="lost-for-good")
    output = publish_half(world, claim)
    [held] = world.store.live_jobs()
    done = Recovery()
    free(world.store, world.settings, world.here, held, done)
    assert not done
    assert world.job(claim.job.id).phase is Phase.PUBLISHING
    free(world.store, world.settings, "lost-for-good", held, done)
    assert done.finished == [claim.job.id]
    assert Path(output.final_path).read_bytes() == b"film"


def test_an_expired_lease_in_the_middle_of_publishing_is_rolled_forward(world: World) -> None:
    """INV-TORN, INV-LOST."""
    world.file("a.mov")
    world.submit(world.ask("a.mov", output_dir="out"))
    claim = world.claim(world.worker(alive=False), ttl=-1)
    publish_half(world, claim)
    assert reap_expired(world.store, world.settings, world.here).finished == [claim.job.id]
    assert world.job(claim.job.id).state is State.SUCCEEDED


@pytest.mark.root
def test_what_another_users_worker_left_is_found_by_that_users_next(world: World) -> None:
    """INV-ORPHAN: two users of one machine share a store; one may not even see the other's marks."""
    mark = new_mark(4711)
    leaf = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: set_mark(mark))
    wake = world.root / "dead.wake"
    wake.touch()
    try:
        dead = world.worker(alive=False, mark=mark, wake_path=str(wake))
        os.setresuid(65534, 65534, 0)  # the real one too: by that the kernel asks for marks and signals
        try:
            assert not recover(world.store, world.settings, world.here)
        finally:
            os.setresuid(0, 0, 0)
        assert leaf.poll() is None
        assert [worker.id for worker in world.store.workers()] == [dead.id]
        assert recover(world.store, world.settings, world.here).killed == 1
        assert leaf.wait(2) == -signal.SIGKILL
        assert world.store.workers() == []
        assert not wake.exists()
    finally:
        leaf.kill()
        leaf.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_what_another_user_was_publishing_is_left_to_that_user(world: World) -> None:
    """INV-LOST: two users of one machine share a store; one may not even look into the other's folder."""
    claim = claimed_by_the_dead(world)
    output = publish_half(world, claim)
    world.root.chmod(0o700)
    os.seteuid(65534)
    try:
        done = recover(world.store, world.settings, world.here, patience=0.0)
    finally:
        os.seteuid(0)
    assert done.still_owned == [claim.job.id]
    assert "belong to another user" in done.left[0]
    assert world.job(claim.job.id).phase is Phase.PUBLISHING
    assert recover(world.store, world.settings, world.here).finished == [claim.job.id]
    assert Path(output.final_path).read_bytes() == b"film"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_what_a_user_may_not_publish_any_more_fails_with_its_reason(world: World) -> None:
    """INV-LOST: the files are this user's own, so nobody else will come for them."""
    claim = claimed_by_the_dead(world)
    output = publish_half(world, claim)
    for path in (*world.root.parents, world.root):
        if path.stat().st_mode & 0o005 != 0o005:
            path.chmod(path.stat().st_mode | 0o055)
    os.chown(output.staged_path, 65534, 65534)
    os.seteuid(65534)
    try:
        done = recover(world.store, world.settings, world.here, patience=0.0)
    finally:
        os.seteuid(0)
    assert done.set_aside == [claim.job.id]
    reason = world.job(claim.job.id).reason
    assert reason is not None
    assert reason.code is ReasonCode.PERMISSION


def test_force_does_not_queue_again_what_its_owner_began_to_publish(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TORN: between the look and the taking its living owner passed the point of no return."""
    world.file("a.mov")
    world.submit(world.ask("a.mov", output_dir="out"))
    claim = world.claim(world.worker())
    [seen] = world.store.live_jobs()
    publish_half(world, claim)
    monkeypatch.setattr(world.store, "live_jobs", lambda host: [seen])
    assert recover(world.store, world.settings, world.here, force=True).still_owned == [claim.job.id]
    assert world.job(claim.job.id).phase is Phase.PUBLISHING
