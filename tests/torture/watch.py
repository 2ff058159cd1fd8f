"""Everything the harness sees: processes, ledger lines, outputs in place; and how long it waits for what."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.torture import census, ledger
from tests.torture.bystanders import Bystander
from tests.torture.census import Census, Doomed
from tests.torture.rig import SLOTS_EACH, Rig
from tests.torture.server import Outage, Remote
from tests.torture.tally import APART, Tally

QUIET_LOOKS = 3
"""Looks in a row that must find nothing: one can miss a process that is just being reparented."""
EVERY = 0.01
TOP_UP_EVERY = 0.5


@dataclass(slots=True)
class Hit:
    """Jobs that a kill interrupted: when does user code of one of them run again?"""

    role: str
    at: float
    attempts: dict[str, int] = field(default_factory=dict)


class Watch:
    """The eyes of one run. Must be asked often: what it has not seen it cannot count."""

    def __init__(
        self,
        rig: Rig,
        tally: Tally,
        bystanders: list[Bystander],
        new_job: Callable[[], tuple[int, float]],
        server: Remote | None = None,
    ) -> None:
        """`new_job`: units and seconds a unit of the next jobs. `server`: that of the store, if ours."""
        self._rig = rig
        self._tally = tally
        self._new_job = new_job
        self._server = server
        self._returned: list[Outage] = []
        """Outages after which no unit has been committed yet."""
        self.spared = {one.pid for one in bystanders} | {os.getpid()}
        self.ledger = ledger.Reader(rig.folder)
        self.last: dict[str, ledger.Line] = {}
        """Newest line of every job."""
        self.outputs: dict[str, tuple[int, int]] = {}
        """Output of a job as first seen: inode, size."""
        self.hits: list[Hit] = []
        self.submitting = True
        self._topped_up = 0.0

    # -- waiting --------------------------------------------------------------------------------------------
    def wait(self, happened: Callable[[], bool], limit: float) -> bool:
        """Until it happened, with keepers and jobs kept up as in a trial's beginning."""
        end = time.monotonic() + limit
        while not happened():
            if time.monotonic() > end:
                return False
            self.poll()
            self.keep_up()
            time.sleep(EVERY)
        return True

    def pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.poll()
            time.sleep(min(EVERY, max(0.0, end - time.monotonic())))

    def wait_gone(self, doomed: Doomed, limit: float) -> dict[int, str]:
        """Who of the doomed still lives after `limit` seconds."""
        end = time.monotonic() + limit
        quiet = 0
        while True:
            self.poll()
            alive = doomed.alive(self.spared)
            quiet = 0 if alive else quiet + 1
            if quiet >= QUIET_LOOKS:
                return {}
            if alive and time.monotonic() > end:
                return alive
            time.sleep(EVERY / 5)

    def keep_up(self) -> None:
        """Keepers run, and there is work for all of them."""
        self._rig.tend()
        if not self.submitting or time.monotonic() < self._topped_up + TOP_UP_EVERY:
            return
        if self._server is not None and self._server.is_away():
            return  # we would wait for it and see nothing meanwhile
        self._topped_up = time.monotonic()
        units, seconds = self._new_job()
        self._rig.top_up(len(self._rig.slots) * SLOTS_EACH + 2, units, seconds)

    # -- looking --------------------------------------------------------------------------------------------
    def census(self) -> Census:
        self._rig.reap()
        return census.take(self._rig.keepers, self._rig.run)

    def poll(self) -> None:
        """What is to be seen at any moment: dead children, new lines, outputs in place."""
        self._rig.reap()
        for line in self.ledger.read():
            if line.kind in ledger.BY_JOBS:
                self.last[line.job] = line
            if line.kind == "begin":
                self._began(line)
            elif line.kind == "commit":
                self._committed(line)
        self._look_at_outputs()

    def _began(self, line: ledger.Line) -> None:
        for hit in list(self.hits):
            attempt = hit.attempts.get(line.job)
            if attempt is not None and line.attempt > attempt:
                self._tally.again_seconds[hit.role].append(line.at - hit.at)
                self.hits.remove(hit)

    def set_apart(self) -> None:
        """What a kill interrupted now runs again when the server answers: that says nothing of the kill."""
        for hit in self.hits:
            hit.role = APART

    def came_back(self, outage: Outage, *, alone: bool) -> None:
        """The server answers: when is a unit committed again? `alone`: nothing else was killed meanwhile."""
        self._tally.clean_seconds[outage.kind].append(outage.seconds)
        self._returned += [outage] if alone else []

    def _committed(self, line: ledger.Line) -> None:
        for outage in [one for one in self._returned if line.at > one.ended]:
            self._tally.again_seconds[outage.kind].append(line.at - outage.began)
            self._returned.remove(outage)

    def _look_at_outputs(self) -> None:
        """INV-TORN: a name holds nothing or the whole; and once it holds that, no other file."""
        with os.scandir(self._rig.out) as entries:
            new = [
                e.name[:-4] for e in entries if e.name.endswith(".bin") and e.name[:-4] not in self.outputs
            ]
        for job in new:
            path = self._rig.output_of(job)
            stat = path.stat()
            self.outputs[job] = (stat.st_ino, stat.st_size)
            if path.read_bytes() != self._rig.right_content(job):
                self._tally.fault("torn", [f"{path.name}: {stat.st_size} bytes, not the right ones"])
            pen = ledger.Pen(self._rig.folder, job, 0)
            pen.write("seen")
            pen.close()
