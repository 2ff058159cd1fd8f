"""kill -9 of every role at every named point of an attempt's life, on both stores; then all that must hold.

`python -m tests.worker.fault_cells` runs the full product and prints its table; exit code 1 for any fault. A
cell is one job that is held at one point when one role is killed. The jobs of a volley are held at their
points together, so that one kill of a worker serves all of them; guardians and what is below them are killed
one per job, all at once.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers import process_alive, wait_until
from tests.postgres import Server
from tests.supervise.rig import in_subreaper
from tests.torture.census import name_of
from tests.worker.crew import Crew, crew
from tests.worker.fault_promises import judge
from unjam.jobs.model import Budgets
from unjam.supervise import kill, linux
from unjam.supervise.faults import OWNERS, POINTS, VARIABLE
from unjam.supervise.identity import Identity
from unjam.supervise.sweep import marked_processes

STORES = ("sqlite", "postgres")
CONTAINMENTS = ("tree", "pidns")
ABOVE = ("keeper", "worker", "zygote", "all")
BELOW = ("guardian", "ns-init", "attempt", "ffmpeg", "daemon")
AGAIN = "recovery"
"""The worker that recovers what a killed one was publishing, and is killed there itself."""
VOLLEYS = (*ABOVE, AGAIN, "below")
"""What is done in one go: a kill of one role above, or of all roles below, each of another job."""

GUARDED = POINTS[POINTS.index("hello") : POINTS.index("tree_gone")]
IN_PIPELINE = ("gone", "planned", "unit_sealed", "unit_committed", "stage_finished")
FORKED = (*IN_PIPELINE, "entered", "sealed")
PAST_RETURN = POINTS[POINTS.index("publishing") :]
ORPHAN_LIMIT = 2.0
"""Seconds that INV-ORPHAN grants."""
GRACE = 0.5


@dataclass(frozen=True, slots=True)
class Cell:
    store: str
    containment: str
    role: str
    point: str


def exists(role: str, point: str, containment: str) -> bool:
    """Does the attempt held at this point have a process of this role?"""
    match role:
        case "guardian":
            return point in GUARDED
        case "ns-init":
            return containment == "pidns" and point in FORKED
        case "attempt":
            return point in FORKED
        case "ffmpeg":
            return point in IN_PIPELINE
        case "daemon":
            # The namespace's end takes it along with its PID 1.
            return point in (*IN_PIPELINE, "sealed") or (point == "attempt_over" and containment == "tree")
        case "recovery":
            # No tree is left: how it was held makes no difference.
            return containment == "tree" and point in ("first_renamed", "renamed", "dir_synced")
    return True


def cells_of(store: str, containment: str, volley: str) -> list[Cell]:
    roles = BELOW if volley == "below" else (volley,)
    return [
        Cell(store, containment, role, point)
        for point in POINTS
        for role in roles
        if exists(role, point, containment)
    ]


def full_product(containments: Sequence[str] = CONTAINMENTS) -> list[Cell]:
    return [c for s in STORES for k in containments for v in VOLLEYS for c in cells_of(s, k, v)]


def attempts_of(cell: Cell) -> set[int]:
    """How many attempts the job needs: also the proof that the kill hit what it was aimed at."""
    if cell.role in ("zygote", "daemon") or cell.point in PAST_RETURN:
        return {1}
    if cell.role == "keeper" and cell.point in ("attempt_over", "tree_gone", "verified"):
        return {1}  # a worker that drains ends what it has begun to end
    if cell.role == "keeper" and cell.point in FORKED:
        return {1, 2}  # TERM and the end of the hold race
    return {2}


@dataclass(slots=True)
class Result:
    """`faults`: sentences. `seconds`: until everything that had to end was gone."""

    cells: list[Cell]
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Volley:
    """One store, one worker with a slot for every job, one kill."""

    def __init__(self, c: Crew, cells: Sequence[Cell], volley: str) -> None:
        self._c = c
        self._volley = volley
        self._faults = c.home / "faults"
        self._out = c.home / "out"
        self._cells = {f"j{number:02d}{secrets.token_hex(3)}": cell for number, cell in enumerate(cells)}
        self._run = f"{secrets.randbelow(10**8):08d}"
        self._marks: set[int] = set()

    def run(self) -> Result:
        result = Result(list(self._cells.values()))
        self._faults.mkdir()
        self._out.mkdir()
        for number, (job_id, cell) in enumerate(self._cells.items()):
            (self._faults / f"{cell.point}@{job_id}").touch()
            (self._faults / f"{_first_hold(cell)}@{job_id}").touch()
            params = {"folder": str(self._c.home), "token": self._token(number)}
            output = self._out / f"{job_id}.txt"
            self._c.submit(
                "test-steps", params, id=job_id, output=output, budgets=Budgets(crashes=9, losses=9)
            )
        self._start()
        self._note_marks()
        try:
            wait_until(lambda: not self._not_held(), 60, "every job to be held at its point")
        except AssertionError:
            raise AssertionError(f"not held: {self._not_held()}\n{self._c.log()}") from None
        began = time.monotonic()
        result.faults += [self._named(told) for told in self._strike()]
        result.seconds = time.monotonic() - began
        for job_id in self._cells:
            self._c.wait(job_id, timeout=60)
        self._note_marks()
        self._c.stop()
        expected = {job_id: attempts_of(cell) for job_id, cell in self._cells.items()}
        late = {
            j for j, cell in self._cells.items() if cell.point == "ended" and cell.role in ("worker", "all")
        }
        told = judge(self._c, self._out, expected, self._marks, unswept=late)
        result.faults += [self._named(sentence) for sentence in told]
        if not _comes_true(kill.reap_all, ORPHAN_LIMIT):
            names = [f"{pid} {name_of(pid)}" for pid in linux.descendants()]
            result.faults.append(f"{self._volley}: wait() still finds children: {names} (INV-ORPHAN)")
        return result

    # -- before the kill ------------------------------------------------------------------------------------
    def _start(self) -> None:
        self._c.start(slots=len(self._cells), env={VARIABLE: str(self._faults)})

    def _note_marks(self) -> None:
        self._marks |= {worker.mark for worker in self._c.store.workers()}

    def _not_held(self) -> list[str]:
        held = {path.name.partition(".at.")[0] for path in self._faults.glob("*.at.*")}
        wanted = [f"{_first_hold(cell)}@{job}" for job, cell in self._cells.items()]
        late = [name for name in wanted if name not in held]
        if not late:
            # At `gone` the worker is held and its attempt runs on until it asks something.
            trees = self._trees()
            for job, cell in self._cells.items():
                roles = {role for role in BELOW if exists(role, cell.point, cell.containment)}
                late += [f"{role} of {job} at {cell.point}" for role in roles - trees.get(job, {}).keys()]
        return late

    def _token(self, number: int) -> str:
        return f"{self._run}{number:03d}"

    def _worker(self) -> int:
        newest = max(self._c.store.workers(), key=lambda worker: worker.started_at)
        return Identity.from_json(newest.identity).pid

    def _trees(self) -> dict[str, dict[str, int]]:
        """Of every job the processes below its guardian and itself, by role. All of them write to its log."""
        trees: dict[str, dict[str, int]] = {}
        for pid in linux.descendants(self._worker()):
            stat = linux.proc_stat(pid)
            job = _job_of(pid)
            role = _role(name_of(pid), name_of(stat.ppid)) if stat and stat.state not in "ZX" else None
            if role is not None and job in self._cells:
                trees.setdefault(job, {})[role] = pid
        return trees

    # -- the kill -------------------------------------------------------------------------------------------
    def _strike(self) -> list[str]:
        """Kill, let go of everybody, and say what did not end in time."""
        worker, marks = self._worker(), set(self._marks)
        keeper = self._c.processes[0].pid
        match self._volley:
            case "below":
                return self._strike_below()
            case "zygote":
                doomed = [pid for pid in linux.children(worker) if name_of(pid) == "uj-zygote"]
                _kill(doomed)
                late = _outlived(lambda: [pid for pid in doomed if process_alive(pid)], ORPHAN_LIMIT)
                self._release()
                return late
            case "worker":
                _kill([worker])
                self._release()
                return _outlived(lambda: _marked(marks), ORPHAN_LIMIT)
            case "recovery":
                return self._strike_again_and_again(worker)
            case "keeper":
                _kill([keeper])
                wait_until(
                    lambda: "its keeper died" in self._c.log(), 5, "the worker to see its keeper's death"
                )
                self._release()
                self._start()
                return _outlived(
                    lambda: [pid for pid in [worker] if process_alive(pid)] + _marked(marks), 1.0
                )
        while ours := [pid for pid in [keeper, *linux.descendants(keeper), *_marked(marks)] if _is_ours(pid)]:
            _kill(ours)
        self._release()
        inside = next(iter(self._cells.values())).containment == "pidns"
        late = _outlived(lambda: _marked(marks), ORPHAN_LIMIT) if inside else []
        self._start()
        return late + _outlived(lambda: _marked(marks), ORPHAN_LIMIT)

    def _strike_again_and_again(self, worker: int) -> list[str]:
        """Kill the worker, and each next one as it comes to the next job's point."""
        _kill([worker])
        for job in self._cells:
            (self._faults / f"publishing@{job}").unlink()
        for _ in self._cells:
            [held] = wait_until(self._held_again, 20, "a worker to roll forward")
            self._note_marks()
            _kill([int(held.name.rpartition(".")[2])])
            held.with_name(held.name.partition(".at.")[0]).unlink()
            held.unlink()
        old = set(self._marks)
        wait_until(lambda: {w.mark for w in self._c.store.workers()} - old, 20, "the next worker")
        return _outlived(lambda: _marked(old), ORPHAN_LIMIT)

    def _held_again(self) -> list[Path]:
        return [path for path in self._faults.glob("*.at.*") if not path.name.startswith("publishing@")]

    def _strike_below(self) -> list[str]:
        trees = self._trees()
        _kill([trees[job][cell.role] for job, cell in self._cells.items()])
        doomed = {}
        for job, cell in self._cells.items():
            alone = cell.role in ("ffmpeg", "daemon")
            for role, pid in trees[job].items():
                if role == cell.role or not alone:
                    doomed[pid] = f"{job}: {role} when its {cell.role} was killed at {cell.point}"
        late = _outlived(lambda: [pid for pid in doomed if process_alive(pid)], ORPHAN_LIMIT, doomed)
        self._release()
        return late

    def _release(self) -> None:
        for job, cell in self._cells.items():
            (self._faults / f"{cell.point}@{job}").unlink(missing_ok=True)

    def _named(self, sentence: str) -> str:
        """The sentence with the cell of the job that it begins with."""
        cell = self._cells.get(sentence[: len(next(iter(self._cells)))])
        return f"{cell.role} at {cell.point}: {sentence}" if cell else f"{self._volley}: {sentence}"


