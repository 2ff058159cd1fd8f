"""Claiming: which queued job a worker gets, and the lease that makes it its own (INV-ONCE, INV-LOCK)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from unjam.jobs.machines import Capacity
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import Claim, HeldLease, Lease
from unjam.jobs.states import Request
from unjam.store.base import Base
from unjam.store.database import Row
from unjam.store.rows import job_of, text_in

PATIENCE = 60.0
"""Seconds a due job may be passed over because it does not fit yet. Then nothing behind it is started on this
machine until it fits, so that small jobs cannot starve a large one."""
AGING = 300.0
"""Seconds of waiting that count as one point of priority: strict within them, but no stream of more important
jobs keeps another one waiting for ever."""
FIRST_LOOK = 4
LOOK = 200
"""Jobs of one lane that are looked at for one that fits; what lies behind them has to wait."""
_SEEN = ("seq", "fence", "lane", "cpu", "memory_bytes", "gpu")
"""What a job was picked for; by the time it is taken others may have changed it."""


class _NoRoom(Exception):
    """The machine has less room than it had at the look."""


class Claiming(Base):
    """Part of the store."""

    def claim(
        self,
        worker_id: str,
        *,
        capacity: Capacity,
        queues: Sequence[str] | None,
        pipelines: Sequence[str],
        ttl: float,
        limit: int = 1,
    ) -> list[Claim]:
        wanted = min(limit, capacity.free_slots)
        which: dict[str, object] = {
            "queues": None if queues is None else json.dumps(list(queues)),
            "pipelines": json.dumps(list(pipelines)),
            "now": self._stamp(),
            "host": capacity.host,
            "ttl": ttl,
            "worker_id": worker_id,
        }
        if wanted < 1:
            return []
        # Without a lock: an idle worker that polls disturbs no writer.
        look = self._look(which, capacity, FIRST_LOOK)
        tried: set[int] = set()
        while (picked := look.pick(wanted, look.now, tried)) != []:
            if picked is None:
                look = self._look(which, capacity, LOOK)
                continue
            try:
                claims = self._take(worker_id, capacity, picked, look.room.needed_by(picked), ttl)
            except _NoRoom:
                look = self._look(which, capacity, look.limit)
                continue
            if claims:
                return claims
            # Another machine has just taken them (INV-ONCE): there is room for those behind them.
            tried.update(row["seq"] for row in picked)
            look.room.give_back(picked)
        return []

    def _look(self, which: dict[str, object], capacity: Capacity, limit: int) -> _Look:
        heads, starving, [used] = self._db.together(
            ("find_heads", {**which, "limit": limit}),
            ("find_starving", {**which, "patience": PATIENCE, "gpu": capacity.gpu}),
            ("sum_used", {"host": capacity.host}),
        )
        return _Look(heads, starving, limit, _Room(capacity, used))

    def _take(
        self, worker_id: str, capacity: Capacity, picked: Sequence[Row], room: dict[str, int], ttl: float
    ) -> list[Claim]:
        """Those of them that are still to be had, in their turn. Raises _NoRoom where others of this machine
        took meanwhile what they need."""
        seqs = [row["seq"] for row in picked]
        seen = [[row[name] for name in _SEEN] for row in picked]
        owner: dict[str, object] = {
            "worker_id": worker_id,
            "host": capacity.host,
            "host_name": capacity.host_name,
        }
        data = json.dumps({"worker_id": worker_id, "host": capacity.host_name or capacity.host})
        # INV-LOCK: one claim at a time on each machine, so that its room is not given away twice.
        with self._db.write(alone=f"claim on {capacity.host}"):
            # Here, and not before: whoever waits long for other writers is not to get half a lease.
            owner["stamp"] = self._stamp()
            self._db.must("require_room", {"host": capacity.host, **room}, _NoRoom)
            self._db.later("claim_jobs", {"seen": json.dumps(seen), "ttl": ttl, **owner})
            self._db.many("insert_claim_event", [{"seq": seq, "data": data, **owner} for seq in seqs])
            self._db.many("insert_attempt", [{"seq": seq, **owner} for seq in seqs])
            rows = self._db.soon("load_jobs", {"seqs": json.dumps(seqs)})
        # They were queued when they were picked: those that are ours now were taken here.
        jobs = {row["seq"]: job_of(row) for row in rows if row["worker_id"] == worker_id}
        for job in jobs.values():
            self._met(job.id, job.seq)
        return [
            Claim(jobs[seq], Lease(jobs[seq].id, jobs[seq].fence), attempt=jobs[seq].fence)
            for seq in seqs
            if seq in jobs
        ]

    def begin(self, lease: Lease, *, identity: str, pid: int, log_path: str) -> None:
        with self._db.write():
            seq = self._hold(lease)
            run = {
                "job_seq": seq,
                "fence": lease.fence,
                "identity": identity,
                "pid": pid,
                "log_path": text_in(log_path),
            }
            self._db.later("begin_attempt", run)
            self._event(seq, "started", self._stamp(), attempt=lease.fence)

    def set_containment(self, lease: Lease, *, containment: str, pid: int) -> None:
        with self._db.write():
            seq = self._hold(lease)
            run = {"job_seq": seq, "fence": lease.fence, "containment": containment, "pid": pid}
            self._db.later("set_containment", run)

    def renew(self, worker_id: str, leases: Sequence[Lease], *, ttl: float) -> list[HeldLease]:
        """A lease that ran out is not renewed: its guardian has ended the tree by now, and somebody may be
        about to hand the job on (INV-ONCE).

        Unless the server's clock was set: then nobody hands a job on for one TTL, and guardians count by a
        clock that nobody sets."""
        if not leases:
            return []
        held = json.dumps([[lease.job_id, lease.fence] for lease in leases])
        asked = {"held": held, "worker_id": worker_id, "ttl": ttl}
        with self._db.turn():
            # Not before: while others wrote, a lease may have run out.
            stamp = self._stamp()
            while True:
                set_at = self._db.clock_set_at
                times = {"stamp": stamp, "now": stamp, "clock_set_at": set_at}
                [rows] = self._db.together(("renew_leases", {**asked, **times}))
                if len(rows) == len(leases) or self._db.clock_set_at == set_at:
                    return [_held_lease(row) for row in rows]
                # This answer told that the clock was set: they may have run out by that.

    def requests(self, worker_id: str) -> list[HeldLease]:
        return [_held_lease(row) for row in self._db.all("find_requests", {"worker_id": worker_id})]


class _Look:
    """The first jobs of every lane, and what is free for them."""

    def __init__(self, heads: Sequence[Row], starving: Sequence[Row], limit: int, room: _Room) -> None:
        """`starving`: jobs that wait for room and that only our neighbours serve."""
        self.room, self.limit = room, limit
        self.now = heads[0]["now"] if heads else 0.0
        """When it was, on the store's clock."""
        self._heads = heads
        self._starving = starving
        counted = Counter(row["lane"] for row in heads)
        self._cut = {lane for lane, of_it in counted.items() if of_it == limit < LOOK}
        """Lanes that have more than was looked at."""

    def pick(self, wanted: int, now: float, tried: Collection[int]) -> list[Row] | None:
        """The first that fit. None where the end of a lane was passed that goes on: what lies behind it might
        come first."""
        turn = _turn(now)
        # A neighbour takes one at a time, the first: its room is not ours when its turn comes before.
        reserved = min(self._starving, key=turn, default=None)
        heads = sorted((row for row in self._heads if row["seq"] not in tried), key=turn)
        left = Counter(row["lane"] for row in heads)
        if any(not left[lane] for lane in self._cut):
            return None
        picked: list[Row] = []
        for row in heads:
            if reserved is not None and turn(reserved) < turn(row):
                if not self.room.fits(reserved):
                    break
                self.room.take(reserved)
                reserved, self._starving = None, ()
            if self.room.fits(row):
                self.room.take(row)
                picked.append(row)
            elif self.room.ever(row) and now - row["run_at"] > PATIENCE:
                break
            if len(picked) == wanted:
                break
            left[row["lane"]] -= 1
            if not left[row["lane"]] and row["lane"] in self._cut:
                return None
        return picked


