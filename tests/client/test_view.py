"""The JSON of a job: exactly the fixed keys, and the truth about what happens next."""

import json
from dataclasses import replace

import pytest

from tests.client.world import World
from unjam.client.view import job_view, row_view
from unjam.client.waits import Surroundings, look_around, next_step
from unjam.errors import NotFound
from unjam.jobs.model import JobLimits
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.records import AttemptEnd, AttemptRecord, ProgressUpdate, UnitRecord
from unjam.jobs.states import AttemptState, Phase, Request, State, UnitState

# Scripts rely on these names; more may come, none may go.
JOB = """
    id pipeline pipeline_version state phase reason requested stalled progress eta_seconds next inputs params
    output_dir queue priority tags batch_id after dedupe_key stages attempts artifacts usage
    heartbeat_age_seconds advanced_age_seconds lease_expires_in_seconds created_at started_at finished_at
"""
ATTEMPT = """
    number fence worker_id host state reason containment pid started_at ended_at peak_rss_bytes cpu_seconds
    units_reused
"""


def why(world: World, job_id: str) -> str:
    upcoming = job_view(world.store, job_id)["next"]
    return f"{upcoming['action']}: {upcoming['why']}"


def submitted(world: World) -> str:
    world.file("a.mov")
    return world.submit_one(world.ask("a.mov", output_dir="out")).id


def test_all_fixed_keys_are_there_and_it_is_json(world: World) -> None:
    job_id = submitted(world)
    world.claim(world.worker())
    view = json.loads(json.dumps(job_view(world.store, job_id, units=True)))
    assert set(view) >= {*JOB.split(), "units"}
    assert set(view["attempts"][0]) >= set(ATTEMPT.split())
    assert set(view["inputs"][0]) == {"name", "uri", "source", "size_bytes", "mtime", "media"}
    assert set(view["next"]) == {"action", "at", "cause", "why"}
    assert view["created_at"].endswith("Z")
    assert "units" not in job_view(world.store, job_id)


def test_a_row_of_a_list_has_the_same_names(world: World) -> None:
    job_id = submitted(world)
    assert set(row_view(world.job(job_id), look_around(world.store))) <= set(
        job_view(world.store, job_id)
    ) | {"message", "name"}


def test_no_such_job(world: World) -> None:
    with pytest.raises(NotFound):
        job_view(world.store, "j000000000")


def test_why_a_job_waits_in_every_case(world: World) -> None:
    job_id = submitted(world)
    assert "no_worker: no worker is running" in why(world, job_id)
    silent = world.worker(alive=False)
    assert "no_worker: no worker is running" in why(world, job_id)
    world.store.check_out(silent.id)
    other = world.worker(pipelines=("exec",))
    assert "none of 1 worker knows the pipeline convert" in why(world, job_id)
    world.store.check_out(other.id)
    picky = world.worker(queues=("night",))
    assert "none of 1 worker takes jobs of queue default" in why(world, job_id)
    world.store.check_out(picky.id)
    able = world.worker()
    assert "start: a worker has room for it" in why(world, job_id)
    world.store.pause_queue("default", by="anna")
    assert "queue default is paused by anna" in why(world, job_id)
    world.store.resume_queue("default")
    world.store.heartbeat(able.id, ttl=30, draining=True)
    assert "draining" in why(world, job_id)


def test_why_a_job_waits_for_another(world: World) -> None:
    first = submitted(world)
    second = world.submit_one(world.ask(f"job:{first}", output_dir="out2"))
    assert why(world, second.id) == f"start: waits for {first} (queued)"


def test_paused_by_whom_and_how_to_go_on(world: World) -> None:
    job_id = submitted(world)
    world.store.request_pause([job_id], by="anna", reason=Reason(ReasonCode.INTERRUPTED, "paused by anna"))
    assert why(world, job_id) == f"resume: paused by anna; `unjam resume {job_id}` goes on"


def test_a_running_job_is_shown_with_the_age_of_its_proof(world: World) -> None:
    """INV-TRUTH"""
    job_id = submitted(world)
    claim = world.claim(world.worker())
    update = ProgressUpdate(claim.lease, Phase.WORKING, 0.5, 60.0, "frame 7", None, None, None)
    world.store.save_progress([update])
    view = job_view(world.store, job_id)
    assert view["heartbeat_age_seconds"] is not None
    assert 0 < view["lease_expires_in_seconds"] <= 30
    assert why(world, job_id) == "finish: frame 7"


