"""Stages, plans and units over a channel that remembers."""

import hashlib
from pathlib import Path

import pytest

from unjam.jobs.messages import UnitCommitted, UnitsDeclared
from unjam.pipelines.context import Context
from unjam.pipelines.stage import Stopped, UnitSpec
from unjam.pipelines.testing import MemoryChannel, local_context


def specs(*names: str) -> list[UnitSpec]:
    return [UnitSpec(name, suffix=".txt") for name in names]


def work(ctx: Context, names: str, plan: dict[str, object], until: int = 99) -> list[str]:
    """Do units of one stage, at most `until`; the names done."""
    done: list[str] = []
    with ctx.stage("s") as stage:
        stage.plan(plan)
        for unit in stage.units(specs(*names)):
            if len(done) == until:
                break
            unit.path.write_text(unit.name)
            unit.commit()
            done.append(unit.name)
    return done


def test_committed_units_are_not_done_again(tmp_path: Path) -> None:
    """INV-KEEP"""
    channel = MemoryChannel()
    assert work(local_context(tmp_path, None, None, channel), "abcd", {"v": 1}, until=2) == ["a", "b"]
    again = local_context(tmp_path / "2", None, None, channel)
    assert work(again, "abcd", {"v": 1}) == ["c", "d"]
    assert [m for m in channel.sent if isinstance(m, UnitsDeclared)] == [
        UnitsDeclared("s", 4, 0),
        UnitsDeclared("s", 4, 2),
    ]


def test_another_plan_voids_them(tmp_path: Path) -> None:
    channel = MemoryChannel()
    work(local_context(tmp_path, None, None, channel), "ab", {"v": 1})
    assert work(local_context(tmp_path, None, None, channel), "ab", {"v": 2}) == ["a", "b"]


def test_a_revised_plan_keeps_them(tmp_path: Path) -> None:
    channel = MemoryChannel()
    work(local_context(tmp_path, None, None, channel), "ab", {"v": 1})
    with local_context(tmp_path, None, None, channel).stage("s") as stage:
        assert stage.plan({"v": 2}, revise=True) == {"v": 2}
        assert set(stage.committed) == {"a", "b"}


@pytest.mark.parametrize("harm", [Path.unlink, lambda p: p.write_text("torn")])
def test_a_row_without_its_whole_file_is_void(
    tmp_path: Path, harm: object, capfd: pytest.CaptureFixture[str]
) -> None:
    channel = MemoryChannel()
    work(local_context(tmp_path, None, None, channel), "ab", {"v": 1})
    assert callable(harm)
    harm(Path(str(channel.units["s"]["a"].uri)))
    assert work(local_context(tmp_path, None, None, channel), "ab", {"v": 1}) == ["a"]
    assert "unit a has lost its file" in capfd.readouterr().err


def test_a_commit_tells_size_and_digest(tmp_path: Path) -> None:
    channel = MemoryChannel()
    work(local_context(tmp_path, None, None, channel), "a", {})
    unit = next(m for m in channel.sent if isinstance(m, UnitCommitted))
    assert (unit.size_bytes, unit.sha256) == (1, hashlib.sha256(b"a").hexdigest())


def test_a_unit_may_be_a_result_without_a_file(tmp_path: Path) -> None:
    channel = MemoryChannel()
    for _ in range(2):
        with local_context(tmp_path, None, None, channel).stage("s") as stage:
            stage.plan({})
            for unit in stage.units(specs("a")):
                unit.commit({"loudness": -16})
    assert stage.committed["a"].result == {"loudness": -16}
    assert len([m for m in channel.sent if isinstance(m, UnitCommitted)]) == 1


def test_a_stop_rides_on_the_answer_to_a_commit(tmp_path: Path) -> None:
    channel = MemoryChannel()
    channel.stop_at_commit = "pause"
    with pytest.raises(Stopped, match="pause"):
        work(local_context(tmp_path, None, None, channel), "ab", {})
    assert list(channel.units["s"]) == ["a"], "what was committed before the stop stays"


def test_a_stop_cannot_be_swallowed_by_a_pipeline(tmp_path: Path) -> None:
    assert not issubclass(Stopped, Exception)


def test_progress_counts_units_by_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unjam.pipelines.stage.REPORT_EVERY", 0.0)
    channel = MemoryChannel()
    with local_context(tmp_path, None, None, channel).stage("s") as stage:
        stage.plan({})
        for unit in stage.units([UnitSpec("a", weight=3), UnitSpec("b", weight=1)]):
            unit.progress(0.5, evidence="7", message="half")
            unit.commit({})
        stage.progress(7.0, evidence="end")
    a, b, end = channel.progress("s")
    assert (a.fraction, a.unit, a.unit_fraction, a.evidence, a.message) == (0.375, "a", 0.5, "a:7", "half")
    assert (b.fraction, b.unit, b.evidence) == (0.875, "b", "b:7")
    assert end.fraction == 1.0


def test_progress_is_not_sent_for_every_frame(tmp_path: Path) -> None:
    channel = MemoryChannel()
    with local_context(tmp_path, None, None, channel).stage("s") as stage:
        for number in range(5000):
            stage.progress(number / 5000, evidence=str(number))
        stage.progress(1.0, evidence="5000")
    said = channel.progress("s")
    assert len(said) < 500
    assert said[-1].fraction == 1.0, "the end is always told"
