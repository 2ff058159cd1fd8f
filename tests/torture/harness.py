"""One run of the torture: whom to kill, when and where; what must then be gone."""

import random
import signal
import time
from collections.abc import Callable

from tests.torture import census as look
from tests.torture import ledger, names
from tests.torture.bystanders import Bystander
from tests.torture.census import Census, Doomed, Proc
from tests.torture.rig import GRACE, LEASE_TTL, Rig, Slot
from tests.torture.tally import COMMITTING, PUBLISHING, STARTING, Tally
from tests.torture.verdict import finish
from tests.torture.watch import Hit, Watch
from unjam.supervise.kill import kill_my_children
from unjam.supervise.mark import get_mark

ORPHAN_LIMIT = 2.0
"""Seconds that INV-ORPHAN grants."""
SWEEP_LIMIT = 8.0
"""Seconds from the next start until nothing of a total kill may be left: a worker's start, mostly."""
READY_LIMIT = 30.0

RANDOM_ROLES = {
    "worker": 30,
    "guardian": 18,
    "attempt": 16,
    "keeper": 9,
    "zygote": 9,
    "ns-init": 10,
    "all": 8,
}
AIMED_ROLES = {"worker": 60, "guardian": 8, "attempt": 8, "keeper": 9, "zygote": 5, "all": 10}
STOP_ROLES = {"worker": 40, "guardian": 25, "attempt": 15, "zygote": 10, "ns-init": 10, "keeper": 10}
POINTS = {
    **dict.fromkeys(COMMITTING, 30),
    **dict.fromkeys(PUBLISHING, 13),
    **dict.fromkeys(STARTING, 4),
    "ended": 2,
}
AIMED_SHARE, EARLY_SHARE, STOP_SHARE = 0.5, 0.1, 0.1


