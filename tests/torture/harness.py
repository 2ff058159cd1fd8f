"""One run of the torture: kill, look, go on; then let everything end and count what is wrong."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture import census as look
from tests.torture import ledger, names
from tests.torture.bystanders import Bystander, harmed
from tests.torture.census import Census, Doomed, Proc
from tests.torture.rig import GRACE, LEASE_TTL, SLOTS_EACH, Rig, Slot
from tests.torture.tally import COMMITTING, PUBLISHING, STARTING, Tally
from unjam.jobs.model import ENDED, AttemptState, State
from unjam.jobs.reasons import ReasonCode
from unjam.supervise.kill import kill_my_children
from unjam.supervise.mark import get_mark
from unjam.worker.garbage import collect

ORPHAN_LIMIT = 2.0
"""Seconds that INV-ORPHAN grants."""
SWEEP_LIMIT = 8.0
"""Seconds from the next start until nothing of a total kill may be left: a worker's start, mostly."""
QUIET_LOOKS = 3
"""Looks in a row that must find nothing: one can miss a process that is just being reparented."""
EVERY = 0.01
TOP_UP_EVERY = 0.5
READY_LIMIT = 30.0
END_LIMIT = 120.0

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


@dataclass(slots=True)
class _Hit:
    """Jobs that a kill interrupted: when does user code of one of them run again?"""

    role: str
    at: float
    attempts: dict[str, int] = field(default_factory=dict)