def _turn(now: float) -> Callable[[Row], tuple[float, float, int]]:
    """The order in which jobs are taken: by priority, which grows as they wait, then by when they were due.
    In a lane it is the order of its index."""

    def key(row: Row) -> tuple[float, float, int]:
        points = row["priority"] + (now - row["run_at"]) // AGING
        return -points, row["run_at"], row["seq"]

    return key


class _Room:
    """What is left of a machine; counted from live leases, so there is no counter to leak (INV-LOCK)."""

    def __init__(self, capacity: Capacity, used: Row) -> None:
        self._whole = {"cpu": capacity.cpu, "memory_bytes": capacity.memory_bytes, "gpu": capacity.gpu}
        self._free = {name: whole - used[name] for name, whole in self._whole.items()}

    def ever(self, row: Row) -> bool:
        """Can it run here at all? Too much is taken as everything, but no GPU is not a small GPU."""
        return self._whole["gpu"] > 0 or not row["gpu"]

    def fits(self, row: Row) -> bool:
        needs = self._needs(row)
        return self.ever(row) and all(need <= self._free[name] for name, need in needs.items() if need)

    def take(self, row: Row) -> None:
        for name, need in self._needs(row).items():
            self._free[name] -= need

    def give_back(self, rows: Sequence[Row]) -> None:
        for row in rows:
            for name, need in self._needs(row).items():
                self._free[name] += need

    def needed_by(self, rows: Sequence[Row]) -> dict[str, int]:
        """What the statement that looks once more, when nobody else can claim, needs to know."""
        needs = [self._needs(row) for row in rows]
        return {
            **{name: sum(need[name] for need in needs) for name in self._whole},
            **{f"whole_{name}": whole for name, whole in self._whole.items()},
        }

    def _needs(self, row: Row) -> dict[str, int]:
        return {name: min(row[name], whole) for name, whole in self._whole.items()}


def _held_lease(row: Row) -> HeldLease:
    requested = row["requested"]
    return HeldLease(
        lease=Lease(row["id"], row["fence"]),
        requested=None if requested is None else Request(requested),
        request_reason=(
            None if requested is None else Reason(ReasonCode(row["request_code"]), row["request_message"])
        ),
        expires_at=row["lease_expires_at"],
    )
