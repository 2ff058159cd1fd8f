"""Progress never falls, never says done too early, and the time left is about right."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjam.jobs.progress import ETA_AFTER, JobProgress

stages = st.dictionaries(st.sampled_from("abcd"), st.floats(0, 10), max_size=4)
updates = st.lists(
    st.tuples(st.sampled_from("abcdxyz"), st.floats(-1, 2) | st.just(math.nan), st.floats(0, 5)), max_size=80
)


@given(stages, updates, st.dictionaries(st.sampled_from("xyz"), st.floats(0, 10)))
def test_progress_is_monotone_and_below_one_until_published(
    weights: dict[str, float], reports: list[tuple[str, float, float]], late: dict[str, float]
) -> None:
    progress = JobProgress(weights)
    now, before = 0.0, 0.0
    for number, (stage, fraction, seconds) in enumerate(reports):
        if number == len(reports) // 2:
            for name, weight in late.items():
                progress.add_stage(name, weight)
        now += seconds
        value = progress.update(stage, fraction, now)
        assert before <= value < 1
        left = progress.eta(now)
        assert left is None or left >= 0
        before = value
    progress.publish()
    assert progress.value == 1.0
    assert progress.eta(now) == 0


def test_stages_count_by_their_weight() -> None:
    progress = JobProgress({"probe": 1, "encode": 8, "verify": 1})
    assert progress.update("probe", 1, 0) == pytest.approx(0.1)
    assert progress.update("encode", 0.5, 1) == pytest.approx(0.5)
    assert progress.fraction("verify") == 0


def test_stages_that_report_themselves_share_the_whole() -> None:
    progress = JobProgress()
    progress.add_stage("a", 0.25)
    assert progress.update("a", 1, 0) == pytest.approx(0.25)
    progress.add_stage("b", 0.75)
    assert progress.update("b", 1, 1) == pytest.approx(0.999)


@pytest.mark.parametrize("step", [1, 5, 20])
def test_the_eta_of_constant_work_is_right_within_a_quarter_after_a_fifth(step: int) -> None:
    """Also where progress comes in jumps of committed units: `step` of 200 s at once."""
    progress, total = JobProgress({"encode": 1}), 200
    checked = 0
    for second in range(total):
        progress.update("encode", second // step * step / total, second)
        left = progress.eta(second)
        if second >= max(total / 5, 3 * step):
            assert left == pytest.approx(total - second, rel=0.25, abs=2 * step)
            checked += 1
    assert checked > 50


def test_reused_units_do_not_promise_a_speed() -> None:
    progress = JobProgress({"encode": 1})
    progress.start_at("encode", 0.8, 100)
    assert progress.eta(100 + ETA_AFTER) is None
    for second in range(1, 21):
        progress.update("encode", 0.8 + second * 0.001, 100 + second)
    assert progress.eta(120) == pytest.approx(180, rel=0.1)


def test_no_eta_before_anything_was_seen() -> None:
    progress = JobProgress({"encode": 1})
    progress.update("encode", 0.5, 0)
    assert progress.eta(ETA_AFTER - 0.1) is None


def test_a_day_of_updates_takes_no_memory() -> None:
    progress = JobProgress({"encode": 1})
    for second in range(43_201):
        progress.update("encode", second / 86_400, second)
    assert len(progress._advances) <= 256
    assert progress.eta(43_200) == pytest.approx(43_200, rel=0.01)


def test_work_that_stops_coming_takes_longer_and_longer() -> None:
    progress = JobProgress({"encode": 1})
    for second in range(101):
        progress.update("encode", second / 200, second)
    soon, later = progress.eta(101), progress.eta(400)
    assert soon is not None
    assert later is not None
    assert later > 3 * soon