class Harness:
    """Owns the loop. Everything below this process belongs to the system under torture."""

    def __init__(
        self, rig: Rig, rng: random.Random, bystanders: list[Bystander], say: Callable[[str], None]
    ) -> None:
        self.rig = rig
        self.rng = rng
        self.tally = Tally()
        self.watch = Watch(rig, self.tally, bystanders, lambda: (rng.randint(3, 8), rng.uniform(0.05, 0.35)))
        self._say = say
        self._bystanders = bystanders
        self._bystanding: set[str] = set()
        """Attempts of a worker whose zygote was killed: they must not notice."""
        self._hit: set[str] = set()

    # -- the run --------------------------------------------------------------------------------------------
    def run(self, kills: int) -> None:
        try:
            while (done := self.tally.kills.total()) < kills:
                self._say(f"{done}/{kills}: {self._one()}")
            unharmed = self._bystanding - self._hit
            finish(self.rig, self.watch, self.tally, self._bystanders, unharmed, self._say)
        finally:
            kill_my_children(limit=10)

    def _one(self) -> str:
        self.watch.keep_up()
        chance = self.rng.random()
        if chance < STOP_SHARE:
            return self._stop_one()
        if chance < STOP_SHARE + AIMED_SHARE:
            aimed = self._aimed()
            if aimed is not None:
                return aimed
        elif chance < STOP_SHARE + AIMED_SHARE + EARLY_SHARE:
            self.watch.wait(lambda: bool(self.watch.census().of("worker")), READY_LIMIT)
            self.watch.pause(self.rng.random() * 0.4)
            return self._strike(self._choose(RANDOM_ROLES), "early")
        self._steady()
        self.watch.pause(self.rng.random() * 0.6)
        return self._strike(self._choose(RANDOM_ROLES), "working")

    def _steady(self) -> None:
        """Until user code runs and its leaves have grown: a kill before that proves little."""
        wanted = 4 * len(self.rig.slots)
        if not self.watch.wait(lambda: self.watch.census().leaves() >= wanted, READY_LIMIT):
            self._say(f"    only {self.watch.census().leaves()} leaves after {READY_LIMIT:g} s")

    # -- killing --------------------------------------------------------------------------------------------
    def _choose(self, weights: dict[str, int]) -> str:
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def _aimed(self) -> str | None:
        """Hold a worker at a fault point, kill it or a relative of it right there. None: nobody came by."""
        slot, point = self.rng.choice(self.rig.slots), self._choose(POINTS)
        hold = slot.faults / point
        hold.touch()
        try:
            if not self.watch.wait(lambda: any(self._held_at(slot, point)), 8.0):
                return None
            if point in COMMITTING:
                self._note_held_unit(slot)
            self.watch.poll()
            self.watch.pause(self.rng.choice([0.0, 0.0, 0.05, 0.2]))
            return self._strike(self._choose(AIMED_ROLES), point, slot)
        finally:
            self.rig.release()

    def _held_at(self, slot: Slot, point: str) -> list[Proc]:
        """The living worker that says it waits there."""
        pids = {int(path.name.rpartition(".")[2]) for path in slot.faults.glob(f"{point}.at.*")}
        if not pids:
            return []
        return [proc for proc in self.watch.census().of("worker", slot.number) if proc.pid in pids]

    def _note_held_unit(self, slot: Slot) -> None:
        """The store has this unit though the attempt was not told: it must not be done again."""
        self.watch.poll()
        names_here = {p.attempt for p in self.watch.census().of("attempt", slot.number)}
        sealed = [
            line
            for line in self.watch.last.values()
            if line.kind == "seal" and names.attempt_name(line.job, line.attempt) in names_here
        ]
        if len(sealed) == 1:  # of two only one may be held
            pen = ledger.Pen(self.rig.folder, sealed[0].job, sealed[0].attempt)
            pen.write("held", sealed[0].unit)
            pen.close()

    def _strike(self, role: str, phase: str, slot: Slot | None = None) -> str:
        census = self.watch.census()
        if role == "all":
            return self._massacre(census, phase)
        found = census.of(role, slot.number if slot else None)
        if not found:
            role = "worker"
            found = (
                census.of(role, slot.number if slot else None) or census.of("worker") or census.of("keeper")
            )
        victim = self.rng.choice(found)
        doomed, attempts = self._doom(census, victim)
        at = self._count(victim.role, phase, census, attempts)
        if victim.role == "keeper":
            self._mark_killed(victim)
        look.send(victim, signal.SIGKILL)
        # Whoever takes over must not be held where its predecessor died.
        self.rig.release()
        return self._until_clean(victim.role, phase, doomed, at)

    def _doom(self, census: Census, victim: Proc) -> tuple[Doomed, set[str]]:
        """What must end with this process, and the attempts that it takes along."""
        doomed = Doomed(self.rig.run)
        match victim.role:
            case "zygote":
                doomed.keys.add(victim.key)
                self._bystanding |= {p.attempt for p in census.of("attempt", victim.slot) if p.attempt}
            case "attempt" | "ns-init" | "guardian":
                guardian = census.guardian_of(victim)
                doomed.add(census.tree(guardian or victim))
            case _:
                tree = census.tree(victim)
                doomed.add(tree)
                doomed.marks |= {mark for p in tree if (mark := get_mark(p.pid)) is not None}
        return doomed, set(doomed.attempts)

    def _massacre(self, census: Census, phase: str) -> str:
        """Everything of ours in one loop; the leaves are left to the kernel, or to the next start."""
        inside, outside = Doomed(self.rig.run), Doomed(self.rig.run)
        for guardian in census.of("guardian"):
            tree = census.tree(guardian)
            (inside if any(p.role == "ns-init" for p in tree) else outside).add(tree)
        ours = [p for p in census.procs.values() if p.role not in ("leaf", "other")]
        at = self._count("all", phase, census, inside.attempts | outside.attempts)
        self.rng.shuffle(ours)
        while ours:
            for slot in self.rig.slots:
                slot.killed = True
            for proc in ours:
                look.send(proc, signal.SIGKILL)
            self.rig.release()
            ours = [p for p in self.watch.census().procs.values() if p.role not in ("leaf", "other")]
        first = self._until_clean("all", phase, inside, at)
        self.rig.tend()
        # INV-ORPHAN: without a namespace the next start's sweep ends what is left.
        late = self.watch.wait_gone(outside, SWEEP_LIMIT)
        self.tally.fault(
            "orphans", [f"all, {phase}: not swept by the next start: {what}" for what in late.values()]
        )
        look.kill_all(late)
        return f"{first}; {len(outside.attempts)} attempt(s) without a namespace swept at the next start"

    def _stop_one(self) -> str:
        """SIGSTOP somebody for a while. A frozen worker must not keep its attempts beyond their leases."""
        self._steady()
        census = self.watch.census()
        found = census.of(self._choose(STOP_ROLES)) or census.of("worker")
        victim = self.rng.choice(found)
        doomed, attempts = self._doom(census, victim)
        self._hit |= attempts
        self.tally.stops[victim.role] += 1
        look.send(victim, signal.SIGSTOP)
        try:
            if victim.role == "guardian" and self.rng.random() < 0.5:
                return self._kill_above_stopped(census, victim)
            lease_over = float(LEASE_TTL) + float(GRACE) + 1.0
            seconds = (
                lease_over
                if victim.role == "worker" and self.rng.random() < 0.5
                else self.rng.uniform(0.1, 2)
            )
            self.watch.pause(seconds)
            told = f"stop {victim.role} for {seconds:.1f} s"
            if seconds == lease_over:
                doomed.marks.clear()
                doomed.keys = {p.key for g in census.of("guardian", victim.slot) for p in census.tree(g)}
                late = doomed.alive(self.watch.spared)
                self.tally.fault("orphans", [f"{told}: beyond its lease: {what}" for what in late.values()])
            return told
        finally:
            look.send(victim, signal.SIGCONT)

    def _kill_above_stopped(self, census: Census, guardian: Proc) -> str:
        """The worker dies while the guardian is frozen: the kernel wakes the guardian to clean up."""
        worker = census.procs[guardian.parent]
        doomed, attempts = self._doom(census, worker)
        at = self._count(worker.role, "guardian stopped", census, attempts)
        look.send(worker, signal.SIGKILL)
        return self._until_clean(worker.role, "guardian stopped", doomed, at)

    def _count(self, role: str, phase: str, census: Census, attempts: set[str]) -> float:
        self.tally.kills[role] += 1
        self.tally.phases[phase] += 1
        self.tally.leaves.append(census.leaves())
        at = time.monotonic()
        hit = Hit(role, at)
        for name in attempts:
            job, _, attempt = name.partition("/")
            hit.attempts[job] = int(attempt)
        if hit.attempts:
            self.watch.hits.append(hit)
        self._hit |= attempts
        return at

    def _mark_killed(self, keeper: Proc) -> None:
        for slot in self.rig.slots:
            if slot.pid == keeper.pid:
                slot.killed = True

    # -- what must be gone ----------------------------------------------------------------------------------
    def _until_clean(self, role: str, phase: str, doomed: Doomed, at: float) -> str:
        # A worker whose keeper died drains: its attempts have their grace before the two seconds begin.
        limit = ORPHAN_LIMIT + (float(GRACE) if role == "keeper" else 0.0)
        late = self.watch.wait_gone(doomed, limit - (time.monotonic() - at))
        seconds = time.monotonic() - at
        if late:
            self.tally.fault("orphans", [f"{role}, {phase}: {what}" for what in late.values()])
            look.kill_all(late)
            return f"kill {role} ({phase}): {len(late)} ORPHANS"
        self.tally.clean_seconds[role].append(seconds)
        return f"kill {role} ({phase}): clean after {1e3 * seconds:.0f} ms"

    @property
    def attempts(self) -> int:
        return sum(1 for line in self.watch.ledger.lines if line.kind == "begin")
