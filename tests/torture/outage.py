"""The server of the store goes away under the system: what may follow, and what must not.

What an outage allows is reasoned from the lease, whose rules are the system's own (clocks.py, renew.py):

- A guardian asks its attempt to end LEASE_KILL_MARGIN + grace before the lease does, and kills it before it
  runs out. Leases are renewed every RENEW_EVERY, so at the strike one is at most that old; what is left until
  the question, less some time for the renewal itself, is HARMLESS. An outage shorter than that is noticed by
  no attempt: each goes on or ends well, and its worker too (else: collateral). That holds whether connections
  were cut, commits lost their answers, or the server forgot everything that was not committed.
- In a longer one attempts may be stopped, and must be before their leases are over: whoever comes after the
  outage may hand their jobs on (INV-ONCE, INV-ORPHAN). Their committed units are kept, as after any other end
  (INV-KEEP): the ledger tells. No worker ends by it.
- Once the server answers, every worker renews by its next round, and every attempt that was there goes on or
  has its end written within a few leases (INV-LOST; else: jammed).
- A worker whose keeper died while the server is away must end its attempts as ever, but it and its zygote may
  stay: it has ends to write. When the server answers they have LEAVE_LIMIT.
- How long jobs of other kills take to run again while the server is away says nothing of these kills: their
  times stand in a row of their own, and so do the server's.
"""

import random
import time
from dataclasses import dataclass, field

from tests.torture import names
from tests.torture.census import Census, Doomed, Proc
from tests.torture.rig import GRACE, LEASE_TTL, RENEW_EVERY, Rig
from tests.torture.server import Order, Outage, Remote
from tests.torture.strike import Striker
from tests.torture.tally import Tally
from tests.torture.watch import EVERY, Watch
from unjam.jobs.states import AttemptState
from unjam.supervise.clocks import LEASE_GRACE, LEASE_KILL_MARGIN
from unjam.supervise.identity import Identity

_TTL, _GRACE = float(LEASE_TTL), float(GRACE)
RENEWAL = 0.7
"""Seconds for a worker to notice that the server is back, to connect and to renew, on a busy machine."""
HARMLESS = _TTL - LEASE_KILL_MARGIN - min(LEASE_GRACE, _GRACE) - float(RENEW_EVERY) - RENEWAL
LEASE_OVER = _TTL + _GRACE + 1.0
"""Seconds after which an attempt that nobody could renew is gone, as for a frozen worker."""
RENEW_LIMIT, SETTLE_LIMIT, LEAVE_LIMIT = 10.0, 5 * _TTL, 10.0
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


@dataclass(slots=True)
class Present:
    """Attempts and their workers at the moment of the strike, but for those that we kill meanwhile."""

    attempts: dict[str, int | None] = field(default_factory=dict)
    """Name to number of the keeper."""
    workers: list[Proc] = field(default_factory=list)

    @classmethod
    def at(cls, census: Census) -> "Present":
        parents = {guardian.parent for guardian in census.of("guardian")}
        workers = [worker for worker in census.of("worker") if worker.pid in parents]
        return cls({p.attempt: p.slot for p in census.of("attempt") if p.attempt}, workers)

    def strike_out(self, slot: int | None) -> None:
        """We kill below this keeper (None: everywhere): nobody there says anything of the outage."""
        self.attempts = {name: at for name, at in self.attempts.items() if slot is not None and at != slot}
        self.workers = [worker for worker in self.workers if slot is not None and worker.slot != slot]


class Outages:
    """Strikes the server, and something else of ours meanwhile; then looks who was harmed."""

    def __init__(
        self, server: Remote, rig: Rig, watch: Watch, tally: Tally, striker: Striker, rng: random.Random
    ) -> None:
        self._server = server
        self._rig = rig
        self._watch = watch
        self._tally = tally
        self._striker = striker
        self._rng = rng

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
        present, leased = Present.at(census), _attempts_of(census, self._rig.run)
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
        return f"{told}{second}; {self.judge(outage, present)}"

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

    # -- afterwards -----------------------------------------------------------------------------------------
    def judge(self, outage: Outage, present: Present) -> str:
        """Called when the server has just answered again: counts what its outage did that it must not."""
        back = time.time()
        what = f"{outage.kind}, away for {outage.seconds:.2f} s"
        ended = [w.pid for w in present.workers if self._watch.census().procs.get(w.pid) != w]
        self._tally.fault("collateral", [f"{what}: worker {pid} ended" for pid in ended])
        pids = {worker.pid for worker in present.workers} - set(ended)
        if not self._watch.wait(lambda: not self._silent_since(back, pids), RENEW_LIMIT):
            silent = self._silent_since(back, pids)
            told = f"{what}: workers {silent} did not renew for {RENEW_LIMIT:g} s"
            self._tally.fault("jammed", [told])
        if not self._watch.wait(lambda: not self._undecided(present), SETTLE_LIMIT):
            undecided = ", ".join(self._undecided(present))
            told = f"{what}: {undecided} neither run nor have ended after {SETTLE_LIMIT:g} s"
            self._tally.fault("jammed", [told])
        stopped = [name for name in present.attempts if self._state(name) not in _WELL]
        self._striker.hit |= set(stopped)
        if outage.seconds < HARMLESS:
            self._tally.fault("collateral", [f"{what}: {name} was stopped" for name in stopped])
        self._tally.survived["stopped"] += len(stopped)
        self._tally.survived["went on"] += len(present.attempts) - len(stopped)
        return f"{len(present.attempts) - len(stopped)} attempt(s) went on, {len(stopped)} stopped"

    def _silent_since(self, wall: float, pids: set[int]) -> list[int]:
        """Those of these workers whose last sign of life is older."""
        known = {Identity.from_json(w.identity).pid: w.heartbeat_at for w in self._rig.store.workers()}
        return [pid for pid in pids if known.get(pid, 0.0) < wall]

    def _undecided(self, present: Present) -> list[str]:
        """Attempts that have no process any more, and no end in the store."""
        alive = {proc.attempt for proc in self._watch.census().of("attempt")}
        gone = [name for name in present.attempts if name not in alive]
        return [name for name in gone if self._state(name) in _LIVE]

    def _state(self, name: str) -> AttemptState:
        job, number = names.job_and_number(name)
        return next(a.state for a in self._rig.store.attempts(job) if a.number == number)


_LIVE = (AttemptState.STARTING, AttemptState.RUNNING)
_WELL = (*_LIVE, AttemptState.SUCCEEDED)


def _attempts_of(census: Census, run: str) -> Doomed:
    """All that must end with its lease. A guardian whose attempt ended by itself may stay for another."""
    doomed = Doomed(run)
    for guardian in census.of("guardian"):
        doomed.add(p for p in census.tree(guardian) if p is not guardian)
    return doomed
