"""Shows the main promise on real media: a worker killed with -9 costs nothing that was finished.

`./run demo`. Everything happens in a fresh folder with the real command line, keeper and worker. Exit code 0
only when every output was verified here, by decoding it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import imageio_ffmpeg

from unjam.jobs.model import Job
from unjam.jobs.states import ENDED, State, UnitState
from unjam.store import open_store
from unjam.store.port import Store
from unjam.supervise.identity import Identity, open_if_same

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests" / "media" / "demo.mp4"
KILL_AFTER_UNITS = 3
PATIENCE = 600.0
"""Seconds for all jobs; a slow single core needs about a minute."""
PR_SET_PDEATHSIG = 1


class DemoFailed(Exception):
    """What went wrong, in a sentence."""


@dataclass(frozen=True, slots=True)
class Order:
    """One job of the demo: what is typed, and what its output is called."""

    what: str
    words: tuple[str, ...]
    output: str


ORDERS = (
    Order("convert to mp4", ("--segment-seconds", "5", "--verify", "full", "--priority", "1"), "demo.mp4"),
    Order("sound alone", ("--preset", "audio", "--format", "m4a"), "demo.m4a"),
    Order("other container", ("--preset", "remux", "--container", "mkv"), "demo.mkv"),
)


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="unjam-demo-"))
    print(f"unjam demo: 60 s of real video, three jobs, one kill -9. Everything lies in {folder}\n")
    demo = Demo(folder)
    try:
        return demo.run()
    except DemoFailed as failure:
        print(f"\nthe demo failed: {failure}\nlog of the worker: {demo.log}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; nothing is left running", file=sys.stderr)
        return 130


class Demo:
    """One run of the demo in its own folder and store."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.log = folder / "worker.log"
        self._folder = folder
        self._home = folder / "state"
        # The caller's own settings must neither be used nor changed.
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("UNJAM_")}
        self._env |= {"UNJAM_HOME": str(self._home), "XDG_CONFIG_HOME": str(folder), "NO_COLOR": "1"}
        self._began = time.monotonic()

    def run(self) -> int:
        jobs = {order: self._submit(order) for order in ORDERS}
        with contextlib.closing(open_store(f"sqlite:///{self._home / 'unjam.db'}")) as store, self._worker():
            self._watch(store, list(jobs.values()))
            rows = [self._row(store, order, job_id) for order, job_id in jobs.items()]
        return show(rows, self.out, self._folder)

    # -- the command line -----------------------------------------------------------------------------------
    def _command(self, *words: str) -> list[str]:
        shown = shlex.join(words).replace(f"{self._folder}/", "").replace(f"{ROOT}/", "")
        print(f"$ unjam {shown}", flush=True)
        return [str(Path(sys.executable).with_name("unjam")), *words]

    def _submit(self, order: Order) -> str:
        words = ("convert", str(SOURCE), *order.words, "-o", str(self.out), "--detach")
        done = subprocess.run(
            self._command(*words),
            env=self._env,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DemoFailed(f"not accepted: {done.stderr.strip()}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def _worker(self) -> Iterator[None]:
        """`unjam worker` for as long as the block runs, whatever ends it."""
        with open(self.log, "wb") as log:
            keeper = subprocess.Popen(
                self._command("worker"),
                env=self._env,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl+C comes to this process only, which then ends the keeper and so everything below it.
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        print()
        try:
            yield
        finally:
            for patience in (20, 10):
                keeper.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    keeper.wait(patience)
                    break
            else:
                keeper.kill()
                keeper.wait()

    # -- what happens ---------------------------------------------------------------------------------------
    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def _watch(self, store: Store, job_ids: list[str]) -> None:
        """Tell what the store says, kill the worker once, and return when all jobs have ended."""
        main_job = job_ids[0]
        told: dict[str, str] = {}
        known_units = 0
        killed: Identity | None = None
        successor = False
        while True:
            jobs = {job.id: job for job in store.get_many(job_ids)}
            for order, job_id in zip(ORDERS, job_ids, strict=True):
                job = jobs[job_id]
                if told.get(job_id) != job.state:
                    told[job_id] = job.state
                    self._say(f"{order.what}: {_told(job)}")
            units = _finished_units(store, main_job)
            if units != known_units:
                known_units = units
                self._say(f"{ORDERS[0].what}: {units} unit{'' if units == 1 else 's'} finished")
            if killed is None and units >= KILL_AFTER_UNITS:
                killed = self._kill_worker(store, jobs[main_job])
            elif killed is not None and not successor:
                pids = {Identity.from_json(worker.identity).pid for worker in store.workers()} - {killed.pid}
                for pid in pids:
                    self._say(f"the keeper has started another worker, pid {pid}")
                successor = bool(pids)
            if all(job.state in ENDED for job in jobs.values()):
                break
            if time.monotonic() - self._began > PATIENCE:
                raise DemoFailed(f"not done after {PATIENCE:g} s")
            time.sleep(0.02)
        if killed is None:
            raise DemoFailed("the job ended before the worker could be killed")

    def _kill_worker(self, store: Store, job: Job) -> Identity:
        owner = next((w for w in store.workers() if w.id == job.worker_id), None)
        if owner is None:
            raise DemoFailed(f"no worker holds the job: {_told(job)}")
        identity = Identity.from_json(owner.identity)
        pidfd = open_if_same(identity)
        if pidfd is None:
            raise DemoFailed(f"the worker (pid {identity.pid}) is gone already")
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        self._say(f"kill -9 {identity.pid}: the worker is dead; from here on nobody helps")
        return identity

    # -- what came of it ------------------------------------------------------------------------------------
    def _row(self, store: Store, order: Order, job_id: str) -> list[str]:
        job = store.get(job_id)
        assert job is not None, "nobody removes jobs here"
        attempts = store.attempts(job_id)
        reused = sum(a.units_reused for a in attempts)
        total = sum(stage.units_total for stage in store.stages(job_id))
        seconds = (job.finished_at or 0.0) - (job.started_at or 0.0)
        found = verify(self.out / order.output) if job.state is State.SUCCEEDED else f"FAILED: {_told(job)}"
        kept = f"{reused} of {total}" if total else "-"
        if order is ORDERS[0] and reused < KILL_AFTER_UNITS:
            found = f"FAILED: only {reused} finished units were used again"
        return [order.what, job.state.value, str(len(attempts)), kept, f"{seconds:.1f}", found]


def _end_with_parent() -> None:
    """SIGTERM to the keeper when this process is killed; it then ends all below it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _told(job: Job) -> str:
    return f"{job.state}" + (f", {job.reason.message}" if job.reason and job.reason.message != "done" else "")


def _finished_units(store: Store, job_id: str) -> int:
    return sum(unit.state is UnitState.COMMITTED for unit in store.units(job_id))


def verify(path: Path) -> str:
    """Decode it all, strictly, and count it against the source; what is not right begins with FAILED."""
    if not path.is_file():
        return "FAILED: no such file"
    tool = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-xerror", "-err_detect", "explode"]
    strict = subprocess.run(
        [*tool, "-i", str(path), "-f", "null", "-"], capture_output=True, text=True, check=False
    )
    if strict.returncode != 0 or strict.stderr.strip():
        return f"FAILED: {strict.stderr.strip().splitlines()[-1:]}"
    frames, sound = measure(path)
    wanted_frames, wanted_sound = measure(SOURCE)
    if frames is not None and frames != wanted_frames:
        return f"FAILED: {frames} of {wanted_frames} frames"
    if abs(sound - wanted_sound) > 0.1:
        return f"FAILED: {sound:.2f} of {wanted_sound:.2f} s of sound"
    return f"whole: {'no picture' if frames is None else f'{frames} frames'}, {sound:.1f} s of sound"


def measure(path: Path) -> tuple[int | None, float]:
    """(decoded frames, None without a picture; seconds of decoded sound)."""
    with av.open(str(path)) as media:
        frames = sum(1 for _ in media.decode(video=0)) if media.streams.video else None
    with av.open(str(path)) as media:
        seconds = sum(frame.samples / frame.sample_rate for frame in media.decode(audio=0))
    return frames, seconds


def show(rows: list[list[str]], out: Path, folder: Path) -> int:
    head = ["JOB", "RESULT", "ATTEMPTS", "UNITS REUSED", "SECONDS", "VERIFIED HERE"]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    print()
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nfiles: {out}    history: UNJAM_HOME={folder / 'state'} ./run unjam ls")
    bad = [row for row in rows if row[-1].startswith("FAILED") or row[1] != State.SUCCEEDED]
    if bad:
        print(f"{len(bad)} of {len(rows)} jobs are not as they should be", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
