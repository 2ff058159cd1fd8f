"""The end of a run: let every job end, stop everything, and count what is wrong."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.torture import ledger, names
from tests.torture.bystanders import Bystander, harmed
from tests.torture.ledger import Line
from tests.torture.rig import Rig
from tests.torture.tally import Tally
from tests.torture.watch import Watch
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import ENDED, AttemptState, State, UnitState
from unjam.worker.garbage import collect

END_LIMIT = 120.0
_BAD_SIGNS = ("Traceback (most recent call last)", "internal error", "; stopping")


def finish(
    rig: Rig,
    watch: Watch,
    tally: Tally,
    bystanders: list[Bystander],
    unharmed: set[str],
    say: Callable[[str], None],
) -> None:
    """`unharmed`: attempts near which a zygote was killed and nothing else."""
    say("letting every job end")
    watch.submitting = False
    rig.release()
    watch.wait(lambda: all(state in ENDED for state in rig.states().values()), END_LIMIT)
    if not rig.stop():
        left = [f"{p.role} {p.pid}" for p in watch.census().procs.values()]
        tally.fault("orphans", [f"after all keepers were told to stop: {', '.join(left)}"])
    watch.poll()
    tally.fault("gave up", rig.gave_up)
    tally.fault("strangers", harmed(bystanders))
    _count(tally, watch.ledger.lines)
    found = ledger.judge(watch.ledger.lines)
    tally.fault("doubled", found.doubled)
    tally.fault("redone", found.redone)
    tally.fault("overlaps", found.overlaps)
    tally.jobs = len(rig.jobs)
    _check_outputs(rig, watch, tally)
    _check_store(rig, watch, tally, unharmed)
    _check_logs(rig, tally)
    collect(rig.store, rig.settings)
    tally.fault("strays", [str(path.relative_to(rig.folder)) for path in _strays(rig)])


def _count(tally: Tally, lines: Sequence[Line]) -> None:
    """What the jobs say of themselves, faults apart."""
    kinds = Counter(line.kind for line in lines)
    tally.attempts = kinds["begin"]
    tally.containment.update(held_by(line) for line in lines if line.kind == "begin")
    tally.units["committed"] = kinds["commit"]
    tally.units["taken over by a later attempt"] = kinds["kept"]
    tally.units["interrupted before their commit"] = kinds["work"] - kinds["commit"]


def held_by(begin: Line) -> str:
    return "tree" if begin.unit == ledger.pid_namespace() else "pidns"


def _check_outputs(rig: Rig, watch: Watch, tally: Tally) -> None:
    for job, state in rig.states().items():
        path = rig.output_of(job)
        if state is not State.SUCCEEDED or not path.exists():
            reason = rig.store.get_many([job])[0].reason
            tally.fault("lost", [f"{job}: {state}, output {path.exists()}: {reason}"])
            continue
        stat = path.stat()
        if watch.outputs.get(job) != (stat.st_ino, stat.st_size):
            tally.fault("doubled", [f"{path.name}: another file than when it was first seen"])
        if path.read_bytes() != rig.right_content(job):
            tally.fault("torn", [f"{path.name}: wrong at the end"])


def _check_store(rig: Rig, watch: Watch, tally: Tally, unharmed: set[str]) -> None:
    held = {
        names.attempt_name(line.job, line.attempt): held_by(line)
        for line in watch.ledger.lines
        if line.kind == "begin"
    }
    tally.fault("lost", [f"job {job} vanished" for job in rig.jobs.keys() - rig.states().keys()])
    tally.fault("lost", forgotten(rig, watch.ledger.lines))
    tally.fault("locks", [f"{found.job.id} is still leased" for found in rig.store.live_jobs()])
    tally.fault("internal", rig.store.check())
    for job in rig.jobs:
        for attempt in rig.store.attempts(job):
            name = names.attempt_name(job, attempt.number)
            told = attempt.reason.message if attempt.reason else ""
            # An attempt whose tree was gone already, waiting to be published, is lost with its worker.
            ended_well = attempt.state is AttemptState.SUCCEEDED or told.startswith("worker ")
            if name in unharmed and not ended_well:
                tally.fault("collateral", [f"{name}: {attempt.state}, {told}"])
            if name in held and attempt.containment and not attempt.containment.startswith(held[name]):
                tally.fault("internal", [f"{name}: held by {held[name]}, told {attempt.containment}"])
            if attempt.reason and attempt.reason.code is ReasonCode.INTERNAL_ERROR:
                tally.fault("internal", [f"{name}: {told}"])


def forgotten(rig: Rig, lines: Sequence[Line]) -> list[str]:
    """Units whose commit was answered and that the store does not have (INV-KEEP)."""
    told = {(line.job, line.unit) for line in lines if line.kind == "commit"}
    known = {
        (job, unit.name)
        for job in rig.jobs
        for unit in rig.store.units(job)
        if unit.state is UnitState.COMMITTED
    }
    return [
        f"{job}: {unit} was committed, and the store does not know it" for job, unit in sorted(told - known)
    ]


def _check_logs(rig: Rig, tally: Tally) -> None:
    for slot in rig.slots:
        for line in slot.log.read_text(errors="replace").splitlines():
            if any(sign in line for sign in _BAD_SIGNS):
                tally.fault("internal", [f"{slot.log.name}: {line}"])


def _strays(rig: Rig) -> list[Path]:
    wanted = {rig.output_of(job).name for job in rig.jobs}
    wanted |= {f"{name}.unjam.json" for name in wanted}
    found = [path for path in rig.out.iterdir() if path.name not in wanted]
    work = rig.settings.work_root
    found += list(work.iterdir()) if work.is_dir() else []
    return found + sorted((rig.settings.home / "run").glob("*"))
