"""Submitting: whole, once, and in order of what it waits for."""

import dataclasses

import pytest

from tests.store.rig import (
    HOST,
    an_input,
    artifact,
    bring,
    changes,
    ending,
    job,
    staged,
    state_of,
    take_one,
    unit,
)
from unjam.errors import Duplicate, NotFound
from unjam.jobs.model import Budgets, JobLimits, Needs, NewBatch
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.states import OnExists, State
from unjam.store import JobFilter, OnDuplicate, Store, Submitted


def test_a_job_comes_back_as_it_was_submitted(store: Store) -> None:
    upstream = job("up")
    full = job(
        "full",
        pipeline_version=3,
        params={"preset": "hls", "crf": 23, "nested": {"a": [1, None, "ü"]}},
        inputs=(an_input("a.mov"), an_input("b.srt")),
        output_dir="/out",
        output_path="/out/a.mp4",
        name="a.mov",
        queue="night",
        priority=-5,
        tags={"show": "S01", 'odd"key': "x"},
        after=("up",),
        dedupe_key="k" * 64,
        needs=Needs(cpu=3, memory_bytes=5, disk_bytes=7, gpu=1),
        limits=JobLimits(timeout=1.5, stall_after=2.5, memory_bytes=9, nice=3),
        budgets=Budgets(1, 2, 3),
        on_exists=OnExists.RENAME,
        force=True,
    )
    store.submit(upstream)
    store.submit(full)
    assert [job.spec for job in store.get_many(["full", "up"])] == [full, upstream]


@pytest.mark.parametrize("odd", ["caf\udce9", "ü", "\x1bodd", "\x1b\udc80", "a'b\n"])
def test_names_of_any_bytes_come_back_whole(store: Store, odd: str) -> None:
    """Names need not be UTF-8; an output path that lost a byte would be another file."""
    names = {"output_dir": f"/out/{odd}", "name": odd, "inputs": (an_input(odd),), "params": {"also": odd}}
    one, many = (job(id, output_path=f"/out/{odd}/{id}", **names) for id in ("one", "many"))
    store.submit(one)
    store.submit_many([many])
    assert [found.spec for found in store.get_many(["one", "many"])] == [one, many]
    with pytest.raises(Duplicate):
        store.submit(job("again", output_path=f"/out/{odd}/many"))
    assert isinstance(store.submit_many([job("again", output_path=f"/out/{odd}/one")])[0], Reason)
    claim = take_one(store)
    store.begin(claim.lease, identity="i", pid=1, log_path=f"/logs/{odd}")
    store.commit_unit(claim.lease, unit(uri=f"/units/{odd}"))
    main = dataclasses.replace(artifact(), name=odd, path=f"/out/{odd}/one")
    staged_main = dataclasses.replace(staged(), final_path=f"/out/{odd}/one")
    end = ending(
        State.FAILED, claim, artifacts=(main,), job_reason=Reason(ReasonCode.INPUT_BAD, f"{odd} is bad")
    )
    assert store.begin_publish(claim.lease, [staged_main], end)
    (left,) = store.publishing(HOST)
    assert (left.outputs, left.end) == ((staged_main,), end)
    store.end(claim.lease, end)
    assert store.artifacts("one") == [main]
    assert store.units("one")[0].uri == f"/units/{odd}"
    assert store.attempts("one")[0].log_path == f"/logs/{odd}"


def test_a_new_job_is_queued_now(store: Store) -> None:
    assert store.submit(job()) == Submitted("job-1", created=True)
    new = store.get("job-1")
    assert new is not None
    assert (new.state, new.phase, new.requested, new.reason, new.fence) == (State.QUEUED, None, None, None, 0)
    assert new.created_at == new.run_at == store.now()
    assert (new.progress, new.message, new.worker_id, new.finished_at) == (0.0, "", None, None)
    assert changes(store) == [(None, State.QUEUED)]


def test_the_same_submission_again_is_recognised(store: Store) -> None:
    store.submit(job())
    assert store.submit(job()) == Submitted("job-1", created=False)
    assert store.submit_many([job(), job("job-2")]) == [Submitted("job-1", False), Submitted("job-2", True)]
    assert store.count_by_state(JobFilter()) == {State.QUEUED: 2}


@pytest.mark.parametrize("field", ["dedupe_key", "output_path"])
def test_the_second_asker_is_told_who_has_the_work(store: Store, field: str) -> None:
    """INV-DUP."""
    store.submit(job(**{field: "/out/same"}))
    with pytest.raises(Duplicate, match="job-1") as refused:
        store.submit(job("job-2", **{field: "/out/same"}))
    assert refused.value.job_id == "job-1"
    again = store.submit(job("job-3", **{field: "/out/same"}), on_duplicate=OnDuplicate.RETURN)
    assert again == Submitted("job-1", created=False)
    assert store.get("job-2") is None
    assert store.get("job-3") is None


@pytest.mark.parametrize("field", ["dedupe_key", "output_path"])
@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "partial", "skipped"])
def test_an_ended_job_gives_its_key_and_its_name_free(store: Store, field: str, state: str) -> None:
    """INV-LOCK: the key is held by being active, not by a row that could be forgotten."""
    store.submit(job(**{field: "same"}))
    claim = take_one(store)
    store.end(claim.lease, ending(State(state), claim))
    assert store.submit(job("job-2", **{field: "same"})).created
    found = store.find_dedupe("same")
    assert found is None if field == "output_path" else found is not None and found.id == "job-2"


