"""A store and its model side by side: every call goes to both, and all that can be seen is compared."""

import copy
from collections.abc import Callable
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.store.model import Host, Model, ModelWorker
from tests.store.rig import Backend
from unjam.errors import UnjamError
from unjam.jobs.lifecycle import ACTIVE, LIVE, TRANSITIONS
from unjam.jobs.records import Lease
from unjam.jobs.states import State
from unjam.store import Store

HOSTS = (Host("host-a", cpu=3, gpu=0), Host("host-b", cpu=2, gpu=1))


class CheckedStore(RuleBasedStateMachine):
    """Two connections to one store, and a model beside them."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend = backend
        self.clock = backend.clock
        self.stores: list[Store] = [backend.open(), backend.open()]
        self.model = Model(self.clock())
        self.leases: list[tuple[str, Lease]] = []
        """Every lease there ever was, and whose: old ones go on writing."""
        self.cursor = self.stores[0].last_event_id()
        self.told: dict[str, State] = {}
        """State of each job by its history alone."""
        self.fences: dict[str, int] = {}
        self.calls = 0

    # -- both at once ------------------------------------------------------------------------------------
    @property
    def store(self) -> Store:
        """The connections take turns: what one remembers must not be wrong after the other wrote."""
        self.calls += 1
        return self.stores[self.calls % len(self.stores)]

    def both(self, say: Callable[[Model], Any], do: Callable[[Store], Any]) -> Any:
        """What the model says is what the store answers, be it an error."""
        trial = copy.deepcopy(self.model)
        expected: Any
        try:
            expected = say(trial)
        except UnjamError as error:
            expected = type(error)
        else:
            self.model = trial
        found: Any
        try:
            found = do(self.store)
        except UnjamError as error:
            found = type(error)
        assert found == expected
        return found

    def newest(self, number: int) -> str:
        ids = list(self.model.jobs)
        return ids[-1 - number % len(ids)]

    def lease(self, number: int) -> tuple[str, Lease]:
        return self.leases[-1 - number % len(self.leases)]

    # -- what always holds -------------------------------------------------------------------------------
    @invariant()
    def all_that_is_seen_is_what_the_model_says(self) -> None:
        """INV-FENCE, INV-ONCE, INV-LOCK: states, leases, fences, workers."""
        store = self.store
        seen = {
            one.id: (
                one.state,
                one.phase,
                one.requested,
                one.fence,
                one.worker_id,
                one.lease_expires_at,
                one.run_at,
            )
            for one in store.get_many(list(self.model.jobs))
        }
        assert seen == {id: one.seen for id, one in self.model.jobs.items()}
        if self.calls % 3:
            return  # what follows is dear, and a mistake in it stays
        workers = {one.id: ModelWorker(one.expires_at, one.host, one.draining) for one in store.workers()}
        assert workers == self.model.workers
        assert {found.lease for found in store.live_jobs()} == {
            Lease(j.id, j.fence) for j in self.model.live()
        }
        assert store.check() == []

    @invariant()
    def every_change_has_its_event_and_is_legal(self) -> None:
        for event in self.store.events_since(self.cursor, limit=10_000):
            self.cursor = event.id
            if event.kind == "removed":
                for id in event.data["jobs"]:
                    del self.told[id]
            if event.kind == "claimed":
                assert event.job_id is not None
                assert event.attempt == self.fences.get(event.job_id, 0) + 1
                self.fences[event.job_id] = event.attempt
            if event.state_to is not None and event.job_id is not None:
                before = self.told.get(event.job_id)
                assert event.state_from == before
                assert before is None or (before, event.state_to) in TRANSITIONS
                self.told[event.job_id] = event.state_to
        assert self.told == {id: one.state for id, one in self.model.jobs.items()}

    @invariant()
    def committed_units_are_kept(self) -> None:
        """INV-KEEP: those of the newest leases; the others were looked at before."""
        for id in {lease.job_id for _, lease in self.leases[-3:]} & set(self.model.jobs):
            committed = {one.name: (one.fence, one.host) for one in self.store.units(id)}
            assert committed == self.model.jobs[id].units

    @invariant()
    def slots_keys_and_waiting_jobs_make_sense(self) -> None:
        """INV-LOCK, INV-DUP, INV-LOST, asked of the model too: two that agree may both be wrong."""
        active = [one for one in self.model.jobs.values() if one.state in ACTIVE]
        for machine in HOSTS:
            held = [
                min(one.cpu, machine.cpu) for one in active if one.state in LIVE and one.host == machine.host
            ]
            assert sum(held) <= machine.cpu
        for key in ("dedupe_key", "output_path"):
            taken = [value for one in active if (value := getattr(one, key)) is not None]
            assert len(taken) == len(set(taken))
        for one in active:
            if one.state is State.WAITING:
                assert any(
                    up in self.model.jobs and self.model.jobs[up].state in ACTIVE
                    for up, settled in one.after.items() if not settled
                )  # fmt: skip
