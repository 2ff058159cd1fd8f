"""gc: whose units go, whose stay, and that nothing of an attempt which has just begun is touched."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.client.world import World
from unjam.jobs.model import Job
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.records import Claim, UnitRecord
from unjam.jobs.states import State, UnitState
from unjam.settings import Settings
from unjam.store import open_store
from unjam.store.port import JobFilter, Store
from unjam.supervise.faults import FaultPoints
from unjam.worker import garbage
from unjam.worker.garbage import collect
from unjam.worker.paths import work_dir
from unjam.worker.shared import WorkerState
from unjam.worker.storeline import StoreLine
from unjam.worker.tidy import tidy
from unjam.worker.tokens import Tokens


def _claimed(world: World, name: str) -> Claim:
    world.file(name)
    world.submit(world.ask(name, output_dir="out"))
    return world.claim(world.worker())


def _commit(world: World, claim: Claim) -> Path:
    """One finished unit, with its file."""
    lease = claim.lease
    unit = work_dir(world.settings, lease.job_id, lease.fence) / "encode" / "whole.mp4"
    unit.parent.mkdir(parents=True)
    unit.write_bytes(b"frames")
    world.store.put_plan(lease, "encode", "digest", {}, host="here")
    world.store.commit_unit(
        lease, UnitRecord("encode", "whole", UnitState.COMMITTED, 1.0, uri=str(unit), size_bytes=6)
    )
    return unit


@pytest.mark.parametrize(
    ("state", "code", "kept"),
    [
        (State.FAILED, ReasonCode.CRASHED, True),
        (State.FAILED, ReasonCode.DISK_FULL, True),
        (State.FAILED, ReasonCode.INPUT_MISSING, True),  # a disk that comes back
        (State.FAILED, ReasonCode.INPUT_BAD, False),
        (State.CANCELLED, ReasonCode.CANCELLED_BY_USER, False),
    ],
)
def test_units_of_ended_jobs(tmp_path: Path, state: State, code: ReasonCode, kept: bool) -> None:
    world = World(tmp_path)
    claim = _claimed(world, "a.mov")
    unit = _commit(world, claim)
    if state is State.CANCELLED:
        world.store.request_cancel([claim.job.id], by="tester")
    world.end(claim, state, code)
    asked = collect(world.store, world.settings, dry_run=True)
    assert unit.exists()
    assert bool(asked.work) is not kept
    collect(world.store, world.settings)
    assert unit.exists() is kept
    # What the store promises to a resumed job is there.
    assert [u.uri for u in world.store.units(claim.job.id)] == [str(unit)] * kept
    assert (
        list(world.settings.work_root.iterdir()) == [work_dir(world.settings, claim.job.id, 1).parent] * kept
    )
    world.store.close()


class _BeginsMeanwhile:
    """The store; at the first look at all jobs another one is claimed and writes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.written: list[Path] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.store, name)

    def list_jobs(self, where: JobFilter, **page: Any) -> list[Job]:
        found = self._world.store.list_jobs(where, **page)
        if not self.written:
            claim = _claimed(self._world, "late.mov")
            log = self._world.settings.log_root / claim.job.id / "1.log"
            part = self._world.root / "out" / f".unjam-{claim.job.id}-f1-1.part"
            log.parent.mkdir(parents=True)
            for path in (log, part):
                path.write_text("growing")
            self.written = [_commit(self._world, claim), log, part]
        return found


def test_an_attempt_that_begins_meanwhile(tmp_path: Path) -> None:
    """INV-KEEP: a list of jobs from before an attempt began does not know it."""
    world = World(tmp_path)
    world.end(_claimed(world, "early.mov"), State.FAILED, ReasonCode.CRASHED)
    store = _BeginsMeanwhile(world)
    as_store: Store = store
    collect(as_store, world.settings)
    assert [path for path in store.written if not path.exists()] == []
    assert len(store.written) == 3
    world.store.close()


def test_folders_that_vanish_or_may_not_be_seen_do_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside running workers, and over outputs on a disk that is failing."""
    world = World(tmp_path)
    claim = _claimed(world, "a.mov")
    world.end(claim, State.SUCCEEDED, ReasonCode.OK)
    claim = _claimed(world, "b.mov")
    world.end(claim, State.FAILED, ReasonCode.CRASHED)
    (world.settings.work_root / claim.job.id / "f1").mkdir(parents=True)
    stray = world.settings.work_root / "j000000000"
    stray.mkdir()
    (stray / "unit").write_bytes(b"x" * 10)
    real = Path.rmdir

    def slower_than_the_worker(folder: Path) -> None:
        real(folder)
        real(folder)

    def failing(folder: Path) -> Any:
        raise OSError(5, "Input/output error", str(folder))

    monkeypatch.setattr(Path, "rmdir", slower_than_the_worker)
    monkeypatch.setattr(garbage, "parts_in", failing)
    report = garbage.collect(world.store, world.settings)
    assert not stray.exists()
    assert report.left == [f"{tmp_path / 'out'}: Input/output error"]
    assert list(world.settings.work_root.iterdir()) == []
    world.store.close()


def test_a_worker_forgets_by_itself_what_is_old_and_only_that(tmp_path: Path) -> None:
    """Folders that no job of this store has may be those of another store in the same home."""
    world = World(tmp_path)
    claim = _claimed(world, "a.mov")
    unit = _commit(world, claim)
    world.end(claim, State.FAILED, ReasonCode.CRASHED)
    world.file("b.mov")
    waiting = world.submit_one(world.ask("b.mov", output_dir="out"))
    strange = work_dir(world.settings, "jstrange", 1)
    strange.mkdir(parents=True)
    assert asyncio.run(_tidied(replace(world.settings, keep_finished_days=0.0))) == 1
    assert world.store.get(claim.job.id) is None
    assert not unit.exists()
    assert strange.is_dir()
    assert world.job(waiting.id).state is State.QUEUED


def test_a_log_folder_that_cannot_be_asked_ends_no_worker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a stale mount, every look at it is an error."""
    world = World(tmp_path)
    claim = _claimed(world, "a.mov")
    world.end(claim, State.FAILED, ReasonCode.CRASHED)
    settings = replace(world.settings, keep_finished_days=0.0, log_root=Path("/" + "x" * 300))
    assert asyncio.run(_tidied(settings)) == 1
    assert "could not be removed (" in capsys.readouterr().err
    assert world.store.get(claim.job.id) is None


async def _tidied(settings: Settings) -> int:
    """What `tidy` tells of one round of a worker."""
    line = StoreLine(lambda: open_store(settings.store), "test")
    await line.start()
    state = WorkerState(
        id="w1", host="here", settings=settings, slots=1, line=line, chores=line,
        launcher=cast(Any, None), tokens=Tokens(settings.home / "tokens"), faults=FaultPoints(None),
    )  # fmt: skip
    forgotten = await tidy(state)
    await line.close()
    return forgotten
