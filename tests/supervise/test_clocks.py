"""Deadline, lease and grace on an injected clock."""

import math

from unjam.supervise.clocks import LEASE_GRACE, LEASE_KILL_MARGIN, Clocks, Verdict


def started(deadline: float | None = 10.0, grace: float = 5.0, lease_until: float = math.inf) -> Clocks:
    clocks = Clocks(deadline, grace)
    clocks.go(lease_until, now=100.0)
    return clocks


def test_nothing_is_due_without_limits() -> None:
    assert started(deadline=None).act(1e9) == Verdict(None, False, math.inf)


def test_the_deadline_asks_and_the_grace_kills() -> None:
    clocks = started()
    assert clocks.act(109.9) == Verdict(None, False, 110.0)
    assert clocks.act(110.0) == Verdict("deadline", False, 115.0)
    assert clocks.act(115.0).kill


def test_the_lease_ends_the_tree_before_it_runs_out() -> None:
    """INV-ONCE: who takes the job next must not meet this attempt."""
    clocks = started(deadline=None, lease_until=200.0)
    ask_at, kill_at = 200.0 - LEASE_KILL_MARGIN - LEASE_GRACE, 200.0 - LEASE_KILL_MARGIN
    assert clocks.act(ask_at - 0.1) == Verdict(None, False, ask_at)
    assert clocks.act(ask_at) == Verdict("lease", False, kill_at)
    assert clocks.act(kill_at).kill


def test_a_renewal_moves_the_end_of_the_lease() -> None:
    clocks = started(deadline=None, lease_until=200.0)
    clocks.renew(230.0)
    assert clocks.act(199.0).ask is None
    clocks.renew(210.0)
    assert clocks.act(211.0).ask is None, "an older renewal that arrives late must not shorten the lease"


def test_a_renewal_after_the_end_was_asked_saves_nobody() -> None:
    clocks = started(deadline=None, lease_until=200.0)
    clocks.act(198.0)
    clocks.renew(300.0)
    assert clocks.act(199.5).kill


def test_a_lease_that_ran_out_during_suspend_kills_at_once() -> None:
    verdict = started(deadline=None, lease_until=200.0).act(5000.0)
    assert verdict.ask == "lease"
    assert verdict.kill


def test_a_long_grace_never_outlives_the_lease() -> None:
    clocks = started(deadline=None, lease_until=200.0)
    clocks.stop(150.0, grace=600.0)
    clocks.act(197.0)
    assert clocks.act(199.0).kill


def test_the_shorter_of_two_graces_counts() -> None:
    clocks = started(deadline=None)
    clocks.stop(100.0, grace=50.0)
    clocks.stop(101.0, grace=1.0)
    assert not clocks.act(101.9).kill
    assert clocks.act(102.0).kill
