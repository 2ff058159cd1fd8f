"""What the torture counts."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

COMMITTING = ("unit_committed",)
PUBLISHING = ("tree_gone", "verified", "publishing", "renamed")
STARTING = ("claimed", "hello", "begun", "gone")

APART = "outage"
"""Takes the place of the role where the server was away before the jobs that a kill interrupted ran again."""

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
    "jammed": "times when nothing ran though it should",
}


@dataclass(slots=True)
class Tally:
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By role and phase."""
    stops: Counter[str] = field(default_factory=Counter)
    leaves: list[int] = field(default_factory=list)
    """Alive at each kill."""
    clean_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    again_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    in_flight: Counter[str] = field(default_factory=Counter)
    """Attempts that lived at a massacre, by what held them."""
    left: list[int] = field(default_factory=list)
    """Processes of attempts without a namespace that a massacre left, before the next start."""
    left_inside: int = 0
    """Of attempts with a namespace, two seconds after a massacre."""
    left_after: int = 0
    """Of any attempt, after the next start."""
    start_seconds: list[float] = field(default_factory=list)
    """From a massacre's next start until a worker was ready and nothing was left."""
    containment: Counter[str] = field(default_factory=Counter)
    """Attempts by what held them, as the kernel says."""
    units: Counter[str] = field(default_factory=Counter)
    """committed, reused, interrupted."""
    survived: Counter[str] = field(default_factory=Counter)
    """Attempts when the server was struck, and that no other kill hit: what became of them."""
    jobs: int = 0
    attempts: int = 0
    faults: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FAULTS})

    def fault(self, kind: str, sentences: Iterable[str]) -> None:
        self.faults[kind] += sentences

    @property
    def bad(self) -> int:
        return sum(map(len, self.faults.values()))

    def of_role(self, role: str) -> int:
        return sum(n for (who, _), n in self.kills.items() if who == role)

    def of_phase(self, phase: str) -> int:
        return sum(n for (_, when), n in self.kills.items() if when == phase)

    @property
    def massacres(self) -> int:
        return self.of_role("all") + self.of_role("branch")
