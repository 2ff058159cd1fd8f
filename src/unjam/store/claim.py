"""Claiming: which queued job a worker gets, and the lease that makes it its own (INV-ONCE, INV-LOCK)."""

from __future__ import annotations

import heapq
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from unjam.jobs.model import Capacity, Claim, HeldLease, Lease, Request
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.store.base import Base
from unjam.store.database import Row
from unjam.store.rows import text_in

PATIENCE = 60.0
"""Seconds a due job may be passed over because it does not fit yet. Then nothing behind it is started on this
machine until it fits, so that small jobs cannot starve a large one."""
FIRST_LOOK = 4
LOOK = 200
"""Jobs of one lane that are looked at for one that fits; what lies behind them has to wait."""


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
        which = {
            "queues": None if queues is None else json.dumps(list(queues)),
            "pipelines": json.dumps(list(pipelines)),
        }
        # Looked at before the lock is asked for: an idle worker that polls disturbs no writer.
        if wanted < 1 or not self._db.all("find_lanes", {**which, "now": self.now()}):
            return []
        # INV-LOCK: one claim at a time on each machine, so that its room is not given away twice.
        with self._db.write(alone=f"claim on {capacity.host}"):
            now = self.now()
            lanes = self._db.all("find_lanes", {**which, "now": now})
            owner = {
                "worker_id": worker_id,
                "host": capacity.host,
                "host_name": capacity.host_name,
                "now": now,
                "lease_expires_at": now + ttl,
            }
            fences = self._choose(lanes, capacity, wanted, owner, now)
            jobs = self._load(list(fences))
        return [Claim(job, Lease(job.id, job.fence), attempt=fences[job.seq]) for job in jobs]

    def _choose(
        self, lanes: Sequence[Row], capacity: Capacity, wanted: int, owner: dict[str, Any], now: float
    ) -> dict[int, int]:
        """Take jobs by priority, then by the moment they were due; their numbers and fences."""
        room = _Room(capacity, self._db.one("sum_used", {"host": capacity.host}))
        chosen: dict[int, int] = {}
        for _, group in itertools.groupby(lanes, key=lambda lane: lane["priority"]):
            heads = heapq.merge(
                *(self._heads(lane["id"], now) for lane in group), key=lambda row: (row["run_at"], row["seq"])
            )
            for row in heads:
                if room.fits(row):
                    fence = self._take(row["seq"], owner)
                    if fence is None:
                        continue
                    room.take(row)
                    chosen[row["seq"]] = fence
                    if len(chosen) == wanted:
                        return chosen
                elif room.ever(row) and now - row["run_at"] > PATIENCE:
                    return chosen
        return chosen

    def _heads(self, lane: int, now: float) -> Iterator[Row]:
        """The first jobs of a lane: a few, and more only if those do not fit."""
        after = {"after_run_at": -math.inf, "after_seq": 0}
        for limit in (FIRST_LOOK, LOOK - FIRST_LOOK):
            rows = self._db.all("find_heads", {"lane": lane, "now": now, "limit": limit, **after})
            yield from rows
            if len(rows) < limit:
                return
            # Not counted with OFFSET: the first ones may have been taken meanwhile.
            after = {"after_run_at": rows[-1]["run_at"], "after_seq": rows[-1]["seq"]}

    def _take(self, seq: int, owner: dict[str, Any]) -> int | None:
        """The fence of the new lease; None where a worker of another machine has just taken the job
        (INV-ONCE)."""
        taken = {"seq": seq, **owner}
        row = self._db.one("claim_job", taken)
        if row is None:
            return None
        fence: int = row["fence"]
        self._db.later("insert_attempt", {**taken, "fence": fence})
        data = {"worker_id": owner["worker_id"], "host": owner["host_name"] or owner["host"]}
        self._event(seq, "claimed", owner["now"], attempt=fence, before="queued", after="running", data=data)
        return fence

    def begin(self, lease: Lease, *, identity: str, pid: int, log_path: str) -> None:
        with self._db.write():
            seq = self._held(lease)["seq"]
            run = {
                "job_seq": seq,
                "fence": lease.fence,
                "identity": identity,
                "pid": pid,
                "log_path": text_in(log_path),
            }
            self._db.later("begin_attempt", run)
            self._event(seq, "started", self.now(), attempt=lease.fence)

    def set_containment(self, lease: Lease, *, containment: str, pid: int) -> None:
        with self._db.write():
            seq = self._held(lease)["seq"]
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
        with self._db.write():
            now = self.now()
            lease = {"now": now, "lease_expires_at": now + ttl}
            after = 0.0 if now - self._db.clock_set_at < ttl else now
            rows = self._db.all(
                "renew_leases", {"held": held, "worker_id": worker_id, "after": after, **lease}
            )
        return [_held_lease(row) for row in rows]

    def requests(self, worker_id: str) -> list[HeldLease]:
        return [_held_lease(row) for row in self._db.all("find_requests", {"worker_id": worker_id})]


class _Room:
    """What is left of a machine; counted from live leases, so there is no counter to leak (INV-LOCK)."""

    def __init__(self, capacity: Capacity, used: Row | None) -> None:
        assert used is not None  # an aggregate always answers
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
