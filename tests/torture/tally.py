"""What the torture counts, and the table it prints."""

import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

COMMITTING = ("unit_committed",)
PUBLISHING = ("tree_gone", "verified", "publishing", "renamed")
STARTING = ("claimed", "hello", "begun", "gone")

FAULTS = {
    "orphans": "processes alive 2 s after they should be gone",
    "lost": "jobs that did not end well",
    "doubled": "units committed or outputs published twice",
    "redone": "committed units worked on again",
    "torn": "outputs that were not whole at some moment",
    "overlaps": "two attempts of one job at work at once",
    "strangers": "innocent processes signalled",
    "collateral": "attempts ended by a kill that was none of theirs",
    "locks": "jobs or slots still held at the end",
    "strays": "files left after gc",
    "internal": "tracebacks and internal errors in logs",
    "gave up": "keepers that ended unasked",
}


@dataclass(slots=True)
class Tally:
    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    leaves: list[int] = field(default_factory=list)
    clean_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    again_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FAULTS})

    def fault(self, kind: str, sentences: Sequence[str]) -> None:
        self.faults[kind] += sentences

    @property
    def bad(self) -> int:
        return sum(map(len, self.faults.values()))

    @property
    def aimed_share(self) -> float:
        """Share of the kills that hit a commit or a publication in the act."""
        aimed = sum(self.phases[point] for point in (*COMMITTING, *PUBLISHING))
        return aimed / max(1, self.phases.total())


def show(tally: Tally, head: str, jobs: int, attempts: int, seconds: float) -> str:
    rows = [head, "", f"{'role':10}{'kills':>6}{'stops':>7}   {'clean, ms':>16}   {'user code again, s':>20}"]
    rows.append(f"{'':10}{'':>6}{'':>7}   {'p50':>8}{'max':>8}   {'p50':>11}{'max':>9}")
    for role in sorted({*tally.kills, *tally.stops}, key=lambda r: -tally.kills[r]):
        clean = _p50_max([1e3 * s for s in tally.clean_seconds[role]], "{:.0f}")
        again = _p50_max(tally.again_seconds[role], "{:.2f}")
        counts = f"{role:10}{tally.kills[role]:>6}{tally.stops[role]:>7}"
        rows.append(f"{counts}   {clean[0]:>8}{clean[1]:>8}   {again[0]:>11}{again[1]:>9}")
    every_clean = [1e3 * s for values in tally.clean_seconds.values() for s in values]
    every_again = [s for values in tally.again_seconds.values() for s in values]
    clean, again = _p50_max(every_clean, "{:.0f}"), _p50_max(every_again, "{:.2f}")
    total = f"{'all':10}{tally.kills.total():>6}{tally.stops.total():>7}"
    rows.append(f"{total}   {clean[0]:>8}{clean[1]:>8}   {again[0]:>11}{again[1]:>9}")
    rows += ["", "phase at the kill: " + ", ".join(f"{name} {n}" for name, n in tally.phases.most_common())]
    rows.append(
        f"while committing or publishing: {100 * tally.aimed_share:.0f} % of the kills; "
        f"leaves alive at a kill: {statistics.fmean(tally.leaves or [0]):.1f} on average"
    )
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    rows.append(f"{jobs} jobs, {attempts} attempts, {seconds:.0f} s, {load}")
    rows.append("")
    for name, meaning in FAULTS.items():
        found = tally.faults[name]
        rows.append(f"{name:11}{len(found):>4}   {meaning}")
        rows += [f"{'':18}! {sentence}" for sentence in found[:10]]
    return "\n".join(rows)


def _p50_max(values: Sequence[float], form: str) -> tuple[str, str]:
    if not values:
        return "-", "-"
    return form.format(statistics.median(values)), form.format(max(values))
