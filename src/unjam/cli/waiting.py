"""What is said to whoever does not wait: that nobody may be there to do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unjam.cli.output import say

if TYPE_CHECKING:
    from unjam.jobs.model import Job
    from unjam.store.port import Store


def say_if_nobody_takes(store: Store, job: Job) -> None:
    """A warning when nothing will happen to this job by itself."""
    from unjam.client.owners import live, suitable

    workers, now = store.workers(), store.now()
    if not suitable(workers, job, now):
        what = "no worker is running" if not live(workers, now) else "no running worker takes such jobs"
        say(f"no_worker: {what}: the jobs wait until one is started with `unjam worker`")
