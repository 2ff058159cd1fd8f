"""One of several processes that use a store at the same time: `racer.py URL WHAT NUMBER`.

It says "ready", waits for a line, does its part, and tells the outcome as JSON.
"""

import json
import sys
import time

from tests.store.rig import TTL, ending, job, take
from unjam.errors import Duplicate
from unjam.jobs.machines import Capacity
from unjam.jobs.states import State
from unjam.store import Store, open_store


def claim_all(store: Store, number: int) -> object:
    """Claim one at a time until nothing is left: [job, fence] of each."""
    got = []
    while claims := take(store, by=f"worker-{number}", host=f"host-{number}"):
        got += [[claim.job.id, claim.lease.fence] for claim in claims]
    return got


def claim_slots(store: Store, number: int) -> object:
    """Claim on a machine that has room for three, as often as one can in a second; keep what was got."""
    capacity = Capacity("shared", cpu=3, memory_bytes=1 << 40, gpu=0, free_slots=2)
    got: list[str] = []
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        claims = store.claim(
            f"worker-{number}", capacity=capacity, queues=None, pipelines=("convert",), ttl=TTL, limit=2
        )
        got += [claim.job.id for claim in claims]
    return got


def submit_same(store: Store, number: int) -> object:
    """Submit the same 20 pieces of work: numbers of those that were ours, and who has the others."""
    made, others = [], {}
    for key in range(20):
        try:
            store.submit(job(f"job-{number}-{key}", dedupe_key=f"key-{key}", output_path=f"/out/{key}"))
            made.append(key)
        except Duplicate as refused:
            others[key] = refused.job_id
    return {"made": made, "others": others}


def end_upstream(store: Store, number: int) -> object:
    """End the jobs of one pipeline, oldest first: with success, or (pipeline `fails`) without."""
    pipeline = ("convert", "faces", "fails")[number]
    state = State.FAILED if pipeline == "fails" else State.SUCCEEDED
    claims = take(store, by=f"worker-{number}", host=f"host-{number}", pipelines=[pipeline], limit=60)
    for claim in claims:
        store.end(claim.lease, ending(state, claim))
    return len(claims)


def resume_or_fail(store: Store, number: int) -> object:
    """One lets upstream jobs fail, the other resumes those that wait for them."""
    if number == 0:
        return end_upstream(store, 2)
    for i in range(60):
        store.resume([f"down-{i:02}"], by="ann", fresh_budgets=False)
    return 60


def follow_events(store: Store, number: int) -> object:
    """The first reads events from a cursor until 200 jobs are there, the others submit them."""
    if number > 0:
        for i in range(100):
            store.submit(job(f"job-{number}-{i}"))
        return []
    cursor, seen = 0, list[str]()
    deadline = time.monotonic() + 30
    while len(seen) < 200 and time.monotonic() < deadline:
        for event in store.events_since(cursor):
            cursor = event.id
            seen.append(event.job_id or "")
    return seen


def submit_for_ever(store: Store, number: int) -> object:
    """Until somebody kills it: a job and a batch, and every fourth job claimed."""
    count = 0
    while True:
        store.submit(job(f"job-{number}-{count}"))
        store.submit_many([job(f"many-{number}-{count}-{i}") for i in range(5)])
        if count % 4 == 0:
            take(store, by=f"worker-{number}", host=f"host-{number}")
        count += 1
        if count == 1:
            print(json.dumps("going"), flush=True)


def main() -> None:
    url, what, number = sys.argv[1:]
    store = open_store(url)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(globals()[what](store, int(number))), flush=True)
    store.close()


if __name__ == "__main__":
    main()
