"""Waiting for jobs in the foreground: their worker if nobody else takes them, Ctrl+C, the exit code."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack

from unjam.cli import exits
from unjam.cli.display import Display, make_display, outputs
from unjam.cli.output import data_name, say
from unjam.cli.signals import Signals
from unjam.client.actions import kill_now
from unjam.client.attach import Attachment
from unjam.client.follow import Follower, paces
from unjam.client.local import LocalWorker
from unjam.client.waits import look_around, next_step
from unjam.jobs.lifecycle import LIVE
from unjam.jobs.model import Job
from unjam.jobs.reasons import Reason, ReasonCode
from unjam.jobs.states import Phase, State
from unjam.printable import one_line
from unjam.settings import Settings
from unjam.store.attachments import ABANDONED
from unjam.store.port import Store

WHY_AFTER = 3.0
"""Seconds without any running job after which it is said why they wait."""
PAUSE_LIMIT = 20.0
"""Seconds beyond the grace after which a pause that was asked for is no longer waited for."""
_READER_GONE = "the reader of this run's output went away"


def run_attached(
    store: Store,
    settings: Settings,
    job_ids: Sequence[str],
    attachment: Attachment,
    *,
    cursor: int | None,
    as_json: bool,
    quiet: bool = False,
    slots: int | None = None,
    refused: int = 0,
    guests: Collection[str] = (),
) -> int:
    """Follow jobs that belong to this terminal until they have ended; returns the exit code.

    The first INT, TERM or HUP pauses them, the second kills what runs. A watcher that dies is noticed by its
    attachment lease, a worker of ours by the pidfd that its keeper holds. `guests` are those of `job_ids`
    that somebody else had started and runs, or takes over later: they are followed, and go on whatever
    becomes of this terminal.
    """
    own = [job_id for job_id in job_ids if job_id not in guests]
    with Signals() as signals, ExitStack() as at_end:
        local = LocalWorker(store, settings, slots=slots)
        display = make_display(store.artifacts, as_json=as_json, quiet=quiet)
        at_end.callback(display.close)
        attachment.add(own)
        at_end.callback(lambda: local.stop(attachment.held()))
        try:
            session = _Session(store, job_ids, own, cursor, display, attachment, local)
            session.follow(signals)
            if signals.pressed:
                session.interrupted(signals, settings.grace + PAUSE_LIMIT)
        except BrokenPipeError:
            # Whoever read the events is gone, like a closed terminal: the jobs must not be left to nobody.
            held = attachment.held()
            _pause(store, [job_id for job_id in own if job_id in held], _READER_GONE)
            local.stop(held)
            attachment.close()
            raise
        # Detached only after the end or the pause: until then the death of this process, by kill -9 or by an
        # error, pauses the jobs.
        held = attachment.held()  # what somebody took over goes on, on the worker that has it
        if left := local.stop(held):
            display.line(f"the worker started here still runs {_jobs(left)} of others: it ends after them")
        attachment.close()
        jobs = [session.follower.jobs[job_id] for job_id in job_ids if job_id in session.follower.jobs]
    if signals.pressed:
        _say_how_to_go_on([job for job in jobs if job.id in held])
        return signals.exit_code
    return finish(store, jobs, as_json=as_json, refused=refused)


def watch(
    store: Store,
    job_ids: Sequence[str],
    *,
    as_json: bool,
    quiet: bool = False,
    timeout: float | None = None,
) -> int:
    """Follow jobs that others run; Ctrl+C only ends the watching. Exit code 6 when `timeout` is over."""
    with Signals() as signals:
        display = make_display(store.artifacts, as_json=as_json, quiet=quiet)
        follower = Follower(store, job_ids)
        end = None if timeout is None else time.monotonic() + timeout
        try:
            for pace in paces():
                display.update(follower.poll(), follower.jobs, store.now())
                if not follower.unfinished():
                    break
                if signals.pressed:
                    return signals.exit_code
                if end is not None and time.monotonic() >= end:
                    display.line(f"unjam: {len(follower.unfinished())} not ended after {timeout:g} s")
                    return exits.LIMIT
                signals.wait(pace)
        finally:
            display.close()
    return exits.of_jobs(follower.jobs[job_id] for job_id in job_ids if job_id in follower.jobs)


def finish(store: Store, jobs: Sequence[Job], *, as_json: bool, refused: int = 0) -> int:
    """Paths of what was made on stdout, the count of ends on stderr, and the exit code."""
    if not as_json:
        for job in jobs:
            if job.state is State.SKIPPED and job.spec.output_path is not None:
                data_name(job.spec.output_path)
            for artifact in outputs(store.artifacts(job.id)):
                data_name(artifact.path)
    if len(jobs) + refused > 1:
        counts: dict[str, int] = {}
        for job in jobs:
            counts[job.state] = counts.get(job.state, 0) + 1
        if refused:
            counts["refused"] = refused
        say(
            f"{len(jobs) + refused} jobs: " + ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        )
    if any(job.state is State.PAUSED for job in jobs):
        _say_how_to_go_on(jobs)
    return exits.of_jobs(jobs, refused=refused)


class _Session:
    """One attached run from its first look to its end."""

    def __init__(
        self,
        store: Store,
        job_ids: Sequence[str],
        own: Collection[str],
        cursor: int | None,
        display: Display,
        attachment: Attachment,
        local: LocalWorker,
    ) -> None:
        self._store = store
        self._own = frozenset(own)
        self._display = display
        self._attachment = attachment
        self._local = local
        self._waits_since = time.monotonic()
        self._why: str | None = None
        self.follower = Follower(store, job_ids, cursor=cursor)

    def follow(self, signals: Signals) -> None:
        """Until all have ended, only paused ones are left, or a signal came."""
        for pace in paces():
            self._look()
            if not signals.pressed:
                self._go_on()
            if signals.pressed or not self.follower.unfinished() or self.follower.all_paused():
                return
            if self._local.tick(self.follower.unfinished()):
                self._display.line(f"no worker was running: started one here (log: {self._local.log_path})")
            self._say_why()
            signals.wait(pace)

    def interrupted(self, signals: Signals, patience: float) -> None:
        """Pause what is left and see it paused; a second signal kills."""
        self._own &= self._attachment.held()
        ids = [job.id for job in self.follower.unfinished() if job.id in self._own]
        if not ids:
            self._display.line("what still runs was started or taken over by somebody else and goes on")
            return
        _pause(self._store, ids, "the run that waited for it was stopped")
        self._display.line(f"pausing {_jobs(len(ids))}: finished units are kept; press again to kill at once")
        end = time.monotonic() + patience
        for pace in paces():
            self._look()
            if not self._own_running():
                return
            if len(signals.pressed) > 1:
                self._display.line("killing what still runs; finished units are kept")
                kill_now(self._store, [job.id for job in self._own_running()])
                self._local.kill(self._attachment.held())
                self._wait_paused(signals, 3.0)
                return
            if time.monotonic() >= end:
                self._display.line("some did not stop yet; they are paused as soon as their worker sees it")
                return
            signals.wait(pace)

    def _wait_paused(self, signals: Signals, patience: float) -> None:
        end = time.monotonic() + patience
        while self._own_running() and time.monotonic() < end:
            self._look()
            signals.wait(0.05)

    def _running(self) -> list[Job]:
        return [job for job in self.follower.jobs.values() if job.state in LIVE]

    def _own_running(self) -> list[Job]:
        """Those of ours that still run, but not what somebody resumed since we asked it to pause."""
        return [
            job
            for job in self._running()
            if job.id in self._own and (job.requested is not None or job.phase is Phase.PUBLISHING)
        ]

    def _look(self) -> None:
        self._attachment.tick()
        self._display.update(self.follower.poll(), self.follower.jobs, self._store.now())

    def _go_on(self) -> None:
        """Resume what was paused because nobody watched it: this process, or the machine, stood still."""
        paused = [
            job.id
            for job in self.follower.unfinished()
            if job.id in self._own and job.state is State.PAUSED and job.reason == ABANDONED
        ]
        if paused:
            watcher = self._attachment.watcher
            self._store.resume(paused, by="run", fresh_budgets=False, watcher=watcher)
            self._display.line("this run was suspended and its jobs were paused: going on")
            self._look()

    def _say_why(self) -> None:
        waiting = [job for job in self.follower.unfinished() if job.state not in LIVE]
        if not waiting or self._running():
            self._waits_since, self._why = time.monotonic(), None
            return
        if time.monotonic() - self._waits_since < WHY_AFTER:
            return
        store, job = self._store, waiting[0]
        around = look_around(store)
        starting = self._local.started and not around.living
        upcoming = next_step(job, around)
        why = "its worker is starting" if starting else upcoming.why if upcoming else ""
        # A countdown changes with every look: said once for each kind of wait.
        kind = "starting" if upcoming is None or starting else upcoming.cause
        if self._why != kind:
            self._why = kind
            self._display.line(f"waiting   {one_line(job.spec.name)} ({job.id}): {one_line(why)}")


def _pause(store: Store, job_ids: Sequence[str], why: str) -> None:
    if job_ids:
        store.request_pause(job_ids, by="run", reason=Reason(ReasonCode.INTERRUPTED, why))


def _say_how_to_go_on(jobs: Sequence[Job]) -> None:
    left = [job for job in jobs if job.state in (State.PAUSED, *LIVE)]
    if not left:
        return
    name = left[0].batch_id if len(left) > 1 and left[0].batch_id else " ".join(job.id for job in left[:3])
    say(f"{_jobs(len(left))} paused: go on with the same command, or with `unjam resume {name}`")


def _jobs(number: int) -> str:
    return f"{number} job{'s' * (number != 1)}"
