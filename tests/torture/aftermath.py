"""Who was there when the server of the store was struck, what became of them, and whether that may be.

What an outage allows is reasoned from the lease, whose rules are the system's own (clocks.py, renew.py):

- A guardian asks its attempt to end LEASE_KILL_MARGIN + grace before the lease does, and kills it before it
  runs out. Leases are renewed every RENEW_EVERY, so at the strike one is at most that old; what is left until
  the question, less some time for the renewal itself, is HARMLESS. An outage shorter than that is noticed by
  no attempt: each goes on or ends well, and its worker too (else: collateral). That holds whether connections
  were cut, commits lost their answers, or the server forgot everything that was not committed.
- In a longer one attempts may be stopped, and must be before their leases are over: whoever comes after the
  outage may hand their jobs on (INV-ONCE, INV-ORPHAN). Their committed units are kept, as after any other end
  (INV-KEEP): the ledger tells. No worker ends by it.
- An attempt that had finished, and whose end its worker was only writing, ends well however long the outage
  was: nothing is reaped for one lease after it, so that such ends are told (else: collateral).
- Once the server answers, every worker renews by its next round, and every attempt that was there goes on or
  has its end written within a few leases (INV-LOST; else: jammed).
- A worker whose keeper died while the server is away must end its attempts as ever, but it and its zygote may
  stay: it has ends to write. When the server answers they have LEAVE_LIMIT.
- How long jobs of other kills take to run again while the server is away says nothing of these kills: their
  times stand in a row of their own, and so do the server's.
"""

import time
from dataclasses import dataclass, field

from tests.torture import names
from tests.torture.census import Census, Proc
from tests.torture.rig import GRACE, LEASE_TTL, RENEW_EVERY, Rig
from tests.torture.server import Outage
from tests.torture.strike import Striker
from tests.torture.tally import Tally
from tests.torture.watch import Watch
from unjam.jobs.machines import WorkerInfo
from unjam.jobs.states import AttemptState
from unjam.supervise.clocks import LEASE_GRACE, LEASE_KILL_MARGIN
from unjam.supervise.identity import Identity

TTL = float(LEASE_TTL)
RENEWAL = 0.7
"""Seconds for a worker to notice that the server is back, to connect and to renew, on a busy machine."""
HARMLESS = TTL - LEASE_KILL_MARGIN - min(LEASE_GRACE, float(GRACE)) - float(RENEW_EVERY) - RENEWAL
LEASE_OVER = TTL + float(GRACE) + 1.0
"""Seconds after which an attempt that nobody could renew is gone, as for a frozen worker."""
RENEW_LIMIT, SETTLE_LIMIT, LEAVE_LIMIT = 10.0, 5 * TTL, 10.0
_LIVE = (AttemptState.STARTING, AttemptState.RUNNING)
_WELL = (*_LIVE, AttemptState.SUCCEEDED)


@dataclass(slots=True)
class Present:
    """Attempts and their workers at the moment of the strike, but for those that we kill meanwhile."""

    attempts: dict[str, int | None] = field(default_factory=dict)
    """Name to number of the keeper."""
    workers: list[Proc] = field(default_factory=list)
    finished: dict[str, int | None] = field(default_factory=dict)
    """Attempts that had done all their work and were gone, as yet without an end in the store."""

    def strike_out(self, slot: int | None) -> None:
        """We kill below this keeper (None: everywhere): nobody there says anything of the outage."""

        def spared(other: int | None) -> bool:
            return slot is not None and other != slot

        self.attempts = {name: other for name, other in self.attempts.items() if spared(other)}
        self.finished = {name: other for name, other in self.finished.items() if spared(other)}
        self.workers = [worker for worker in self.workers if spared(worker.slot)]


class Aftermath:
    """Looks before the blow and after it."""

    def __init__(self, rig: Rig, watch: Watch, tally: Tally, striker: Striker) -> None:
        self._rig = rig
        self._watch = watch
        self._tally = tally
        self._striker = striker

    def before(self, census: Census) -> Present:
        """Asked while the server still answers."""
        parents = {guardian.parent for guardian in census.of("guardian")}
        workers = [worker for worker in census.of("worker") if worker.pid in parents]
        attempts = {p.attempt: p.slot for p in census.of("attempt") if p.attempt}
        self._watch.poll()
        finished = {}
        for found in self._rig.store.live_jobs():
            line = self._watch.last.get(found.job.id)
            worker = census.procs.get(_pid_of(found.worker))
            if worker and line and (line.kind, line.attempt) == ("publish", found.attempt):
                finished[names.attempt_name(found.job.id, found.attempt)] = worker.slot
        return Present(attempts, workers, {n: slot for n, slot in finished.items() if n not in attempts})

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
        cut = [name for name in present.finished if self._state(name) is not AttemptState.SUCCEEDED]
        self._tally.fault(
            "collateral", [f"{what}: {name} had finished, and its end was not taken" for name in cut]
        )
        stopped = [name for name in present.attempts if self._state(name) not in _WELL]
        self._striker.hit |= set(stopped)
        if outage.seconds < HARMLESS:
            self._tally.fault("collateral", [f"{what}: {name} was stopped" for name in stopped])
        self._tally.survived["had finished"] += len(present.finished)
        self._tally.survived["stopped"] += len(stopped)
        self._tally.survived["went on"] += len(present.attempts) - len(stopped)
        return f"{len(present.attempts) - len(stopped)} attempt(s) went on, {len(stopped)} stopped"

    def _silent_since(self, wall: float, pids: set[int]) -> list[int]:
        """Those of these workers whose last sign of life is older."""
        known = {_pid_of(w): w.heartbeat_at for w in self._rig.store.workers()}
        return [pid for pid in pids if known.get(pid, 0.0) < wall]

    def _undecided(self, present: Present) -> list[str]:
        """Attempts that have no process any more, and no end in the store."""
        alive = self._alive()
        gone = [name for name in (*present.attempts, *present.finished) if name not in alive]
        return [name for name in gone if self._state(name) in _LIVE]

    def _alive(self) -> set[str | None]:
        return {proc.attempt for proc in self._watch.census().of("attempt")}

    def _state(self, name: str) -> AttemptState:
        job, number = names.job_and_number(name)
        return next(a.state for a in self._rig.store.attempts(job) if a.number == number)


def _pid_of(worker: WorkerInfo | None) -> int:
    return Identity.from_json(worker.identity).pid if worker else 0
