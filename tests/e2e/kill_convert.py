"""One segmented conversion killed -9 again and again, and continued by the same command: what is lost?

`python -m tests.e2e.kill_convert [--runs N] [--seed S]`. Each run has a home of its own and is killed one to
three times at random moments; then the result is compared, frame by frame, with that of a run nobody touched.
Who encoded what is counted by a wrapper around ffmpeg; that nothing is left is the kernel's word (ECHILD).
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.shell import UNJAM, Ledger
from tests.helpers import DEMO
from tests.media_room.clips import frames, sound_starts_and_ends
from tests.torture.census import Census, Proc, name_of, send, take
from unjam.jobs.states import State, UnitState
from unjam.settings import Settings
from unjam.store import open_store
from unjam.store.port import JobFilter
from unjam.supervise import linux

TARGETS = ("everything", "worker", "keeper", "ffmpeg", "attempt", "guardian", "zygote", "ns-init", "cli")
OWN = frozenset({"ffmpeg", "attempt", "ns-init"})
"""Whose death counts as the job's own failure: after three the job is set aside, as it should be."""
LIMIT = 150.0
"""Seconds for one run: a machine under load, not a clock that matters."""
LEFT_LIMIT = 2.0
AUDIO_FRAME = 1024 / 44100
AGAIN = 6
"""How often the same command may be needed beyond the kills of the command itself."""


class Failed(Exception):
    """A promise was broken; the text says which."""


@dataclass(slots=True)
class Run:
    """What happened in one run."""

    kills: list[str] = field(default_factory=list)
    commands: int = 0
    attempts: int = 0
    reused: int = 0
    repeated: int = 0
    revised: bool = False
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)


