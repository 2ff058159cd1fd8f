"""One run of the torture: whom to kill, when and where."""

import random
import signal
from collections.abc import Callable

from tests.torture import census as look
from tests.torture import ledger, names
from tests.torture.bystanders import Bystander
from tests.torture.census import Proc
from tests.torture.outage import Outages
from tests.torture.rig import GRACE, LEASE_TTL, Rig, Slot
from tests.torture.server import Remote
from tests.torture.strike import Striker
from tests.torture.tally import COMMITTING, PUBLISHING, STARTING, Tally
from tests.torture.verdict import finish
from tests.torture.watch import Watch
from unjam.supervise.kill import kill_my_children

READY_LIMIT = 30.0
LEAVES_EACH = 4
"""One attempt has five; the fifth changes its pid all the time and may be missed."""

RANDOM_ROLES = {
    "worker": 30,
    "guardian": 18,
    "attempt": 16,
    "keeper": 9,
    "zygote": 9,
    "ns-init": 10,
    "branch": 8,
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
SERVER = "server"
AIMED_SHARE, EARLY_SHARE, STOP_SHARE = 0.5, 0.1, 0.1
WITHIN_SHARE = 0.6
"""Of the aimed blows at the server."""
YOUNG_SHARE, AGAIN_SHARE = 0.25, 0.4
"""Share of the massacres that come as soon as something is in flight, not when all leaves have grown; and, of
the others, share of those after which the next start is killed while it clears up."""


class Jammed(Exception):
    """Jobs wait, and nothing runs: there is nobody to torture."""


class Harness:
    """Owns the loop. Everything below this process belongs to the system under torture."""

    def __init__(
        self,
        rig: Rig,
        rng: random.Random,
        bystanders: list[Bystander],
        say: Callable[[str], None],
        server: Remote | None = None,
        server_share: float = 0.0,
    ) -> None:
        """`server`: that of the store, which then gets this share of the kills."""
        self.rig = rig
        self.rng = rng
        self.tally = Tally()
        self.watch = Watch(
            rig, self.tally, bystanders, lambda: (rng.randint(3, 8), rng.uniform(0.05, 0.35)), server
        )
        self._say = say
        self._bystanders = bystanders
        self._striker = Striker(rig, self.watch, self.tally, rng)
        self._server_share = server_share
        self._outages = Outages(server, rig, self.watch, self.tally, self._striker, rng) if server else None

    # -- the run --------------------------------------------------------------------------------------------
    def run(self, kills: int, massacres: int) -> None:
        try:
            try:
                self._torture(kills, massacres)
            except Jammed as error:
                self.tally.fault("jammed", [str(error)])
            unharmed = self._striker.bystanding - self._striker.hit
            finish(self.rig, self.watch, self.tally, self._bystanders, unharmed, self._say)
        finally:
            kill_my_children(limit=10)

    def _torture(self, kills: int, massacres: int) -> None:
        while (done := self.tally.kills.total()) < kills:
            self._say(f"{done}/{kills}: {self._one()}")
        for done in range(massacres):
            self._say(f"massacre {done + 1}/{massacres}: {self._all_at_once()}")

    def _one(self) -> str:
        self.watch.keep_up()
        role = SERVER if self._outages and self.rng.random() < self._server_share else None
        chance = self.rng.random()
        if chance < STOP_SHARE and not role:
            return self._stop_one()
        if chance < STOP_SHARE + AIMED_SHARE:
            within = role and self._outages and self.rng.random() < WITHIN_SHARE
            aimed = self._outages.within_commits() if self._outages and within else self._aimed(role)
            if aimed is not None:
                return aimed
        elif chance < STOP_SHARE + AIMED_SHARE + EARLY_SHARE:
            self.watch.wait(lambda: bool(self.watch.census().of("worker")), READY_LIMIT)
            self.watch.pause(self.rng.random() * 0.4)
            return self._strike(role or self._choose(RANDOM_ROLES), "early")
        self._steady()
        self.watch.pause(self.rng.random() * 0.6)
        return self._strike(role or self._choose(RANDOM_ROLES), "working")

    def _all_at_once(self) -> str:
        """With jobs in flight: at any moment of their work, or of their starts."""
        if self.rng.random() < YOUNG_SHARE:
            self.watch.wait(lambda: bool(self.watch.census().of("attempt")), READY_LIMIT)
            self.watch.pause(self.rng.random() * 0.2)
            return self._striker.massacre("starting", self.watch.census())
        self._steady(everywhere=True)
        self.watch.pause(self.rng.random() * 0.6)
        again_after = self.rng.uniform(0.1, 1.5) if self.rng.random() < AGAIN_SHARE else None
        return self._striker.massacre("working", self.watch.census(), again_after=again_after)

    def _steady(self, everywhere: bool = False) -> None:
        """Until user code runs and its leaves have grown: a kill before that proves little. `everywhere`:
        below every keeper."""
        slots = self.rig.slots

        def grown() -> bool:
            census = self.watch.census()
            if everywhere:
                return all(len(census.of("leaf", slot.number)) >= LEAVES_EACH for slot in slots)
            return census.leaves() >= LEAVES_EACH * len(slots)

        if not self.watch.wait(grown, READY_LIMIT):
            leaves = self.watch.census().leaves()
            self._say(f"    only {leaves} leaves after {READY_LIMIT:g} s")
            if not leaves:
                raise Jammed(f"no job ran for {READY_LIMIT:g} s")

    # -- killing --------------------------------------------------------------------------------------------
    def _choose(self, weights: dict[str, int]) -> str:
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def _aimed(self, role: str | None = None) -> str | None:
        """Hold a worker at a fault point, kill it, a relative of it or the server right there. None: nobody
        came by."""
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
            return self._strike(role or self._choose(AIMED_ROLES), point, slot)
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
        if role == SERVER and self._outages:
            return self._outages.one(phase, census)
        if role == "all":
            return self._striker.massacre(phase, census)
        if role == "branch":
            return self._striker.massacre(phase, census, slot=slot or self.rng.choice(self.rig.slots))
        found = census.of(role, slot.number if slot else None)
        if not found:
            role = "worker"
            found = (
                census.of(role, slot.number if slot else None) or census.of("worker") or census.of("keeper")
            )
        return self._striker.one(self.rng.choice(found), phase, census)

    def _stop_one(self) -> str:
        """SIGSTOP somebody for a while. A frozen worker must not keep its attempts beyond their leases."""
        self._steady()
        census = self.watch.census()
        found = census.of(self._choose(STOP_ROLES)) or census.of("worker")
        victim = self.rng.choice(found)
        doomed, attempts = self._striker.doom(census, victim)
        self._striker.hit |= attempts
        self.tally.stops[victim.role] += 1
        look.send(victim, signal.SIGSTOP)
        try:
            # One just forked is still below the process that will leave it to the worker.
            adopted = victim.role == "guardian" and census.procs[victim.parent].role == "worker"
            if adopted and self.rng.random() < 0.5:
                return self._striker.above_stopped(victim, census)
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
                # A guardian whose attempt ended by itself meanwhile may stay for another.
                guardians = census.of("guardian", victim.slot)
                doomed.keys = {p.key for g in guardians for p in census.tree(g) if p is not g}
                late = doomed.alive(self.watch.spared)
                self.tally.fault("orphans", [f"{told}: beyond its lease: {what}" for what in late.values()])
            return told
        finally:
            look.send(victim, signal.SIGCONT)
