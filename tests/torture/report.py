"""The block that a run of the torture prints at its end: counts, times, and the machine they are of."""

import os
import platform
import statistics
from collections.abc import Iterator, Sequence

from tests.torture.server import KINDS
from tests.torture.tally import APART, COMMITTING, FAULTS, PUBLISHING, Tally

FAULTS_SHOWN = 10
_NO_SUM = (*KINDS, APART)
"""Their times are those of a server: how long it was away, and until a unit was committed again."""


def show(tally: Tally, head: str, seconds: float) -> str:
    """The whole block. `head`: what was run; `seconds`: how long."""
    blocks = [[head], [*_times(tally)], [*_phases(tally)], [*_facts(tally, seconds)], [*_faults(tally)]]
    return "\n\n".join("\n".join(block) for block in blocks)


def _roles(tally: Tally) -> list[str]:
    seen = {*tally.stops, *tally.again_seconds, *(role for role, _ in tally.kills)}
    return sorted(seen, key=lambda role: (role in _NO_SUM, -tally.of_role(role), role))


def _times(tally: Tally) -> Iterator[str]:
    yield f"{'role':10}{'kills':>6}{'stops':>7}   {'clean, ms':>16}   {'user code again, s':>20}"
    yield f"{'':23}   {'p50':>8}{'max':>8}   {'p50':>11}{'max':>9}"
    for role in _roles(tally):
        yield _row(
            role,
            (tally.of_role(role), tally.stops[role]),
            tally.clean_seconds[role],
            tally.again_seconds[role],
        )
    every_clean = [s for role, values in tally.clean_seconds.items() if role not in _NO_SUM for s in values]
    every_again = [s for role, values in tally.again_seconds.items() if role not in _NO_SUM for s in values]
    yield _row("sum", (tally.kills.total(), tally.stops.total()), every_clean, every_again)


def _row(name: str, counts: tuple[int, int], clean: Sequence[float], again: Sequence[float]) -> str:
    c, a = _p50_max([1e3 * s for s in clean], "{:.0f}"), _p50_max(again, "{:.2f}")
    return f"{name:10}{counts[0]:>6}{counts[1]:>7}   {c[0]:>8}{c[1]:>8}   {a[0]:>11}{a[1]:>9}"


def _phases(tally: Tally) -> Iterator[str]:
    """Which role was killed in which phase."""
    roles = [role for role in _roles(tally) if tally.of_role(role)]
    phases = sorted({phase for _, phase in tally.kills}, key=lambda p: (-tally.of_phase(p), p))
    yield f"{'killed in':18}" + "".join(f"{role:>10}" for role in roles) + f"{'sum':>7}"
    for phase in phases:
        counts = "".join(f"{tally.kills[role, phase] or '-':>10}" for role in roles)
        yield f"{phase:18}{counts}{tally.of_phase(phase):>7}"


def _facts(tally: Tally, seconds: float) -> Iterator[str]:
    aimed = sum(tally.of_phase(point) for point in (*COMMITTING, *PUBLISHING))
    yield (
        f"while committing or publishing: {100 * aimed / max(1, tally.kills.total()):.0f} % of the kills; "
        f"leaves alive at a kill: {statistics.fmean(tally.leaves or [0]):.1f} on average"
    )
    yield f"{tally.jobs} jobs, {tally.attempts} attempts (held by {_counts(tally.containment)})"
    yield f"units: {_counts(tally.units)}"
    if tally.survived:
        yield f"attempts when the server was struck: {_counts(tally.survived)}"
    if tally.massacres:
        start = _p50_max(tally.start_seconds, "{:.1f}")
        branch, again = tally.of_role("branch"), tally.of_phase("restarting")
        yield (
            f"massacres: {tally.massacres} ({branch} of one keeper's branch, {again} of what was just "
            f"starting again), with attempts in flight: {_counts(tally.in_flight)}"
        )
        yield (
            f"processes left by them: pidns {tally.left_inside}, tree {sum(tally.left)} (most at once "
            f"{max(tally.left, default=0)}); after the next start (p50 {start[0]} s, max {start[1]} s): "
            f"{tally.left_after}"
        )
    machine = (
        f"{len(os.sched_getaffinity(0))} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    )
    yield f"{seconds:.0f} s, load {os.getloadavg()[0]:.1f} on {machine}"


def _faults(tally: Tally) -> Iterator[str]:
    for name, meaning in FAULTS.items():
        found = tally.faults[name]
        yield f"{name:11}{len(found):>4}   {meaning}"
        yield from (f"{'':18}! {sentence}" for sentence in found[:FAULTS_SHOWN])


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counter.items()) or "none"


def _p50_max(values: Sequence[float], form: str) -> tuple[str, str]:
    if not values:
        return "-", "-"
    return form.format(statistics.median(values)), form.format(max(values))
