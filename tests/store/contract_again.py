"""A write was done and its caller was told that it failed: asked again, it changes nothing more and says so.

Every method of the port that writes stands here; the last test sees to that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.store.rig import (
    HOST,
    PAUSED,
    TTL,
    Backend,
    Clock,
    an_input,
    bring,
    ending,
    job,
    picture,
    room,
    staged,
    state_of,
    take,
    unit,
    worker,
)
from unjam.errors import Duplicate, LeaseLost, NotFound, StoreUnavailable, UnjamError
from unjam.jobs.model import NewBatch
from unjam.jobs.records import Lease
from unjam.jobs.states import State
from unjam.store import Store
from unjam.store.faults import READS, faulty
from unjam.store.port import Submitted


@dataclass(frozen=True)
class Again:
    """A write, the state of the job it needs, and what the second call says: an answer or an error."""

    call: Callable[[Store, Lease], Any]
    state: str = "running"
    says: type[UnjamError] | None = None
    """The fence, or the fact itself, tells the second caller that all is done."""
    same: bool = True
    """Does the second call leave everything as the first did? (A claim takes the next job.)"""


LEASED = ending(State.SUCCEEDED)
CASES: dict[str, Again] = {
    "submit": Again(lambda s, _: s.submit(job("new", tags={"a": "b"}))),
    "submit_many": Again(
        lambda s, _: s.submit_many([job("x"), job("y", after=("x",))], batch=NewBatch("b", "x"))
    ),
    "claim": Again(lambda s, _: take(s), state="queued"),
    "begin": Again(lambda s, lease: s.begin(lease, identity="i", pid=7, log_path="/l"), same=False),
    "renew": Again(lambda s, lease: s.renew("worker-1", [lease], ttl=TTL)),
    "set_containment": Again(lambda s, lease: s.set_containment(lease, containment="pidns", pid=7)),
    "put_plan": Again(lambda s, lease: s.put_plan(lease, "encode", "d", {"n": 1}, host=HOST)),
    "revise_plan": Again(lambda s, lease: s.revise_plan(lease, "encode", "d2", {"n": 2}), same=False),
    "commit_unit": Again(lambda s, lease: s.commit_unit(lease, unit())),
    "void_units": Again(lambda s, lease: s.void_units(lease, "encode", ["0000"])),
    "save_progress": Again(lambda s, lease: s.save_progress([picture(lease)])),
    "set_input_media": Again(lambda s, lease: s.set_input_media(lease, [an_input("seen")])),
    "begin_publish": Again(lambda s, lease: s.begin_publish(lease, [staged()], LEASED), same=False),
    "end": Again(lambda s, lease: s.end(lease, LEASED), says=LeaseLost),
    "unlease": Again(lambda s, lease: s.unlease(lease, ending(State.QUEUED)), says=LeaseLost),
    "request_cancel": Again(lambda s, _: s.request_cancel(["job-1"], by="ann")),
    "request_pause": Again(lambda s, _: s.request_pause(["job-1"], by="ann", reason=PAUSED)),
    "resume": Again(lambda s, _: s.resume(["job-1"], by="ann", fresh_budgets=True), state="failed"),
    "drop_units": Again(lambda s, _: s.drop_units("job-1"), state="paused"),
    "remove": Again(lambda s, _: s.remove(["job-1"]), state="failed"),
    "attach": Again(lambda s, _: s.attach("watcher", ["job-1"], ttl=TTL)),
    "renew_attachment": Again(lambda s, _: s.renew_attachment("watcher", ttl=TTL)),
    "detach": Again(lambda s, _: s.detach("watcher")),
    "expire_attachments": Again(lambda s, _: s.expire_attachments()),
    "check_in": Again(lambda s, _: s.check_in(worker("new"), ttl=TTL)),
    "heartbeat": Again(lambda s, _: s.heartbeat("worker-1", ttl=TTL)),
    "check_out": Again(lambda s, _: s.check_out("worker-1"), state="queued"),
    "forget_worker": Again(lambda s, _: s.forget_worker("worker-1"), state="queued"),
    "pause_queue": Again(lambda s, _: s.pause_queue("default", by="ann"), same=False),
    "resume_queue": Again(lambda s, _: s.resume_queue("default")),
    "shrink": Again(lambda s, _: s.shrink(), state="failed"),
    "prune": Again(lambda s, _: s.prune(ended_before=s.now() + 1), state="failed"),
}


@pytest.mark.parametrize("name", CASES)
def test_done_but_said_to_have_failed(store: Store, backend: Backend, clock: Clock, name: str) -> None:
    """INV-LOST, INV-ONCE, INV-KEEP, INV-DUP: for every write."""
    case = CASES[name]
    store.check_in(worker(), ttl=TTL)
    lease = bring(store, case.state) or Lease("job-1", 1)
    if case.state == "running":
        store.put_plan(lease, "encode", "d", {"n": 1}, host=HOST)
        store.commit_unit(lease, unit("0000"))
        store.attach("watcher", ["job-1"], ttl=TTL)
    if name == "expire_attachments":
        clock.advance(TTL + 1)
    asked = faulty(store)
    with pytest.raises(StoreUnavailable, match="was done"):
        case.call(asked, lease)
    after = backend.dump()
    if case.says is None:
        case.call(store, lease)
    else:
        with pytest.raises(case.says):
            case.call(store, lease)
    if case.same:
        assert backend.dump() == after
    assert store.check() == []


def test_what_the_second_submission_is_told(store: Store) -> None:
    """INV-DUP: the id that it asked for is the job that does the work."""
    spec = job("mine", dedupe_key="k", output_path="/out/a")
    with pytest.raises(StoreUnavailable):
        faulty(store).submit(spec)
    assert store.submit(spec).job_id == "mine"
    assert store.submit_many([spec]) == [Submitted("mine", created=False)]
    with pytest.raises(Duplicate, match="mine"):
        store.submit(job("other", dedupe_key="k"))


def test_a_claim_whose_answer_was_lost_comes_back_with_its_lease(store: Store, clock: Clock) -> None:
    """INV-LOST: nobody runs it, nobody renews it; it is found when its lease has run out."""
    store.submit(job())
    with pytest.raises(StoreUnavailable):
        faulty(store).claim("worker-1", capacity=room(), queues=None, pipelines=["convert"], ttl=TTL, limit=1)
    assert take(store) == []
    clock.advance(TTL)
    (lost,) = store.expired()
    store.unlease(lost.lease, ending(State.QUEUED))
    assert state_of(store) is State.QUEUED
    with pytest.raises(NotFound):
        store.heartbeat("worker-1", ttl=TTL)


def test_every_write_of_the_port_is_here() -> None:
    port = {name for name in vars(Store) if not name.startswith("_") and name != "url"}
    assert port - READS == set(CASES)
