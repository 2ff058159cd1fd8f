"""SIGKILL at one process or at all of ours at once, and what must then be gone, by when."""

import os
import random
import signal
import time
from collections.abc import Iterable

from tests.torture import census as look
from tests.torture import names
from tests.torture.census import Census, Doomed, Proc
from tests.torture.rig import GRACE, Rig, Slot
from tests.torture.tally import APART, Tally
from tests.torture.watch import Hit, Watch
from unjam.supervise import linux
from unjam.supervise.mark import get_mark

ORPHAN_LIMIT = 2.0
"""Seconds that INV-ORPHAN grants."""
START_LIMIT = 30.0
"""Seconds for a worker to start after a massacre; only then what is left must be gone."""
STAGGER = (0.0, 0.0, 0.001, 0.005, 0.02)
"""Seconds between the deaths in one branch."""
NOT_OURS = ("leaf", "other")
"""Roles that a massacre spares: `pkill -9 python` would spare them too."""


class Striker:
    """Kills, waits for what must follow, and counts it."""

    def __init__(self, rig: Rig, watch: Watch, tally: Tally, rng: random.Random) -> None:
        self._rig = rig
        self._watch = watch
        self._tally = tally
        self._rng = rng
        self.hit: set[str] = set()
        """Attempts that a kill or a stop took along."""
        self.bystanding: set[str] = set()
        """Attempts of a worker whose zygote was killed: they must not notice."""
        self.server_away = False
        """Then what is killed runs again only when the server is back."""
        self.waiting = Doomed(rig.run)
        """Workers without a keeper that may stay until it is."""

    def one(self, victim: Proc, phase: str, census: Census) -> str:
        """Kill this process; everything that must end with it has two seconds."""
        doomed, attempts = self.doom(census, victim)
        at = self.count(victim.role, phase, census, attempts)
        if victim.role == "keeper":
            self._mark_killed(victim)
            if self.server_away:
                self._let_wait(doomed, census.tree(victim))
        look.send(victim, signal.SIGKILL)
        # Whoever takes over must not be held where its predecessor died.
        self._rig.release()
        return self._until_clean(victim.role, phase, doomed, at)

    def doom(self, census: Census, victim: Proc) -> tuple[Doomed, set[str]]:
        """What must end with this process, and the attempts that it takes along."""
        doomed = Doomed(self._rig.run)
        match victim.role:
            case "zygote":
                doomed.keys.add(victim.key)
                self.bystanding |= {p.attempt for p in census.of("attempt", victim.slot) if p.attempt}
            case "attempt" | "ns-init":
                guardian = census.guardian_of(victim)
                # The guardian itself may stay for the next attempt.
                doomed.add(p for p in census.tree(guardian or victim) if p is not guardian)
            case "guardian":
                doomed.add(census.tree(victim))
            case _:
                tree = census.tree(victim)
                doomed.add(tree)
                doomed.marks |= {mark for p in tree if (mark := get_mark(p.pid)) is not None}
        return doomed, set(doomed.attempts)

    # -- all at once ----------------------------------------------------------------------------------------
    def massacre(
        self, phase: str, census: Census, *, slot: Slot | None = None, again_after: float | None = None
    ) -> str:
        """INV-ORPHAN: what had a PID namespace is gone before anything starts again, the rest when a worker
        has started. The leaves themselves are left to the kernel, and to that start.

        `slot`: only a keeper and what is below it, beside a neighbour that lives. `again_after`: seconds
        after which what starts again, and is just clearing up, is killed as well.
        """
        outside = Doomed(self._rig.run)
        told = self._all_at_once(phase, census, slot, outside)
        if again_after is not None:
            self._rig.tend()
            self._watch.pause(again_after)
            told += "; " + self._all_at_once("restarting", self._watch.census(), slot, outside)
        self._tally.left.append(len(outside.alive(self._watch.spared)))
        return f"{told}; {self._tally.left[-1]} left, {self._swept_by_the_next_start(outside, phase)}"

    def _all_at_once(self, phase: str, census: Census, slot: Slot | None, outside: Doomed) -> str:
        """Adds to `outside` what had no namespace."""
        role, number = ("branch", slot.number) if slot else ("all", None)
        inside, others = Doomed(self._rig.run), Doomed(self._rig.run)
        for guardian in census.of("guardian", number):
            tree = census.tree(guardian)
            (inside if any(p.role == "ns-init" for p in tree) else others).add(tree)
        outside.keys |= others.keys
        outside.attempts |= others.attempts
        at = self.count(role, phase, census, inside.attempts | others.attempts)
        self._slaughter(census, slot)
        before = len(self._tally.faults["orphans"])
        told = self._until_clean(role, phase, inside, at)
        self._tally.left_inside += len(self._tally.faults["orphans"]) - before
        self._tally.in_flight["pidns"] += len(inside.attempts)
        self._tally.in_flight["tree"] += len(others.attempts)
        return f"{told}, {len(others.attempts)} attempt(s) without a namespace"

    def _slaughter(self, census: Census, only: Slot | None) -> None:
        """Nobody has time to react: first all are held by pidfd, then all signals go out in one breath. What
        was being forked meanwhile gets the next one. A branch dies within some milliseconds instead, so that
        one may begin to clear up after another and the neighbour may look on."""
        while ours := [p for p in census.procs.values() if p.role not in NOT_OURS and _is_in(p, only)]:
            for slot in [only] if only else self._rig.slots:
                slot.killed = True
            self._rng.shuffle(ours)
            pidfds = list(_open(ours))
            for pidfd in pidfds:
                linux.send_pidfd(pidfd, signal.SIGKILL)
                if only:
                    time.sleep(self._rng.choice(STAGGER))
            for pidfd in pidfds:
                os.close(pidfd)
            self._rig.release()
            census = self._watch.census()

    def _swept_by_the_next_start(self, outside: Doomed, phase: str) -> str:
        marks = self._rig.log_marks()
        began = time.monotonic()
        self._rig.tend()
        if not self._watch.wait(lambda: self._rig.ready_since(marks), START_LIMIT):
            self._tally.fault("jammed", [f"all, {phase}: no worker was ready after {START_LIMIT:g} s"])
        late = outside.alive(self._watch.spared)
        seconds = time.monotonic() - began
        self._tally.fault("orphans", [f"all, {phase}: left by the next start: {w}" for w in late.values()])
        look.kill_all(late)
        self._tally.left_after += len(late)
        if not self.server_away:
            self._tally.start_seconds.append(seconds)
        return f"{len(late)} after the next start ({seconds:.1f} s)"

    # -- counting -------------------------------------------------------------------------------------------
    def above_stopped(self, guardian: Proc, census: Census) -> str:
        """The worker dies while the guardian is frozen: the kernel wakes the guardian to clean up."""
        return self.one(census.procs[guardian.parent], "guardian stopped", census)

    def count(self, role: str, phase: str, census: Census, attempts: set[str]) -> float:
        self._tally.kills[role, phase] += 1
        self._tally.leaves.append(census.leaves())
        at = time.monotonic()
        hit = Hit(APART if self.server_away else role, at)
        for name in attempts:
            job, attempt = names.job_and_number(name)
            hit.attempts[job] = attempt
        if hit.attempts:
            self._watch.hits.append(hit)
        self.hit |= attempts
        return at

    def _let_wait(self, doomed: Doomed, tree: list[Proc]) -> None:
        """A worker has ends to write before it leaves, and keeps its zygote."""
        patient = {p.key for p in tree if p.role in ("worker", "zygote", "newborn")}
        self.waiting.keys |= patient
        doomed.keys -= patient
        doomed.marks.clear()

    def _mark_killed(self, keeper: Proc) -> None:
        for slot in self._rig.slots:
            if slot.pid == keeper.pid:
                slot.killed = True

    def _until_clean(self, role: str, phase: str, doomed: Doomed, at: float) -> str:
        # A worker whose keeper died drains: its attempts have their grace before the two seconds begin.
        limit = ORPHAN_LIMIT + (float(GRACE) if role == "keeper" else 0.0)
        late = self._watch.wait_gone(doomed, limit - (time.monotonic() - at))
        seconds = time.monotonic() - at
        if late:
            self._tally.fault("orphans", [f"{role}, {phase}: {what}" for what in late.values()])
            look.kill_all(late)
            return f"kill {role} ({phase}): {len(late)} ORPHANS"
        self._tally.clean_seconds[role].append(seconds)
        return f"kill {role} ({phase}): clean after {1e3 * seconds:.0f} ms"


def _is_in(proc: Proc, slot: Slot | None) -> bool:
    """Whose keeper is dead already, comes to us, and is below none."""
    return slot is None or proc.slot in (slot.number, None)


def _open(procs: Iterable[Proc]) -> Iterable[int]:
    """Pidfds of exactly these, of those that live."""
    for proc in procs:
        pidfd = look.hold(proc)
        if pidfd is not None:
            yield pidfd