def test_the_newest_ended_job_of_a_key_is_found(store: Store) -> None:
    for number in range(3):
        store.submit(job(f"job-{number}", dedupe_key="same"))
        store.request_cancel([f"job-{number}"], by="ann")
    found = store.find_dedupe("same")
    assert found is not None
    assert found.id == "job-2"
    assert store.find_dedupe("other") is None


def test_many_jobs_go_in_as_one_batch(store: Store) -> None:
    outcome = store.submit_many([job(f"job-{i}") for i in range(50)], batch=NewBatch("batch-1", "*.mov"))
    assert outcome == [Submitted(f"job-{i}", created=True) for i in range(50)]
    assert store.batch_jobs("batch-1") == [f"job-{i}" for i in range(50)]
    assert store.batch_jobs("batch-2") is None
    first = store.get("job-0")
    assert first is not None
    assert first.batch_id == "batch-1"
    assert changes(store) == [(None, State.QUEUED)] * 50


def test_duplicates_in_a_batch_are_named_and_the_others_go_in(store: Store) -> None:
    store.submit(job("there", dedupe_key="a"))
    new = [
        job("job-1", dedupe_key="a"),
        job("job-2", dedupe_key="b", output_path="/out/b"),
        job("job-3", dedupe_key="b"),
        job("job-4", output_path="/out/b"),
        job("job-5"),
    ]
    outcome = store.submit_many(new)
    assert [type(one) for one in outcome] == [Reason, Submitted, Reason, Reason, Submitted]
    named = [one.message for one in outcome if isinstance(one, Reason)]
    assert ["there" in named[0], "job-2" in named[1], "job-2" in named[2]] == [True] * 3
    assert {one.code for one in outcome if isinstance(one, Reason)} == {ReasonCode.DUPLICATE}
    returned = store.submit_many([job("job-6", dedupe_key="a")], on_duplicate=OnDuplicate.RETURN)
    assert returned == [Submitted("there", created=False)]


def test_a_refused_submission_leaves_nothing(store: Store) -> None:
    """Also not the queue that it would have been the first in: the next one makes it again."""
    with pytest.raises(NotFound):
        store.submit(job(queue="new", after=("no-such-job",)))
    with pytest.raises(NotFound):
        store.submit_many(
            [job("a"), job("b", queue="new", after=("no-such-job",))], batch=NewBatch("batch", "x")
        )
    assert store.list_jobs(JobFilter()) == []
    assert store.batch_jobs("batch") is None
    assert store.last_event_id() == 0
    store.submit(job("there", dedupe_key="same"))
    with pytest.raises(Duplicate):
        store.submit(job("refused", queue="new", dedupe_key="same"))
    store.submit(job(queue="new"))
    assert take_one(store, queues=["new"]).job.id == "job-1"


# -- waiting for other jobs ------------------------------------------------------------------------------
def test_a_job_waits_until_all_it_waits_for_succeeded(store: Store) -> None:
    store.submit_many([job("a"), job("b"), job("c", after=("a", "b"))])
    assert state_of(store, "c") is State.WAITING
    assert store.blocked_by("c") == ["a", "b"]
    for id in ("a", "b"):
        assert state_of(store, "c") is State.WAITING
        claim = take_one(store)
        assert claim.job.id == id
        store.end(claim.lease, ending(State.SUCCEEDED, claim))
    assert state_of(store, "c") is State.QUEUED
    assert store.blocked_by("c") == []
    assert changes(store, "c") == [(None, State.WAITING), (State.WAITING, State.QUEUED)]


@pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED, State.PARTIAL])
def test_what_waits_for_a_failed_job_fails_down_the_chain(store: Store, end: State) -> None:
    """INV-LOST: nobody waits for what will not come."""
    store.submit_many([job("a"), job("b", after=("a",)), job("c", after=("b",)), job("d", after=("c", "a"))])
    claim = take_one(store)
    store.end(claim.lease, ending(end, claim))
    for id, cause in (("b", "a"), ("c", "b")):
        waiting = store.get(id)
        assert waiting is not None
        assert waiting.state is State.FAILED
        assert waiting.reason is not None
        assert waiting.reason.code is ReasonCode.DEPENDENCY_FAILED
        assert f"job {cause}," in waiting.reason.message
    assert state_of(store, "d") is State.FAILED


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ("succeeded", State.QUEUED),
        ("skipped", State.QUEUED),
        ("failed", State.FAILED),
        ("running", State.WAITING),
    ],
)
def test_what_it_waits_for_may_have_ended_before(store: Store, upstream: str, expected: State) -> None:
    bring(store, upstream)
    store.submit(job("late", after=("job-1",)))
    assert state_of(store, "late") is expected


def test_a_circle_cannot_be_submitted(store: Store) -> None:
    """INV-LOST."""
    with pytest.raises(NotFound, match="no job b"):
        store.submit_many([job("a", after=("b",)), job("b", after=("a",))])
    with pytest.raises(NotFound):
        store.submit(job("self", after=("self",)))


def test_who_waits_for_a_duplicate_waits_for_the_one_that_does_the_work(store: Store) -> None:
    store.submit(job("there", dedupe_key="a"))
    outcome = store.submit_many([job("again", dedupe_key="a"), job("next", after=("again",))])
    assert isinstance(outcome[0], Reason)
    assert store.blocked_by("next") == ["there"]
