"""A watcher's lease: what it notices when this process, or the whole machine, stood still."""

from tests.client.world import World
from unjam.client.attach import RENEW_EVERY, Attachment
from unjam.jobs.states import State
from unjam.supervise.linux import boottime


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_watcher_that_slept_past_its_lease_says_so_and_watches_again(world: World) -> None:
    world.file("a.mov")
    job = world.submit_one(world.ask("a.mov", output_dir="out"))
    clock = Clock()
    attachment = Attachment(world.store, ttl=15.0, clock=clock)
    attachment.add([job.id])
    assert attachment.tick(), "nothing is due yet"
    clock.now += RENEW_EVERY
    assert attachment.tick()
    # A night with the lid closed: what the store holds is aged, and somebody who woke first looks at it.
    world.store.attach(attachment.watcher.id, [job.id], ttl=-1.0)
    clock.now += 3600.0
    assert world.store.expire_attachments() == [job.id]
    assert world.job(job.id).state is State.PAUSED
    assert not attachment.tick(), "the jobs may have been paused: whoever watches them has to look"
    assert not attachment.held()
    world.store.resume([job.id], by="a test", fresh_budgets=False, watcher=attachment.watcher)
    assert attachment.held() == {job.id}
    world.store.attach(attachment.watcher.id, [job.id], ttl=-1.0)
    assert world.store.expire_attachments() == [job.id], "it watches again"


def test_the_clock_runs_while_the_machine_sleeps(world: World) -> None:
    assert Attachment(world.store, ttl=1.0)._clock is boottime
