"""INV-STALL: a tree that lives but does not advance is noticed, from evidence, also when it burns CPU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjam.jobs import stall
from unjam.jobs.stall import BUSY_FACTOR, WINDOW, StallClock, StallLimits


def watch(clock: StallClock, *, until: float, cores: float, start: float = 0.0) -> float | None:
    """Feed one CPU sample a second; the moment of the first stall."""
    now = start
    while now < until:
        clock.cpu(now, cores * now)
        if clock.check(now).stalled:
            return now
        now += 1
    return None


def test_an_idle_tree_stalls_at_the_idle_limit() -> None:
    assert watch(StallClock(StallLimits(120, 600), now=0), until=1000, cores=0.0) == 120


def test_a_spinning_tree_stalls_at_the_busy_limit() -> None:
    assert watch(StallClock(StallLimits(120, 600), now=0), until=1000, cores=1.0) == 600


def test_a_busy_tree_that_falls_asleep_is_judged_as_idle_after_one_window() -> None:
    clock = StallClock(StallLimits(120, 600), now=0)
    assert watch(clock, until=300, cores=1.0) is None
    for second in range(300, 320):
        clock.cpu(second, 299.0)
        if clock.check(second).stalled:
            break
    assert second - 300 <= WINDOW


def test_the_same_evidence_again_is_no_advance() -> None:
    clock = StallClock(StallLimits(30, 60), now=0)
    assert clock.advance(1, "frame=7")
    assert not clock.advance(20, "frame=7")
    assert clock.check(31).stalled
    assert clock.advance(32, "frame=8")
    assert not clock.check(32).stalled


@given(
    st.lists(st.tuples(st.floats(0.1, 20), st.floats(0, 4), st.booleans()), min_size=1, max_size=60),
    st.floats(1, 100),
    st.floats(1, 10),
)
def test_cpu_never_moves_the_clock(
    steps: list[tuple[float, float, bool]], stall_after: float, factor: float
) -> None:
    limits = StallLimits.of(stall_after, stall_after * factor)
    clock = StallClock(limits, now=0)
    now, used, advanced, count = 0.0, 0.0, 0.0, 0
    for seconds, cores, advances in steps:
        now += seconds
        used += seconds * cores
        clock.cpu(now, used)
        if advances:
            count += 1
            clock.advance(now, str(count))
            advanced = now
        verdict = clock.check(now)
        silent = now - advanced
        assert clock.advanced_at == advanced
        assert not (verdict.stalled and silent < limits.stall_after)
        assert verdict.stalled or silent < limits.busy_after
        assert verdict.stalled == (verdict.seconds_left == 0)


def test_a_child_that_takes_its_cpu_time_away_does_not_look_idle_or_busy() -> None:
    clock = StallClock(StallLimits(10, 100), now=0)
    for now, seconds in enumerate([0, 50, 51, 1, 2, 3]):
        clock.cpu(now, seconds)
    assert 0 < clock.cpu_share < 50
    assert "CPU -" not in clock.check(5).evidence


def test_the_evidence_is_a_sentence_a_person_understands() -> None:
    clock = StallClock(StallLimits(120, 600), now=0, what="frame")
    verdict = clock.check(120)
    assert verdict.evidence == "no new frame for 120 s, CPU 0 %"
    assert clock.check(100).seconds_left == 20


@pytest.mark.parametrize("limit", [stall.PROBE, stall.ENCODE, stall.mux(5_000_000_000)])
def test_the_busy_limit_is_never_below_the_idle_one(limit: float) -> None:
    assert StallLimits.of(limit).busy_after == limit * BUSY_FACTOR
    assert StallLimits.of(limit, limit / 2).busy_after == limit


def test_a_machine_that_slept_makes_nobody_silent() -> None:
    """INV-STALL: what was silent before goes on to count, the time asleep does not."""
    clock = StallClock(StallLimits.of(30.0), now=0.0)
    clock.skip(3620.0, 3600.0)
    assert not clock.check(3620.0).stalled
    assert clock.check(3629.0).seconds_left == 1.0
    assert clock.check(3630.0).stalled


def test_what_advanced_just_after_the_sleep_is_not_ahead_of_time() -> None:
    """Its message may be heard before anybody has seen how late it is."""
    clock = StallClock(StallLimits.of(30.0), now=0.0)
    clock.advance(3620.0, "frame 7")
    clock.skip(3620.0, 3600.0)
    assert clock.check(3650.0).stalled
