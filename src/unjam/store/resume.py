"""Resuming: what stopped goes on, and what failed only because of it; who asks becomes its owner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from unjam.errors import Duplicate
from unjam.jobs.lifecycle import ACTIVE, LIVE, RESUMABLE
from unjam.jobs.model import Terms, Watcher
from unjam.jobs.records import UnitRecord
from unjam.jobs.states import Request, State
from unjam.store.database import Row
from unjam.store.lanes import Lanes
from unjam.store.port import RequestOutcome
from unjam.store.rows import with_inputs, with_limits


@dataclass(frozen=True, slots=True)
class _Resumption:
    """Who asked for it, how and when."""

    by: str
    fresh_budgets: bool
    now: float


class Resuming(Lanes):
    """Part of the store."""

    def resume(
        self,
        job_ids: Sequence[str],
        *,
        by: str,
        fresh_budgets: bool,
        terms: Mapping[str, Terms] | None = None,
        watcher: Watcher | None = None,
    ) -> list[RequestOutcome]:
        try:
            with self._db.write():
                outcome = self._resume_all(
                    job_ids, _Resumption(by, fresh_budgets, self.now()), terms or {}, watcher
                )
        except BaseException:
            # The lanes that it made were rolled back with it.
            self._forget_lanes()
            raise
        self._poke_for(outcome)
        return outcome

    def _resume_all(
        self,
        job_ids: Sequence[str],
        asked: _Resumption,
        terms: Mapping[str, Terms],
        watcher: Watcher | None,
    ) -> list[RequestOutcome]:
        self._lock(job_ids)
        # Oldest first: a job finds those it waits for resumed already.
        rows = sorted((self._hot(id) for id in set(job_ids)), key=lambda row: row["seq"])
        done: dict[str, RequestOutcome] = {}
        revived: set[str] = set()
        for row in rows:
            # Looked at again: an earlier one may have taken it along.
            hot = self._hot(row["id"])
            outcome = self._resume(hot, asked)
            if row["id"] in revived:
                outcome = replace(outcome, changed=True)
            if row["id"] in terms:
                self._set_terms(row["id"], terms[row["id"]], asked)
                outcome = replace(outcome, dropped=self._forget(outcome, terms[row["id"]]))
            done[row["id"]] = outcome
            revived.update(outcome.revived)
            if outcome.state in ACTIVE:
                self._take_over(hot["seq"], watcher, asked.now)
        for job_id in revived - set(done):
            self._take_over(self._hot(job_id)["seq"], watcher, asked.now)
        return [done[job_id] for job_id in job_ids]

    def _resume(self, hot: Row, asked: _Resumption) -> RequestOutcome:
        before = State(hot["state"])
        if hot["requested"] == Request.PAUSE:
            self._db.later("withdraw_pause", {"seq": hot["seq"]})
            self._event(hot["seq"], "pause_withdrawn", asked.now, attempt=hot["fence"], data={"by": asked.by})
            return RequestOutcome(hot["id"], before, changed=True)
        if before not in RESUMABLE:
            return RequestOutcome(hot["id"], before, changed=False)
        self._refuse_if_taken(hot)
        waits = bool(self._db.all("find_upstream", {"job_seq": hot["seq"]}))
        after = State.WAITING if waits else State.QUEUED
        data = {"by": asked.by, "fresh_budgets": asked.fresh_budgets}
        self._requeue(hot["seq"], before, after, asked, "resumed", data)
        if waits:
            after = self._settle_waiting(hot["seq"], hot["id"], asked.now)
        revived = self._revive([hot["id"]], asked) if after in ACTIVE else ()
        return RequestOutcome(hot["id"], after, changed=True, revived=revived)

    def _requeue(
        self,
        job_seq: int,
        before: State,
        after: State,
        asked: _Resumption,
        kind: str,
        data: Mapping[str, object],
    ) -> None:
        row = {"seq": job_seq, "state": after, "now": asked.now, "fresh": int(asked.fresh_budgets)}
        self._db.run("resume_job", row)
        self._event(job_seq, kind, asked.now, before=before.value, after=after.value, data=data)

    def _revive(self, resumed: Iterable[str], asked: _Resumption) -> tuple[str, ...]:
        """What failed only because these had failed waits for them again, and so on down the chain."""
        revived: list[str] = []
        pending = list(resumed)
        while pending:
            upstream = pending.pop()
            for row in self._db.all("find_revivable", {"after_id": upstream}):
                others = self._db.all("find_upstream", {"job_seq": row["seq"]})
                if any(other["state"] is None or other["finished_at"] is not None for other in others):
                    continue  # another one that it waits for is still failed
                if self._db.one("find_rival", {"seq": row["seq"]}) is not None:
                    continue  # somebody else does its work meanwhile (INV-DUP)
                data = {"by": asked.by, "after": upstream}
                self._requeue(row["seq"], State.FAILED, State.WAITING, asked, "revived", data)
                revived.append(row["id"])
                pending.append(row["id"])
        return tuple(revived)

    def _set_terms(self, job_id: str, terms: Terms, asked: _Resumption) -> None:
        """Other inputs, limits or priority of a job that nobody runs: an attempt keeps its own."""
        [job] = self._load([self._hot(job_id)["seq"]])
        if job.state not in ACTIVE - LIVE:
            return
        if terms.inputs is not None:
            inputs = terms.inputs
            self._change_spec(job.seq, lambda spec: with_inputs(spec, inputs))
        limits = job.spec.limits if terms.limits is None else terms.limits
        priority = job.spec.priority if terms.priority is None else terms.priority
        if (limits, priority) == (job.spec.limits, job.spec.priority):
            return
        self._change_spec(job.seq, lambda spec: with_limits(spec, limits))
        lane = self._lane(job.spec.queue, job.spec.pipeline, priority)
        memory = job.spec.needs.memory_bytes if limits.memory_bytes is None else limits.memory_bytes
        self._db.later("set_terms", {"seq": job.seq, "lane_id": lane, "memory_bytes": memory})
        data = {"by": asked.by, "limits": asdict(limits), "priority": priority}
        self._event(job.seq, "terms_changed", asked.now, data=data)

    def _forget(self, outcome: RequestOutcome, terms: Terms) -> tuple[UnitRecord, ...]:
        """INV-KEEP: who is refused keeps them, as does what fails again at once."""
        if outcome.state not in ACTIVE or not (terms.fresh or terms.redo):
            return ()
        return tuple(self._drop_units(self._hot(outcome.job_id), None if terms.fresh else terms.redo))

    def _take_over(self, job_seq: int, watcher: Watcher | None, now: float) -> None:
        """The job is the watcher's from now on, or nobody's: the attachment of a run that was killed a moment
        ago must not pause it under its new owner."""
        self._db.later("detach_job", {"job_seq": job_seq})
        if watcher is not None:
            row = {"watcher_id": watcher.id, "job_seq": job_seq, "expires_at": now + watcher.ttl}
            self._db.later("attach", row)

    def _refuse_if_taken(self, hot: Row) -> None:
        """Another active job may have the key or the output name of this one meanwhile (INV-DUP)."""
        other = self._db.one("find_rival", {"seq": hot["seq"]})
        if other is not None:
            raise Duplicate(
                f"job {hot['id']} cannot go on: job {other['id']} ({other['state']}) has its work or its "
                "output",
                other["id"],
            )
