"""Whatever workers and people may do, as rules: any sequence of them is a test (test_model.py)."""

import copy
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.store.machine import HOSTS, CheckedStore
from tests.store.model import SLOTS, Model, ModelJob, ModelWorker
from tests.store.rig import PAUSED, TTL, ending, job, picture, staged, unit, worker
from unjam.jobs.lifecycle import ACTIVE
from unjam.jobs.machines import Capacity
from unjam.jobs.model import InputFile, Needs, Terms
from unjam.jobs.records import Lease
from unjam.jobs.states import Phase, State
from unjam.store import Store

QUEUES, PIPELINES = ("default", "night"), ("convert", "faces")
WORKERS = {"w0": HOSTS[0], "w1": HOSTS[0], "w2": HOSTS[1]}
UNITS = ("u0", "u1", "u2")
ENDS = (
    State.SUCCEEDED,
    State.FAILED,
    State.QUEUED,
    State.PAUSED,
    State.CANCELLED,
    State.PARTIAL,
    State.SKIPPED,
)

which = st.sampled_from([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 6, 9])
"""Which of what there is, counted from the newest: that is met often, the old ones now and then."""
seldom = st.integers(0, 3).map(lambda number: number == 3)
by = st.sampled_from(list(WORKERS))


class StoreMachine(CheckedStore):
    """Three workers on two machines, and people."""

    def teardown(self) -> None:
        try:
            self.all_ends_in_the_end()
        finally:
            for store in self.stores:
                store.close()

    # -- submit ------------------------------------------------------------------------------------------
    @rule(
        pipeline=st.sampled_from(PIPELINES), queue=st.sampled_from(QUEUES), priority=st.integers(0, 1),
        cpu=st.sampled_from([1, 1, 1, 0, 2, 4]), gpu=seldom.map(int),
        key=st.integers(0, 4), path=st.integers(0, 5),
        after=st.one_of(st.just([]), st.lists(which, min_size=1, max_size=2)),
    )  # fmt: skip
    def submit(
        self,
        pipeline: str,
        queue: str,
        priority: int,
        cpu: int,
        gpu: int,
        key: int,
        path: int,
        after: list[int],
    ) -> None:
        number = self.calls + 1
        upstream = tuple(dict.fromkeys(self.newest(i) for i in after)) if self.model.jobs else ()
        same: dict[str, Any] = {
            "pipeline": pipeline,
            "queue": queue,
            "priority": priority,
            "dedupe_key": f"key-{key}" if key < 2 else None,
            "output_path": f"/out/{path}" if path < 2 else None,
        }
        made = ModelJob(
            f"job-{number:04}",
            number,
            **same,
            cpu=cpu,
            gpu=gpu,
            after=dict.fromkeys(upstream, False),
            inputs=upstream[:1] if priority else (),
            run_at=self.clock(),
        )
        files = tuple(InputFile("a.mp4", "/out/a.mp4", source=f"job:{id}/a.mp4") for id in made.inputs)
        new = job(made.id, **same, after=upstream, inputs=files, needs=Needs(cpu=cpu, gpu=gpu))
        self.both(lambda m: m.submit(copy.deepcopy(made)), lambda s: self._submit(s, new))

    def _submit(self, store: Store, new: Any) -> None:
        assert store.submit(new).created

    # -- workers -----------------------------------------------------------------------------------------
    @initialize(count=st.integers(2, 5))
    def begin_with_workers_and_jobs(self, count: int) -> None:
        for name in WORKERS:
            self._check_in(name)
        for _ in range(count):
            self.submit("convert", "default", 0, 1, 0, 7, 7, [])

    @rule(name=by, what=st.sampled_from(["check in", "heartbeat", "drain", "check out", "forget"]))
    def staff(self, name: str, what: str) -> None:
        match what:
            case "check in":
                self._check_in(name)
            case "check out":
                self.both(lambda m: m.check_out(name), lambda s: s.check_out(name))
            case "forget":
                self.both(lambda m: m.forget(name), lambda s: s.forget_worker(name))
            case _:
                draining = what == "drain"
                self.both(
                    lambda m: m.heartbeat(name, TTL, draining),
                    lambda s: s.heartbeat(name, ttl=TTL, draining=draining),
                )

    def _check_in(self, name: str) -> None:
        def say(m: Model) -> None:
            m.workers[name] = ModelWorker(m.now + TTL, WORKERS[name].host)

        self.both(say, lambda s: s.check_in(worker(name, host=WORKERS[name].host, slots=SLOTS), ttl=TTL))

    # -- claims and leases -------------------------------------------------------------------------------
    @rule(
        name=by, limit=st.integers(1, 3), queues=st.sampled_from([None, None, None, *((q,) for q in QUEUES)]),
        pipelines=st.sampled_from([PIPELINES, PIPELINES, PIPELINES, *((p,) for p in PIPELINES)]),
    )  # fmt: skip
    def claim(
        self, name: str, limit: int, queues: tuple[str, ...] | None, pipelines: tuple[str, ...]
    ) -> None:
        machine = WORKERS[name]
        room = Capacity(machine.host, machine.cpu, 1 << 40, machine.gpu, free_slots=9)

        def do(store: Store) -> list[tuple[str, int]]:
            claims = store.claim(
                name, capacity=room, queues=queues, pipelines=pipelines, ttl=TTL, limit=limit
            )
            self.leases += [(name, claim.lease) for claim in claims]
            return [(claim.lease.job_id, claim.lease.fence) for claim in claims]

        self.both(lambda m: m.claim(name, machine, queues, pipelines, limit, TTL), do)

    @precondition(lambda self: self.leases)
    @rule(name=by, back=st.integers(0, 5))
    def renew(self, name: str, back: int) -> None:
        """Also what is lost, and what is another worker's."""
        asked = [lease for _, lease in self.leases[back:]]
        self.both(
            lambda m: m.renew(name, asked, TTL),
            lambda s: {held.lease for held in s.renew(name, asked, ttl=TTL)},
        )

    @rule(seconds=st.sampled_from([0.5, 0.5, 9.0, 9.0, 31.0, 70.0, 310.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now = self.clock()

    @rule(number=which)
    def reap(self, number: int) -> None:
        """Somebody hands on what has run out; what is publishing is rolled forward."""
        out = self.store.expired()
        assert {found.lease for found in out} == self.model.expired()
        if not out:
            return
        found = sorted(out, key=lambda one: one.lease.job_id)[number % len(out)]
        lease = found.lease
        self.both(
            lambda m: m.end(lease, State.QUEUED, unlease=True),
            lambda s: s.unlease(lease, ending(State.QUEUED)),
        )
        if found.publishing:
            host = self.model.jobs[lease.job_id].host
            assert host is not None
            assert lease in [row.lease for row in self.store.publishing(host)]
            self.both(
                lambda m: m.end(lease, State.SUCCEEDED), lambda s: s.end(lease, ending(State.SUCCEEDED))
            )

    # -- attempts, also those that are over --------------------------------------------------------------
    @precondition(lambda self: self.leases)
    @rule(number=which)
    def begin(self, number: int) -> None:
        _, lease = self.lease(number)
        self.both(lambda m: m.touch(lease), lambda s: s.begin(lease, identity="i", pid=7, log_path="/l"))

    @precondition(lambda self: self.leases)
    @rule(back=st.integers(0, 5))
    def progress(self, back: int) -> None:
        asked = [lease for _, lease in self.leases[back:]]
        self.both(
            lambda m: [lease for lease in asked if not m.progress(lease)],
            lambda s: s.save_progress([picture(lease) for lease in asked]),
        )

    @precondition(lambda self: self.leases)
    @rule(number=which, digest=st.sampled_from(["d0", "d1"]), revised=st.booleans())
    def plan(self, number: int, digest: str, revised: bool) -> None:
        name, lease = self.lease(number)
        host = WORKERS[name].host

        def do(store: Store) -> list[str]:
            if revised:
                outcome = store.revise_plan(lease, "encode", digest, {})
            else:
                outcome = store.put_plan(lease, "encode", digest, {}, host=host)
            assert outcome.plan.digest in (digest, "d0", "d1")
            return [one.name for one in outcome.committed]

        if revised:
            self.both(lambda m: m.revise_plan(lease, digest), do)
        else:
            self.both(lambda m: m.put_plan(lease, digest, host), do)

    @precondition(lambda self: self.leases)
    @rule(number=which, name=st.sampled_from(UNITS), shared=st.booleans())
    def commit(self, number: int, name: str, shared: bool) -> None:
        whose, lease = self.lease(number)
        host = None if shared else WORKERS[whose].host
        made = unit(name, host=host, uri=f"/f{lease.fence}/{name}")
        self.both(lambda m: m.commit_unit(lease, name, host), lambda s: s.commit_unit(lease, made))

    @rule(name=by, units=st.integers(0, 3), then=st.sampled_from(["work", "publish", *ENDS]))
    def attempt(self, name: str, units: int, then: str) -> None:
        """The usual way of an attempt, or the beginning of it."""
        before = len(self.leases)
        self.claim(name, 1, None, PIPELINES)
        if len(self.leases) == before:
            return
        self.begin(0)
        self.plan(0, "d0", revised=False)
        for unit_name in UNITS[:units]:
            self.commit(0, unit_name, shared=False)
        if then in ("publish", State.SUCCEEDED):
            self.begin_publish(0)
        if then in set(ENDS):
            self.end(0, State(then), unlease=False)

    @precondition(lambda self: self.model.live())
    @rule(number=which, name=by, left=st.booleans())
    def lost_and_taken_again(self, number: int, name: str, left: bool) -> None:
        """INV-ONCE, INV-FENCE: somebody else has the job now, and its old attempt goes on writing."""
        live = self.model.live()
        old = live[number % len(live)]
        lease, holder = Lease(old.id, old.fence), old.worker
        assert holder is not None
        if left:
            self.staff(holder, "check out")
        self.time_passes(31.0)
        self.both(lambda m: m.renew(holder, [lease], TTL), lambda s: set(s.renew(holder, [lease], ttl=TTL)))
        while lease in self.model.expired():
            self.reap(0)
        self.attempt(name, 1, "work")
        self.writes_of(lease, holder)

    def writes_of(self, lease: Lease, name: str) -> None:
        """Every write there is: of an old attempt none takes effect."""
        host = WORKERS[name].host
        done = ending(State.SUCCEEDED)
        self.both(lambda m: m.touch(lease), lambda s: s.begin(lease, identity="i", pid=7, log_path="/l"))
        self.both(lambda m: m.touch(lease), lambda s: s.set_containment(lease, containment="tree", pid=8))
        self.both(lambda m: m.touch(lease), lambda s: s.set_input_media(lease, []))
        self.both(
            lambda m: m.commit_unit(lease, "u2", host),
            lambda s: s.commit_unit(lease, unit("u2", host=host, uri=f"/f{lease.fence}/u2")),
        )
        self.both(lambda m: [] if m.progress(lease) else [lease], lambda s: s.save_progress([picture(lease)]))
        self.both(
            lambda m: m.renew(name, [lease], TTL),
            lambda s: {held.lease for held in s.renew(name, [lease], ttl=TTL)},
        )
        if lease.fence < (self.model.jobs[lease.job_id].fence if lease.job_id in self.model.jobs else 0):
            self._begin_publish(lease)
            self.both(lambda m: m.end(lease, State.SUCCEEDED), lambda s: s.end(lease, done))

    @precondition(lambda self: self.leases)
    @rule(number=which, names=st.lists(st.sampled_from(UNITS), max_size=2, unique=True))
    def void(self, number: int, names: list[str]) -> None:
        _, lease = self.lease(number)
        self.both(lambda m: m.void_units(lease, names), lambda s: s.void_units(lease, "encode", names))

    @precondition(lambda self: self.leases)
    @rule(number=which)
    def begin_publish(self, number: int) -> None:
        self._begin_publish(self.lease(number)[1])

    def _begin_publish(self, lease: Lease) -> None:
        self.both(
            lambda m: m.begin_publish(lease),
            lambda s: s.begin_publish(lease, [staged()], ending(State.SUCCEEDED)),
        )

    @precondition(lambda self: self.model.live())
    @rule(number=which, cancel_first=st.booleans(), awaited=st.booleans(), over=st.booleans())
    def publish_and_cancel_meet(self, number: int, cancel_first: bool, awaited: bool, over: bool) -> None:
        """INV-TORN, INV-LOST: whoever comes first, the other one is told, and so are those that wait."""
        live = self.model.live()
        job = live[number % len(live)]
        lease = Lease(job.id, job.fence)
        if awaited:
            back = list(reversed(self.model.jobs)).index(job.id)
            self.submit("faces", "default", 1, 1, 0, 7, 7, [back])
        if cancel_first:
            self.request("cancel", lease.job_id)
        self._begin_publish(lease)
        if not cancel_first:
            self.request("cancel", lease.job_id)
        if over:
            self._succeed(lease)

    @precondition(lambda self: self.model.jobs)
    @rule(key=st.integers(0, 1), path=st.integers(0, 1), how=st.sampled_from(["cancel", "end"]))
    def the_same_again_and_the_first_resumed(self, key: int, path: int, how: str) -> None:
        """INV-DUP."""
        before = set(self.model.jobs)
        self.submit("convert", "default", 1, 1, 0, key, path, [])
        for id in set(self.model.jobs) - before:
            if how == "cancel":
                self.request("cancel", id)
            else:
                self.attempt("w0", 1, State.FAILED)
            self.submit("faces", "night", 0, 1, 0, key, 7, [])
            self.both(lambda m, id=id: m.resume([id]), lambda s, id=id: self._resume(s, [id], True, Terms()))  # type: ignore[misc]

    @precondition(lambda self: self.leases)
    @rule(number=which, state=st.sampled_from(ENDS), unlease=st.booleans())
    def end(self, number: int, state: State, unlease: bool) -> None:
        _, lease = self.lease(number)
        found = self.model.jobs.get(lease.job_id)
        if found is not None and found.phase is Phase.PUBLISHING:
            state = (
                State.FAILED if state is State.FAILED else State.SUCCEEDED
            )  # nobody asks for anything else
        call = "unlease" if unlease else "end"
        self.both(
            lambda m: m.end(lease, state, unlease=unlease), lambda s: getattr(s, call)(lease, ending(state))
        )

    # -- people ------------------------------------------------------------------------------------------
    @precondition(lambda self: self.model.jobs)
    @rule(number=which, what=st.sampled_from(["cancel", "pause"]))
    def ask(self, number: int, what: str) -> None:
        self.request(what, self.newest(number))

    def request(self, what: str, id: str) -> None:
        if what == "cancel":
            self.both(lambda m: m.cancel(id), lambda s: s.request_cancel([id], by="ann")[0].state)
        else:
            self.both(
                lambda m: m.pause(id), lambda s: s.request_pause([id], by="ann", reason=PAUSED)[0].state
            )

    @precondition(lambda self: self.model.jobs)
    @rule(
        numbers=st.lists(which, min_size=1, max_size=3),
        fresh=st.booleans(),
        units=st.sampled_from(["keep", "keep", "all", "u0"]),
    )
    def resume(self, numbers: list[int], fresh: bool, units: str) -> None:
        """Resume; retry that forgets all or one of the units, of what goes on (INV-KEEP)."""
        ids = list(dict.fromkeys(self.newest(number) for number in numbers))
        drop: tuple[str, ...] | None = {"keep": (), "all": None}.get(units, (units,))
        terms = Terms(fresh=units == "all", redo=tuple(drop or ()))
        self.both(lambda m: m.resume(ids, drop), lambda s: self._resume(s, ids, fresh, terms))

    @precondition(lambda self: self.model.jobs)
    @rule(number=which, units=st.sampled_from([None, ["u0"]]))
    def drop_units(self, number: int, units: list[str] | None) -> None:
        id = self.newest(number)
        self.both(
            lambda m: m.drop_units(id, units),
            lambda s: {one.name for one in s.drop_units(id, units=units)},
        )

    def _resume(self, store: Store, ids: list[str], fresh: bool, terms: Terms) -> dict[str, set[str]]:
        outcomes = store.resume(ids, by="ann", fresh_budgets=fresh, terms=dict.fromkeys(ids, terms))
        return {one.job_id: {unit.name for unit in one.dropped} for one in outcomes}

    @precondition(lambda self: self.model.jobs)
    @rule(number=which, what=seldom)
    def remove(self, number: int, what: bool) -> None:
        id = self.newest(number)
        if what:
            self.both(lambda m: m.remove(id), lambda s: s.remove([id]))

    @rule(queue=st.sampled_from(QUEUES), paused=seldom)
    def queue(self, queue: str, paused: bool) -> None:
        if paused:
            self.both(lambda m: m.paused_queues.add(queue), lambda s: s.pause_queue(queue, by="ann"))
        else:
            self.both(lambda m: m.paused_queues.discard(queue), lambda s: s.resume_queue(queue))

    def _succeed(self, lease: Lease) -> None:
        self.both(lambda m: m.end(lease, State.SUCCEEDED), lambda s: s.end(lease, ending(State.SUCCEEDED)))

    # -- at the end --------------------------------------------------------------------------------------
    def all_ends_in_the_end(self) -> None:
        """INV-LOST: with queues open, leases out and room for all, every job that is not paused ends."""
        for queue in QUEUES:
            self.queue(queue, paused=False)
        self.time_passes(1000.0)
        for _ in range(3 * len(self.model.jobs) + 3):
            while self.model.expired():
                self.reap(0)
            if not any(one.state is State.QUEUED for one in self.model.jobs.values()):
                break
            self.time_passes(TTL)  # what was just reaped is left to the machine with its units for so long
            self.claim("w2", 3, None, PIPELINES)
            for held in self.model.live():
                self._succeed(Lease(held.id, held.fence))
        left = {one.state for one in self.model.jobs.values()} & ACTIVE
        waits_for_paused = State.WAITING if State.PAUSED in left else State.PAUSED
        assert left <= {State.PAUSED, waits_for_paused}
        self.all_that_is_seen_is_what_the_model_says()
        self.every_change_has_its_event_and_is_legal()