class Harness:
    """Owns the loop. Everything below this process belongs to the system under torture."""

    def __init__(
        self, rig: Rig, rng: random.Random, bystanders: list[Bystander], say: Callable[[str], None]
    ) -> None:
        self.rig = rig
        self.rng = rng
        self.tally = Tally()
        self._say = say
        self._bystanders = bystanders
        self._spared = {b.pid for b in bystanders} | {os.getpid()}
        self._ledger = ledger.Reader(rig.folder)
        self._last: dict[str, ledger.Line] = {}
        """Newest line of every job."""
        self._outputs: dict[str, tuple[int, int]] = {}
        """Output of a job as first seen: inode, size."""
        self._hits: list[_Hit] = []
        self._bystanding: set[str] = set()
        """Attempts of a worker whose zygote was killed: they must not notice."""
        self._hit: set[str] = set()
        self._ending = False
        self._topped_up = 0.0

    # -- the run --------------------------------------------------------------------------------------------
    def run(self, kills: int) -> None:
        try:
            while (done := self.tally.kills.total()) < kills:
                self._say(f"{done}/{kills}: {self._one()}")
            self._finish()
        finally:
            kill_my_children(limit=10)

    def _one(self) -> str:
        self._prepare()
        chance = self.rng.random()
        if chance < STOP_SHARE:
            return self._stop_one()
        if chance < STOP_SHARE + AIMED_SHARE:
            aimed = self._aimed()
            if aimed is not None:
                return aimed
        elif chance < STOP_SHARE + AIMED_SHARE + EARLY_SHARE:
            self._wait(lambda: bool(self._census().of("worker")), READY_LIMIT)
            self._pause(self.rng.random() * 0.4)
            return self._strike(self._choose(RANDOM_ROLES), "early")
        self._steady()
        self._pause(self.rng.random() * 0.6)
        return self._strike(self._choose(RANDOM_ROLES), "working")

    def _prepare(self) -> None:
        self.rig.tend()
        if self._ending or time.monotonic() < self._topped_up + TOP_UP_EVERY:
            return
        self._topped_up = time.monotonic()
        target = len(self.rig.slots) * SLOTS_EACH + 2
        self.rig.top_up(target, units=self.rng.randint(3, 8), unit_seconds=self.rng.uniform(0.05, 0.35))

    def _steady(self) -> None:
        """Until user code runs and its leaves have grown: a kill before that proves little."""
        wanted = 4 * len(self.rig.slots)
        if not self._wait(lambda: self._census().leaves() >= wanted, READY_LIMIT):
            self._say(f"    only {self._census().leaves()} leaves after {READY_LIMIT:g} s")

    # -- killing --------------------------------------------------------------------------------------------
    def _choose(self, weights: dict[str, int]) -> str:
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def _aimed(self) -> str | None:
        """Hold a worker at a fault point, kill it or a relative of it right there. None: nobody came by."""
        slot, point = self.rng.choice(self.rig.slots), self._choose(POINTS)
        hold = slot.faults / point
        hold.touch()
        try:
            if not self._wait(lambda: any(self._held_at(slot, point)), 8.0):
                return None
            if point in COMMITTING:
                self._note_held_unit(slot)
            self._poll()
            self._pause(self.rng.choice([0.0, 0.0, 0.05, 0.2]))
            return self._strike(self._choose(AIMED_ROLES), point, slot)
        finally:
            self._release_all()

    def _held_at(self, slot: Slot, point: str) -> list[Proc]:
        """The living worker that says it waits there."""
        pids = {int(path.name.rpartition(".")[2]) for path in slot.faults.glob(f"{point}.at.*")}
        if not pids:
            return []
        return [proc for proc in self._census().of("worker", slot.number) if proc.pid in pids]

    def _note_held_unit(self, slot: Slot) -> None:
        """The store has this unit though the attempt was not told: it must not be done again."""
        self._poll()
        names_here = {p.attempt for p in self._census().of("attempt", slot.number)}
        sealed = [
            line
            for line in self._last.values()
            if line.kind == "seal" and names.attempt_name(line.job, line.attempt) in names_here
        ]
        if len(sealed) == 1:  # of two only one may be held
            pen = ledger.Pen(self.rig.folder, sealed[0].job, sealed[0].attempt)
            pen.write("held", sealed[0].unit)
            pen.close()

    def _strike(self, role: str, phase: str, slot: Slot | None = None) -> str:
        census = self._census()
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
        self._release_all()
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
            self._release_all()
            ours = [p for p in self._census().procs.values() if p.role not in ("leaf", "other")]
        first = self._until_clean("all", phase, inside, at)
        self.rig.tend()
        # INV-ORPHAN: without a namespace the next start's sweep ends what is left.
        late = self._wait_gone(outside, SWEEP_LIMIT)
        self.tally.fault(
            "orphans", [f"all, {phase}: not swept by the next start: {what}" for what in late.values()]
        )
        look.kill_all(late)
        return f"{first}; {len(outside.attempts)} attempt(s) without a namespace swept at the next start"

    def _stop_one(self) -> str:
        """SIGSTOP somebody for a while. A frozen worker must not keep its attempts beyond their leases."""
        self._steady()
        census = self._census()
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
            self._pause(seconds)
            told = f"stop {victim.role} for {seconds:.1f} s"
            if seconds == lease_over:
                doomed.marks.clear()
                doomed.keys = {p.key for g in census.of("guardian", victim.slot) for p in census.tree(g)}
                late = doomed.alive(self._spared)
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
        hit = _Hit(role, at)
        for name in attempts:
            job, _, attempt = name.partition("/")
            hit.attempts[job] = int(attempt)
        if hit.attempts:
            self._hits.append(hit)
        self._hit |= attempts
        return at

    def _mark_killed(self, keeper: Proc) -> None:
        for slot in self.rig.slots:
            if slot.pid == keeper.pid:
                slot.killed = True

    # -- looking --------------------------------------------------------------------------------------------
    def _until_clean(self, role: str, phase: str, doomed: Doomed, at: float) -> str:
        late = self._wait_gone(doomed, ORPHAN_LIMIT - (time.monotonic() - at))
        seconds = time.monotonic() - at
        if late:
            self.tally.fault("orphans", [f"{role}, {phase}: {what}" for what in late.values()])
            look.kill_all(late)
            return f"kill {role} ({phase}): {len(late)} ORPHANS"
        self.tally.clean_seconds[role].append(seconds)
        return f"kill {role} ({phase}): clean after {1e3 * seconds:.0f} ms"

    def _wait_gone(self, doomed: Doomed, limit: float) -> dict[int, str]:
        """Who of the doomed still lives after `limit` seconds."""
        end = time.monotonic() + limit
        quiet = 0
        while True:
            self._poll()
            alive = doomed.alive(self._spared)
            quiet = 0 if alive else quiet + 1
            if quiet >= QUIET_LOOKS:
                return {}
            if alive and time.monotonic() > end:
                return alive
            time.sleep(EVERY / 5)

    def _census(self) -> Census:
        self.rig.reap()
        return look.take(self.rig.keepers, self.rig.run)

    def _poll(self) -> None:
        """What is to be seen at any moment: dead children, new lines, outputs in place."""
        self.rig.reap()
        for line in self._ledger.read():
            if line.kind in ledger.BY_JOBS:
                self._last[line.job] = line
            if line.kind == "begin":
                self._began(line)
        self._look_at_outputs()

    def _began(self, line: ledger.Line) -> None:
        for hit in list(self._hits):
            attempt = hit.attempts.get(line.job)
            if attempt is not None and line.attempt > attempt:
                self.tally.again_seconds[hit.role].append(line.at - hit.at)
                self._hits.remove(hit)

    def _look_at_outputs(self) -> None:
        """INV-TORN: a name holds nothing or the whole; and once it holds that, no other file."""
        with os.scandir(self.rig.out) as entries:
            new = [
                e.name[:-4] for e in entries if e.name.endswith(".bin") and e.name[:-4] not in self._outputs
            ]
        for job in new:
            path = self.rig.output_of(job)
            stat = path.stat()
            self._outputs[job] = (stat.st_ino, stat.st_size)
            if path.read_bytes() != self.rig.right_content(job):
                self.tally.fault("torn", [f"{path.name}: {stat.st_size} bytes, not the right ones"])
            pen = ledger.Pen(self.rig.folder, job, 0)
            pen.write("seen")
            pen.close()

    def _wait(self, happened: Callable[[], bool], limit: float) -> bool:
        """Until it happened, with keepers and jobs kept up as in a trial's beginning."""
        end = time.monotonic() + limit
        while not happened():
            if time.monotonic() > end:
                return False
            self._poll()
            self._prepare()
            time.sleep(EVERY)
        return True

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._poll()
            time.sleep(min(EVERY, max(0.0, end - time.monotonic())))

    # -- the end --------------------------------------------------------------------------------------------
    def _finish(self) -> None:
        """Let everything end, stop the keepers, and count."""
        rig, tally = self.rig, self.tally
        self._ending = True
        self._release_all()
        self._wait(lambda: all(state in ENDED for state in rig.states().values()), END_LIMIT)
        if not rig.stop():
            left = [f"{p.role} {p.pid}" for p in self._census().procs.values()]
            tally.fault("orphans", [f"after all keepers were told to stop: {', '.join(left)}"])
        self._poll()
        tally.fault("gave up", rig.gave_up)
        tally.fault("strangers", harmed(self._bystanders))
        verdict = ledger.judge(self._ledger.lines)
        tally.fault("doubled", verdict.doubled)
        tally.fault("redone", verdict.redone)
        tally.fault("overlaps", verdict.overlaps)
        self._check_outputs()
        self._check_store()
        self._check_logs()
        collect(rig.store, rig.settings)
        tally.fault("strays", [str(path.relative_to(rig.folder)) for path in self._strays()])

    def _release_all(self) -> None:
        for slot in self.rig.slots:
            for path in slot.faults.iterdir():
                path.unlink(missing_ok=True)

    def _check_outputs(self) -> None:
        for job, state in self.rig.states().items():
            path = self.rig.output_of(job)
            if state is not State.SUCCEEDED or not path.exists():
                reason = self.rig.store.get_many([job])[0].reason
                self.tally.fault("lost", [f"{job}: {state}, output {path.exists()}: {reason}"])
                continue
            stat = path.stat()
            if self._outputs.get(job) != (stat.st_ino, stat.st_size):
                self.tally.fault("doubled", [f"{path.name}: another file than when it was first seen"])
            if path.read_bytes() != self.rig.right_content(job):
                self.tally.fault("torn", [f"{path.name}: wrong at the end"])

    def _check_store(self) -> None:
        rig, tally = self.rig, self.tally
        tally.fault("lost", [f"job {job} vanished" for job in rig.jobs.keys() - rig.states().keys()])
        tally.fault("locks", [f"{found.job.id} is still leased" for found in rig.store.live_jobs()])
        tally.fault("internal", rig.store.check())
        for job in rig.jobs:
            for attempt in rig.store.attempts(job):
                name = names.attempt_name(job, attempt.number)
                told = attempt.reason.message if attempt.reason else ""
                # An attempt whose tree was gone already, waiting to be published, is lost with its worker.
                ended_well = attempt.state is AttemptState.SUCCEEDED or told.startswith("worker ")
                if name in self._bystanding - self._hit and not ended_well:
                    tally.fault("collateral", [f"{name}: {attempt.state}, {told}"])
                if attempt.reason and attempt.reason.code is ReasonCode.INTERNAL_ERROR:
                    tally.fault("internal", [f"{name}: {told}"])

    def _check_logs(self) -> None:
        signs = ("Traceback (most recent call last)", "internal error", "; stopping")
        for slot in self.rig.slots:
            for line in slot.log.read_text(errors="replace").splitlines():
                if any(sign in line for sign in signs):
                    self.tally.fault("internal", [f"{slot.log.name}: {line}"])

    def _strays(self) -> list[Path]:
        rig = self.rig
        wanted = {rig.output_of(job).name for job in rig.jobs}
        wanted |= {f"{name}.unjam.json" for name in wanted}
        found = [path for path in rig.out.iterdir() if path.name not in wanted]
        work = rig.settings.work_root
        found += list(work.iterdir()) if work.is_dir() else []
        return found + sorted((rig.settings.home / "run").glob("*"))

    @property
    def attempts(self) -> int:
        return sum(1 for line in self._ledger.lines if line.kind == "begin")
