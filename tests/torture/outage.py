"""The server of the store is struck, while commits are on their way or at any moment, and something of ours
while it is away. What may follow stands in aftermath.py."""

import random
import time

from tests.torture.aftermath import LEASE_OVER, LEAVE_LIMIT, Aftermath, Present
from tests.torture.census import Census, Doomed
from tests.torture.rig import Rig
from tests.torture.server import Order, Outage, Remote
from tests.torture.strike import Striker
from tests.torture.tally import Tally
from tests.torture.watch import EVERY, Watch

SECOND_SHARE = 0.4
SECOND_ROLES = {
    "worker": 30,
    "keeper": 12,
    "guardian": 15,
    "attempt": 15,
    "ns-init": 5,
    "zygote": 10,
    "all": 10,
    "branch": 10,
}
SECOND_PHASE = "server away"
HELD_FOR = (0.0, 0.003, 0.02, 0.2)
"""Seconds for which a worker that is held somewhere stays there: the server is just going, away, or back."""
BEFORE_COMMITS = {"entered": 10, "unit_sealed": 40, "hello": 10, "verified": 20, "dir_synced": 20}
"""Points from which whoever is let go has only a commit before it; after the last a claim follows."""
ON_THE_WAY = 0.03
"""Seconds in which that commit is made: the blow falls at any moment of them."""


class Outages:
    """Strikes the server, and something else of ours meanwhile; then asks what became of all."""

    def __init__(
        self, server: Remote, rig: Rig, watch: Watch, tally: Tally, striker: Striker, rng: random.Random
    ) -> None:
        self._server = server
        self._rig = rig
        self._watch = watch
        self._tally = tally
        self._striker = striker
        self._rng = rng
        self._aftermath = Aftermath(rig, watch, tally, striker)

    def within_commits(self) -> str | None:
        """Strike when commits are on their way: done or not, nobody is told. None: nobody came by."""
        point = self._rng.choices(list(BEFORE_COMMITS), list(BEFORE_COMMITS.values()))[0]
        for slot in self._rig.slots:
            (slot.faults / point).touch()
        try:
            if not self._watch.wait(lambda: self._held_at(point), 8.0):
                return None
            self._watch.pause(0.5)  # more may come by
            return self.one(f"{point} +", self._watch.census(), let_go=True)
        finally:
            self._rig.release()

    def _held_at(self, point: str) -> bool:
        return any(True for slot in self._rig.slots for _ in slot.faults.glob(f"{point}.at.*"))

    def one(self, phase: str, census: Census, *, let_go: bool = False) -> str:
        """`let_go`: whoever is held somewhere goes on just before the blow, else some time after it."""
        order = self._server.choose(self._rng)
        present, leased = self._aftermath.before(census), _attempts_of(census, self._rig.run)
        self._server.prepare(order)
        if let_go:
            self._rig.release()
            time.sleep(self._rng.uniform(0.0, ON_THE_WAY))
        began = self._striker.count(order.kind, phase, census, set())
        self._watch.set_apart()
        self._striker.server_away = True
        self._server.strike()
        self._watch.pause(self._rng.choice(HELD_FOR))
        self._rig.release()
        second = self._second(order, present) if self._rng.random() < SECOND_SHARE else ""
        outage = self._until_back(order, leased, began)
        self._striker.server_away = False
        self._watch.came_back(outage, alone=not second)
        late = self._watch.wait_gone(self._striker.waiting, LEAVE_LIMIT)
        self._tally.fault("orphans", [f"{order.kind}: its keeper died: {what}" for what in late.values()])
        self._striker.waiting = Doomed(self._rig.run)
        told = f"kill {order.kind} ({phase}; {outage.told}): away for {outage.seconds:.2f} s"
        return f"{told}{second}; {self._aftermath.judge(outage, present)}"

    # -- meanwhile ------------------------------------------------------------------------------------------
    def _second(self, order: Order, present: Present) -> str:
        """INV-ORPHAN does not wait for a server: what is killed now is as clean as ever."""
        self._watch.pause(self._rng.random() * (order.seconds or 0.1))
        census = self._watch.census()
        role = self._rng.choices(list(SECOND_ROLES), list(SECOND_ROLES.values()))[0]
        slot = self._rng.choice(self._rig.slots)
        if role in ("all", "branch"):
            only = slot if role == "branch" else None
            present.strike_out(only.number if only else None)
            return "; " + self._striker.massacre(SECOND_PHASE, census, slot=only)
        found = census.of(role, slot.number) or census.of("worker")
        if not found:
            return "; nobody else to kill"
        victim = self._rng.choice(found)
        present.strike_out(victim.slot)
        return "; " + self._striker.one(victim, SECOND_PHASE, census)

    def _until_back(self, order: Order, leased: Doomed, began: float) -> Outage:
        looked = False
        while self._server.is_away():
            if not looked and time.monotonic() > began + LEASE_OVER:
                looked = True
                late = leased.alive(self._watch.spared)
                told = f"{order.kind}: beyond their leases"
                self._tally.fault("orphans", [f"{told}: {what}" for what in late.values()])
            self._watch.pause(EVERY)
            self._rig.tend()
        assert self._server.last is not None, "it was away"
        return self._server.last


def _attempts_of(census: Census, run: str) -> Doomed:
    """All that must end with its lease. A guardian whose attempt ended by itself may stay for another."""
    doomed = Doomed(run)
    for guardian in census.of("guardian"):
        doomed.add(p for p in census.tree(guardian) if p is not guardian)
    return doomed
