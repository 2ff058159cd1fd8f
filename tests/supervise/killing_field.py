"""Random kill -9 of one of our processes, or of all at once; the kernel is the judge.

`python -m tests.supervise.killing_field CONTAINMENT TARGETS SECONDS [SEED]` prints one JSON object. This
process is a
subreaper: whatever outlives the system under test becomes its child, so "nothing left" means that wait() says
ECHILD.
CONTAINMENT: tree or pidns. TARGETS: one (a random role a trial) or all (every Python of ours in one loop, as
`pkill -9 python` or the kernel's memory killer would; daemons that are no Python live on).
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.supervise.rig import named, with_path
from tests.supervise.worker import payloads, work
from tests.torture import leaves
from unjam.supervise import kill, linux
from unjam.supervise.keeper import Keeper
from unjam.supervise.mark import new_mark
from unjam.supervise.sweep import sweep

SETTLE = 3.0  # seconds for everything to be gone; the promise is 2, the worker's own farewell takes the rest
ENOUGH = 20  # trials
ROLES = {
    "worker": "uj-worker",
    "guardian": "uj-guardian",
    "zygote": "uj-zygote",
    "attempt": "uj:",
    "init": "uj-init",
    "keeper": "uj-keeper",
}
# may live on when an attempt, its guardian or init is killed
SURVIVORS = ("uj-worker", "uj-zygote", "uj-keeper")


@dataclass
class Score:
    seed: int
    trials: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    leaves_at_kill: int = 0
    dirty: int = 0  # trials after which something was left
    left_after_sweep: int = 0
    evidence: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0


def start_system(containment: str, with_keeper: bool, token: str, mark: int) -> int:
    """The system under test as a fork of this process, which has everything imported."""
    pid = os.fork()
    if pid:
        return pid
    options = {"mark": mark, "log": os.devnull, "containment": containment, "attempts": payloads(token)}
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    code = 1
    try:
        if with_keeper:
            # A keeper's child is executed, so it must find this checkout from wherever it starts.
            os.environ["PYTHONPATH"] = with_path(Path.cwd())
            command = [sys.executable, "-m", "tests.supervise.worker", json.dumps(options)]
            code = Keeper(command, restart=False, parent_fd=None).run()
        else:
            code = asyncio.run(work(options))
    finally:
        os._exit(code)


def living() -> dict[int, str]:
    """Descendants that live, with their names."""
    found = {}
    for pid in linux.descendants():
        stat, comm = linux.proc_stat(pid), linux.read_small(f"/proc/{pid}/comm")
        if stat and comm and stat.state not in "ZX":
            found[pid] = comm.decode(errors="replace").strip()
    return found


def is_python(name: str) -> bool:
    return name.startswith(("uj", "python"))


def shoot(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it was faster


def only_survivors() -> bool:
    """Five looks in a row: one can miss a process that is just being reparented."""
    for _ in range(5):
        if any(not name.startswith(SURVIVORS) for name in living().values()):
            return False
        time.sleep(0.002)
    return True


def wait_for(what: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def one_trial(containment: str, targets: str, score: Score, dice: random.Random) -> None:
    token, mark = f"{os.getpid()}{score.trials:05d}", new_mark(17)
    with_keeper = dice.random() < 0.3
    system = start_system(containment, with_keeper, token, mark)
    if dice.random() < 0.5:
        wait_for(lambda: len(leaves.alive(token)) == leaves.COUNT - 1, 5.0)
        time.sleep(dice.random() * 0.02)
    else:
        time.sleep(dice.random() * (0.8 if with_keeper else 0.3))
    score.leaves_at_kill += len(leaves.alive(token))
    if targets == "all":
        role = "all"
        shoot([pid for pid, name in living().items() if is_python(name)])
    else:
        role = dice.choice([role for role, name in ROLES.items() if named(name)] or ["worker"])
        shoot((named(ROLES[role]) or [system])[:1])
    score.kills[role] = score.kills.get(role, 0) + 1
    killed_at = time.monotonic()
    if role in ("attempt", "guardian", "init", "zygote"):
        if role != "zygote" and not wait_for(only_survivors, SETTLE):
            score.dirty += 1
            score.evidence.append(f"{role}: {living()}")
        shoot((named("uj-worker") or [system])[:1])
    # Without a namespace a total kill may leave daemons: that is what the sweep is for, so do not wait for
    # luck.
    clean = wait_for(kill.reap_all, 0.3 if role == "all" and containment == "tree" else SETTLE)
    score.slowest_ms = max(score.slowest_ms, (time.monotonic() - killed_at) * 1e3)
    if not clean:
        score.dirty += 1
        score.evidence.append(f"{role}: {living()}")
        sweep([mark])  # what the next start does, once worker and keeper are proven dead
        if not wait_for(kill.reap_all, 1.0):
            score.left_after_sweep += 1
            score.evidence.append(f"after the sweep: {living()}")
    kill.kill_my_children(limit=10)
    score.trials += 1


def main(containment: str, targets: str, seconds: float, seed: int) -> Score:
    linux.become_subreaper()
    dice = random.Random(seed)
    score = Score(seed)
    began = time.monotonic()
    # A machine that is busy with other things gets more time, or it would have tested nothing.
    while (spent := time.monotonic() - began) < seconds or (score.trials < ENOUGH and spent < 6 * seconds):
        one_trial(containment, targets, score, dice)
    return score


if __name__ == "__main__":
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
    print(json.dumps(asdict(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), seed))))