def test_the_job_of_a_dead_worker_is_not_shown_as_simply_running(world: World) -> None:
    """INV-TRUTH"""
    job_id = submitted(world)
    world.claim(world.worker(alive=False))
    assert why(world, job_id).startswith("recover: its worker")


def test_an_expired_lease_stalls_and_requests_are_told(world: World) -> None:
    job_id = submitted(world)
    world.claim(world.worker())
    job = world.job(job_id)
    around = Surroundings(now=1000.0)

    def step(**changes: object) -> str:
        changed = replace(job, **{"lease_expires_at": 1020.0, "heartbeat_at": 990.0, **changes})  # type: ignore[arg-type]
        upcoming = next_step(changed, around)
        return "" if upcoming is None else f"{upcoming.action} {upcoming.at}: {upcoming.why}"

    assert step(lease_expires_at=999.0).startswith("recover None: its worker has been silent for 10 s")
    assert step(stalled="no new frame for 120 s") == "stop None: stalled: no new frame for 120 s"
    assert step(requested=Request.PAUSE).startswith("pause None")
    assert step(state=State.CANCELLING).startswith("cancel None")
    assert step(eta_seconds=30.0).startswith("finish 1030.0")
    assert step(state=State.FAILED) == ""
    limited = replace(job.spec, limits=JobLimits(timeout=60))
    attempt = AttemptRecord(1, 1, "worker", "host", AttemptState.RUNNING, started_at=990.0)
    timed = next_step(
        replace(job, spec=limited, lease_expires_at=1020.0, eta_seconds=500.0),
        replace(around, last_attempt=lambda job_id: attempt),
    )
    assert timed is not None
    assert (timed.action, timed.at) == ("timeout", 1050.0)


def test_backoff_says_until_when(world: World) -> None:
    job = replace(world.job(submitted(world)), run_at=1012.0, reason=Reason(ReasonCode.CRASHED, "died"))
    upcoming = next_step(job, Surroundings(now=1000.0))
    assert upcoming is not None
    assert (upcoming.action, upcoming.at) == ("retry", 1012.0)
    assert "backs off for 12 s" in upcoming.why
    assert "died" in upcoming.why


def test_finished_units_on_a_machine_that_is_not_here_are_told(world: World) -> None:
    job_id = submitted(world)
    away = world.worker(host="id-of-another", host_name="studio-2")
    claim = world.claim(away)
    world.store.put_plan(claim.lease, "encode", "d", {}, host="id-of-another")
    for name in ("s0", "s1"):
        unit = UnitRecord("encode", name, UnitState.COMMITTED, 1.0, host="id-of-another")
        world.store.commit_unit(claim.lease, unit)
    assert "2 finished units" not in why(world, job_id)
    world.end(claim, State.QUEUED, ReasonCode.WORKER_LOST)
    world.store.heartbeat(away.id, ttl=-1)
    other = world.worker(ttl=31.5)
    waits = job_view(world.store, job_id)["next"]
    assert waits["cause"] == "units"
    assert waits["why"] == (
        "2 finished units on studio-2: left to it for 31 s, then another machine takes it and does them again"
    )
    assert world.take(other) == [], "what is told is what a claim does"
    at_home = world.worker(host="id-of-another")
    assert job_view(world.store, job_id)["next"]["cause"] == "turn"
    world.store.check_out(at_home.id)
    waited = replace(other, heartbeat_at=world.store.now() + 31, expires_at=world.store.now() + 62)
    later = replace(look_around(world.store), now=world.store.now() + 31, workers=[waited])
    upcoming = next_step(world.job(job_id), later)
    assert upcoming is not None
    assert upcoming.cause == "turn"
    assert upcoming.why.endswith("when its turn comes; does 2 finished units on id-of-another again")


def test_a_slot_of_what_cannot_be_killed_is_told(world: World) -> None:
    job_id = submitted(world)
    worker = world.worker(slots=1)
    world.store.heartbeat(worker.id, ttl=30, stuck=1)
    told = job_view(world.store, job_id)["next"]
    assert told["cause"] == "slots"
    assert told["why"].endswith("; 1 slot held by processes that cannot be killed")


def test_what_is_publishing_says_so(world: World) -> None:
    job_id = submitted(world)
    claim = world.claim(world.worker())
    reason = Reason(ReasonCode.OK, "done")
    end = AttemptEnd(AttemptState.SUCCEEDED, reason, State.SUCCEEDED, reason, claim.job.counters)
    assert world.store.begin_publish(claim.lease, [], end)
    assert why(world, job_id) == "finish: its outputs are taking their names"
