"""What a run with faults leaves for whoever looks into it: a folder, and in it what the store knows."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.torture.rig import Rig
from tests.torture.tally import Tally

FILE = "evidence.txt"
_JOB = re.compile(r"\bt\d{5}\b")


def write(rig: Rig, tally: Tally) -> Path:
    """All faults, then the attempts and events of the jobs they name. The store may be gone soon."""
    path = rig.folder / FILE
    path.write_text("\n".join(_lines(rig, tally)) + "\n")
    return path


def _lines(rig: Rig, tally: Tally) -> Iterator[str]:
    told = [f"{kind}: {sentence}" for kind, found in tally.faults.items() for sentence in found]
    yield from told
    for job in sorted({name for sentence in told for name in _JOB.findall(sentence)} & rig.jobs.keys()):
        yield f"\n{job}: {rig.store.get(job)}"
        yield from (f"  {attempt}" for attempt in rig.store.attempts(job))
        yield from (f"  {event}" for event in rig.store.events_since(0, job_ids=[job], limit=10_000))