def _first_hold(cell: Cell) -> str:
    return "publishing" if cell.role == AGAIN else cell.point


def _job_of(pid: int) -> str:
    try:
        return Path(os.readlink(f"/proc/{pid}/fd/2")).parent.name
    except OSError:
        return ""


def _role(name: str, parent: str) -> str | None:
    """None for a fork that has not taken its own name yet."""
    if name == parent:
        return None
    if name.startswith("uj:"):
        return "attempt" if parent in ("uj-guardian", "uj-init") else None
    known = {"uj-guardian": "guardian", "uj-init": "ns-init", "sleep": "daemon"}
    return "ffmpeg" if name.startswith("ffmpeg") else known.get(name)


def _is_ours(pid: int) -> bool:
    """ffmpeg and the daemon are left to the kernel and to the next start."""
    return process_alive(pid) and not name_of(pid).startswith(("ffmpeg", "sleep"))


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # another of them took it along


def _marked(marks: set[int]) -> list[int]:
    return [pid for mark in marks for pid in marked_processes(mark)]


def _comes_true(happened: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def _outlived(alive: Callable[[], list[int]], seconds: float, names: Mapping[int, str] = {}) -> list[str]:
    """Sentences about who lives on after that time (INV-ORPHAN)."""
    if _comes_true(lambda: not alive(), seconds):
        return []
    return [
        f"{names.get(pid, name_of(pid))}: {pid} lives {seconds:g} s later (INV-ORPHAN)" for pid in alive()
    ]


def run_volley(folder: Path, store: str, url: str, containment: str, volley: str) -> Result:
    """In a subreaper of its own, so that wait() says whether anything is left at all."""
    folder.mkdir()
    report = folder / "result"

    def work() -> None:
        with crew(
            folder / "home", store=url, containment=containment, grace=GRACE,
            pipelines=("tests.worker.fault_recipes",),
        ) as c:  # fmt: skip
            result = Volley(c, cells_of(store, containment, volley), volley).run()
        report.write_text(json.dumps([result.faults, result.seconds]))

    in_subreaper(work)
    faults, seconds = json.loads(report.read_text())
    return Result(cells_of(store, containment, volley), faults, seconds)


# -- the full product ---------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.worker.fault_cells", description=__doc__)
    parser.add_argument("--store", choices=STORES, action="append")
    parser.add_argument("--containment", choices=CONTAINMENTS, action="append")
    parser.add_argument("--volley", choices=VOLLEYS, action="append")
    words = parser.parse_args()
    containments = words.containment or (CONTAINMENTS if os.geteuid() == 0 else ("tree",))
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="unjam-cells-"))
    results = []
    server = Server()
    try:
        server.start()
        for store in words.store or STORES:
            for containment in containments:
                for volley in words.volley or VOLLEYS:
                    if not cells_of(store, containment, volley):
                        continue
                    at = time.monotonic()
                    place = folder / f"{store}-{containment}-{volley}"
                    schema = place.name.replace("-", "_")
                    url = f"sqlite:///{place / 'unjam.db'}" if store == "sqlite" else server.url(schema)
                    results.append(run_volley(place, store, url, containment, volley))
                    told = f"{len(results[-1].cells)} cells, {len(results[-1].faults)} faults"
                    print(f"{place.name}: {told}, {time.monotonic() - at:.1f} s", flush=True)
                    for fault in results[-1].faults:
                        print(f"    ! {fault}", flush=True)
    finally:
        server.close()
        shutil.rmtree(folder)
    print(table([cell for result in results for cell in result.cells]))
    faults = sum(len(result.faults) for result in results)
    cells = sum(len(result.cells) for result in results)
    print(f"{cells} cells, {faults} faults, {time.monotonic() - began:.0f} s")
    return 1 if faults else 0


def table(cells: Sequence[Cell]) -> str:
    """Cells by point and role: of how many combinations of store and containment."""
    counted = Counter((cell.point, cell.role) for cell in cells)
    roles = (*ABOVE, AGAIN, *BELOW)
    rows = [f"{'point':16}{'held':10}" + "".join(f"{role:>10}" for role in roles)]
    for point in POINTS:
        numbers = "".join(f"{counted[point, role] or '-':>10}" for role in roles)
        rows.append(f"{point:16}{OWNERS[point]:10}{numbers}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