class Conversion:
    """A folder, a home and the command that converts; every process of it is below this one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home, self.out = root / "home", root / "out"
        root.mkdir(parents=True)
        self.ledger = Ledger(root)
        self.output = self.out / DEMO.name
        self.statuses: dict[int, int] = {}
        self.cli: int | None = None
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        self._env = {
            **kept,
            "HOME": str(root),
            "UNJAM_HOME": str(self.home),
            "UNJAM_FFMPEG": str(self.ledger.path),
            "UNJAM_GRACE": "2",
        }

    def start(self) -> int:
        """The command, always the same one."""
        words = ["convert", str(DEMO), "-o", str(self.out), "--segment-seconds", "5", "--speed", "veryfast"]
        self.cli = self._spawn(words)
        return self.cli

    def _spawn(self, words: list[str]) -> int:
        log = os.open(self.root / "said", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return os.posix_spawn(
                sys.executable,
                [*UNJAM, *words],
                self._env,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(log)

    def said(self) -> str:
        return (self.root / "said").read_text(errors="replace")

    # -- processes ------------------------------------------------------------------------------------------
    def reap(self) -> bool:
        """Take what is dead. True when nothing at all is left below us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            self.statuses[pid] = os.waitstatus_to_exitcode(status)

    def ended(self) -> bool:
        self.reap()
        return self.cli is None or self.cli in self.statuses

    def code(self) -> int | None:
        return None if self.cli is None else self.statuses.get(self.cli)

    def until(self, happened: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > end:
                return False
            self.reap()
            time.sleep(0.005)
        return True

    def left(self) -> list[str]:
        """Who lives below us, for a message."""
        return [f"{proc.role} {name_of(proc.pid)} ({proc.pid})" for proc in take({}, "-").procs.values()]

    def wipe(self) -> None:
        """End what should have ended, so that one run does not disturb the next."""
        while not self.reap():
            for proc in take({}, "-").procs.values():
                send(proc, signal.SIGKILL)
            time.sleep(0.01)

    # -- what is left in the folders ------------------------------------------------------------------------
    def collect(self) -> None:
        self.cli = self._spawn(["gc"])
        if not self.until(self.ended, 60) or self.code() != 0:
            raise Failed(f"gc: {self.code()}\n{self.said()}")

    def strays(self) -> list[str]:
        """Files that nobody needs once the job is done: all but the output, its manifest, store and log."""
        wanted = {self.output, self.output.with_name(self.output.name + ".unjam.json")}
        found = [path for path in self.out.iterdir() if path not in wanted]
        for name in ("work", "run"):
            folder = self.home / name
            found += list(folder.rglob("*")) if folder.is_dir() else []
        found += [path for path in (self.home / "logs").iterdir() if not path.is_dir()]
        return [str(path.relative_to(self.root)) for path in found]


def victims(census: Census, target: str, cli: int | None) -> list[Proc]:
    """Who is meant by the target, if anybody is there now."""
    if target == "everything":
        return list(census.procs.values())
    if target == "cli":
        return [proc for proc in census.procs.values() if proc.pid == cli]
    if target == "ffmpeg":
        return [proc for proc in census.procs.values() if name_of(proc.pid).startswith("ffmpeg")]
    return census.of(target)[:1]


def strike(job: Conversion, target: str) -> bool:
    """Kill the target as soon as it is there. False when the command ended first."""
    while not job.ended():
        found = victims(take({}, "-"), target, job.cli)
        if [proc for proc in found if send(proc, signal.SIGKILL)]:
            # "Everything at once" includes what was forked between the look and the kill.
            while target == "everything" and not job.reap():
                for proc in take({}, "-").procs.values():
                    send(proc, signal.SIGKILL)
            return True
        time.sleep(0.002)
    return False


def one_run(folder: Path, rng: random.Random, usual: float, target: str) -> tuple[Run, Conversion]:
    """Kill, continue, until the command says that it is done."""
    job, run = Conversion(folder), Run()
    began = time.monotonic()
    plan = [target, *rng.choices(TARGETS, k=rng.choice((0, 0, 1, 2)))]
    if OWN.issuperset(plan) and len(plan) > 2:
        plan[2] = "worker"
    job.start()
    run.commands = 1
    for number, victim in enumerate(plan):
        moment = rng.uniform(0.0, usual * (0.95 if number == 0 else 0.5))
        job.until(job.ended, moment)
        if not strike(job, victim):
            break
        run.kills.append(victim)
        if victim in ("cli", "everything"):
            job.until(job.ended, 5)
            job.start()
            run.commands += 1
    while time.monotonic() - began < LIMIT:
        if not job.until(job.ended, began + LIMIT - time.monotonic()):
            break
        if job.code() == 0:
            run.seconds = time.monotonic() - began
            return run, job
        if run.commands > len(run.kills) + AGAIN:
            break
        run.broken.append(f"the command ended with {job.code()}")
        job.start()
        run.commands += 1
    run.broken.append(f"not done after {time.monotonic() - began:.0f} s and {run.commands} commands")
    run.seconds = time.monotonic() - began
    return run, job


def check(run: Run, job: Conversion, reference: list[tuple[int, str]], ends: tuple[float, float]) -> None:
    """Every promise, each by evidence of its own."""
    if not job.until(job.reap, LEFT_LIMIT):
        run.broken.append(f"left running: {job.left()}")
        job.wipe()
    if not job.output.exists():
        run.broken.append("no output")
        return
    count_encodes(run, job)
    got = frames(job.output)
    if run.revised:
        got, reference = [(pts, "") for pts, _ in got], [(pts, "") for pts, _ in reference]
    if got != reference:
        same = sum(a == b for a, b in zip(got, reference, strict=False))
        run.broken.append(f"{same} of {len(reference)} frames equal, {len(got)} there")
    for what, mine, right in zip(("begins", "ends"), sound_starts_and_ends(job.output), ends, strict=True):
        if abs(mine - right) > AUDIO_FRAME:
            run.broken.append(f"sound {what} at {mine:.3f} s, not {right:.3f} s")
    job.collect()
    if strays := job.strays():
        run.broken.append(f"stray: {strays}")


def count_encodes(run: Run, job: Conversion) -> None:
    """INV-KEEP: a unit may be encoded again only where the attempt that encoded it died in that very unit."""
    by_fence: dict[int, list[str]] = {}
    for line in job.ledger.starts():
        path = Path(line.removeprefix("file:"))
        if path.parent.name == "encode":
            by_fence.setdefault(int(path.parent.parent.name[1:]), []).append(path.stem)
    starts = Counter(name for names in by_fence.values() for name in names)
    last = max(by_fence)
    in_flight = Counter(names[-1] for fence, names in by_fence.items() if fence != last)
    for name, count in starts.items():
        if count > 1 + in_flight[name]:
            run.broken.append(f"{name} encoded {count} times, {in_flight[name]} in flight: {by_fence}")
    run.repeated = sum(count - 1 for count in starts.values())
    store = open_store(Settings(home=job.home).store)
    try:
        # A kill at the very end makes the same command a second job, which finds the work done and skips it.
        [found] = [job for job in store.list_jobs(JobFilter(), limit=9) if job.state is not State.SKIPPED]
        units = store.units(found.spec.id)
        run.attempts = len(store.attempts(found.spec.id))
    finally:
        store.close()
    run.revised = any(unit.name.startswith("cuts-") for unit in units)
    for unit in units:
        if unit.stage != "encode" or unit.state is not UnitState.COMMITTED or unit.fence is None:
            continue
        run.reused += unit.fence != last
        later = [fence for fence, names in by_fence.items() if fence > unit.fence and unit.name in names]
        if later:
            run.broken.append(f"{unit.name}, committed under fence {unit.fence}, encoded again under {later}")


def untouched(folder: Path) -> tuple[list[tuple[int, str]], tuple[float, float], float]:
    """Frames, sound and duration of a run that nobody disturbs."""
    job = Conversion(folder)
    began = time.monotonic()
    job.start()
    if not job.until(job.ended, LIMIT) or job.code() != 0:
        job.wipe()
        raise Failed(f"the undisturbed run ended with {job.code()}\n{job.said()}")
    seconds = time.monotonic() - began
    run = Run()
    found, ends = frames(job.output), sound_starts_and_ends(job.output)
    check(run, job, found, ends)
    source = sound_starts_and_ends(DEMO)
    if abs(source[1] - ends[1]) > AUDIO_FRAME or len(frames(DEMO)) != len(found):
        run.broken.append(f"the undisturbed run is not its source: {source} {ends}")
    if run.broken:
        raise Failed(f"the undisturbed run: {run.broken}\n{job.said()}")
    return found, ends, seconds


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.e2e.kill_convert")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, help="kept when given")
    words = parser.parse_args(arguments)
    seed = random.randrange(10**6) if words.seed is None else words.seed
    linux.become_subreaper()
    folder = words.folder or Path(tempfile.mkdtemp(prefix="unjam-kill-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, {words.runs} runs", flush=True)
    try:
        failed = _runs(folder, words.runs, seed)
    finally:
        Conversion(folder / "end").wipe()
        if words.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return failed


def _runs(folder: Path, number: int, seed: int) -> int:
    rng = random.Random(seed)
    reference, ends, usual = untouched(folder / "untouched")
    print(f"undisturbed: {len(reference)} frames, {usual:.1f} s", flush=True)
    targets = (TARGETS * (number // len(TARGETS) + 1))[:number]
    done: list[Run] = []
    for index, target in enumerate(targets):
        run, job = one_run(folder / f"run{index}", rng, usual, target)
        while not run.kills and not run.broken:
            # It was done before the moment came: that run proves nothing, another one is made.
            shutil.rmtree(job.root)
            run, job = one_run(folder / f"run{index}", rng, usual, target)
        check(run, job, reference, ends)
        done.append(run)
        print(f"{index + 1:>3}  {_line(run)}", flush=True)
        if run.broken:
            print(job.said(), flush=True)
        else:
            shutil.rmtree(job.root)
    _table(done)
    return 1 if any(run.broken for run in done) else 0


def _line(run: Run) -> str:
    killed = ", ".join(run.kills) or "nobody (it was done)"
    counts = f"commands {run.commands}  attempts {run.attempts}  reused {run.reused}  repeated {run.repeated}"
    pieces = "  smaller pieces" if run.revised else ""
    return f"killed {killed:<34} {counts}{pieces}  {run.seconds:.1f} s  {'; '.join(run.broken) or 'ok'}"


def _table(done: list[Run]) -> None:
    print(f"\n{'target':<12}{'kills':>6}{'runs':>6}{'broken':>8}")
    for target in TARGETS:
        runs = [run for run in done if target in run.kills]
        kills = sum(run.kills.count(target) for run in done)
        print(f"{target:<12}{kills:>6}{len(runs):>6}{sum(bool(run.broken) for run in runs):>8}")
    print(
        f"{'all':<12}{sum(len(r.kills) for r in done):>6}{len(done):>6}{sum(bool(r.broken) for r in done):>8}"
        f"   units reused {sum(r.reused for r in done)}, repeated in flight {sum(r.repeated for r in done)}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
