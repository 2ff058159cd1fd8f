"""PID reuse, forced, against everything that signals: `python -m tests.supervise.reuse_table [TRIALS]`.

Root only: in a PID namespace of its own the next number is chosen by ns_last_pid. A process is remembered,
dies, a stranger gets its number 25 ms later or within the same clock tick; then each way to end a process is
tried. The naive ways are there to show that the trial can hit (INV-STRANGER).
"""

import json
import os
import resource
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from tests.client.world import World
from tests.supervise.rig import in_subreaper
from unjam.client.actions import kill_now
from unjam.client.handover import hand_over
from unjam.jobs.states import State
from unjam.supervise import kill, linux
from unjam.supervise.identity import Identity, identity_of, open_if_same
from unjam.supervise.mark import new_mark
from unjam.supervise.sweep import sweep
from unjam.worker.recovery import Recovery, free, recover

NUMBER = 5000
LATER = 0.025
RLIMIT_LOCKS = 10
MARK = new_mark(3)


def fork_as(number: int, mark: int | None = None) -> int:
    """A sleeping child, with this number unless somebody has it."""
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(number - 1))
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    if mark is not None:
        # From outside: a child would need a moment to mark itself.
        resource.prlimit(pid, RLIMIT_LOCKS, (mark, resource.getrlimit(RLIMIT_LOCKS)[1]))
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@dataclass(frozen=True, slots=True)
class Way:
    """`remember` looks at the living process, `act` wants to end it. `moves`: the number moves within the
    call, just "before" or "after" its pidfd is opened."""

    name: str
    remember: Callable[..., Any]
    act: Callable[[Any], object]
    ours: bool = True
    moves: str = ""
    prepare: Callable[[], Any] | None = None
    """Made before the process is; `remember` then gets it first."""


@dataclass(slots=True)
class Tally:
    """Of `trials` each: strangers that were hit, by how the number was reused; trials in one clock tick."""

    name: str
    ours: bool
    trials: int
    later: int = 0
    same_tick: int = 0
    ticks: int = 0
    wrong: list[str] = field(default_factory=list)
    """What a way of ours did not do although the process was gone."""


def tally(way: Way, trials: int) -> Tally:
    result = Tally(way.name, way.ours, trials)
    for _ in range(trials):
        result.later += _trial(way, result, LATER)
        result.same_tick += _trial(way, result, 0.0)
    return result


def _trial(way: Way, result: Tally, pause: float) -> bool:
    """Was the stranger hit?"""
    prepared = [way.prepare()] if way.prepare else []
    victim = fork_as(NUMBER, MARK)
    assert victim == NUMBER
    memory = way.remember(*prepared, victim)
    ticks = linux.proc_stat(victim)
    strangers: list[int] = []

    def move() -> None:
        end(victim)
        time.sleep(pause)
        strangers.append(fork_as(NUMBER))

    try:
        if way.moves:
            with _moving(way.moves, move):
                said = way.act(memory)
        else:
            move()
            said = way.act(memory)
    except (ProcessLookupError, psutil.Error):
        said = None
    if way.ours and said is not None:
        result.wrong.append(f"{way.name}: {said}")
    [stranger] = strangers
    assert stranger == NUMBER
    now = linux.proc_stat(stranger)
    result.ticks += (
        pause == 0.0 and now is not None and ticks is not None and now.start_ticks == ticks.start_ticks
    )
    return _was_hit(stranger)


def _was_hit(stranger: int) -> bool:
    """A pending SIGKILL is acted upon before the next wait for the process returns."""
    os.kill(stranger, signal.SIGSTOP)
    status = os.waitpid(stranger, os.WUNTRACED)[1]
    if os.WIFSTOPPED(status):
        end(stranger)
        return False
    return True


@contextmanager
def _moving(when: str, move: Callable[[], None]) -> Iterator[None]:
    """The first pidfd of the number is opened just when it moves."""
    real = os.pidfd_open
    moved = False

    def opened(pid: int, flags: int = 0) -> int:
        nonlocal moved
        if pid != NUMBER or moved:
            return real(pid, flags)
        moved = True
        if when == "before":
            move()
            return real(pid, flags)
        pidfd = real(pid, flags)
        move()
        return pidfd

    os.pidfd_open = opened
    try:
        yield
    finally:
        os.pidfd_open = real
    assert moved, "the number was never opened"


# -- the naive ways -----------------------------------------------------------------------------------------


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _name(pid: int) -> bytes | None:
    return linux.read_small(f"/proc/{pid}/comm")


def _created(pid: int) -> tuple[int, float]:
    return pid, psutil.Process(pid).create_time()


def _kill_if_created(memory: tuple[int, float]) -> None:
    process = psutil.Process(memory[0])
    if abs(process.create_time() - memory[1]) < 1e-6:
        process.kill()


def _identity(pid: int) -> Identity:
    found = identity_of(pid)
    assert found is not None
    return found


def _kill_if_same(identity: Identity) -> str | None:
    pidfd = open_if_same(identity)
    if pidfd is None:
        return None
    linux.send_pidfd(pidfd, signal.SIGKILL)
    os.close(pidfd)
    return "signalled"


NAIVE = (
    Way("os.kill(stored pid)", int, _kill, ours=False),
    Way(
        "pid and process name",
        lambda p: (p, _name(p)),
        lambda m: _kill(m[0]) if _name(m[0]) == m[1] else 0,
        ours=False,
    ),
    Way("psutil.Process kept", psutil.Process, psutil.Process.kill, ours=False),
    Way("psutil create_time compared", _created, _kill_if_created, ours=False),
    Way(
        "boot, pid, start ticks, pidfd",
        lambda p: replace(_identity(p), inode=None),
        _kill_if_same,
        ours=False,
    ),
)


# -- ours ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """A running job in a store of its own, whose guardian (with our mark: whose worker) is the process that
    is remembered."""

    world: World
    job: str

    def by(self, pid: int) -> "Held":
        """Quickly, straight into the rows: the number must be able to move within one clock tick."""
        text = _identity(pid).to_json()
        with sqlite3.connect(self.world.settings.home / "unjam.db") as database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute("UPDATE attempt SET identity = ?", (text,))
            database.execute("UPDATE worker SET identity = ? WHERE mark = ?", (text, MARK))
        database.close()
        return self


def _guarded() -> Held:
    return _held(mark=1)


def _worked_on() -> Held:
    return _held(mark=MARK)


def _held(mark: int) -> Held:
    world = World(Path(tempfile.mkdtemp(dir=os.environ["REUSE_FOLDER"])))
    world.file("a.mov")
    worker = world.worker(mark=mark)
    job = world.submit_one(world.ask("a.mov", output_dir="out"))
    world.store.begin(world.claim(worker).lease, identity=worker.identity, pid=NUMBER, log_path="log")
    return Held(world, job.id)


def _cancel_now(held: Held) -> str | None:
    world, job = held.world, held.job
    world.store.request_cancel([job], by="a test")
    killed = kill_now(world.store, [job])
    world.store.close()
    return f"killed {killed}" if killed else None


def _freed(held: Held, signalled: int = 0) -> str | None:
    state = held.world.job(held.job).state
    held.world.store.close()
    return (
        None if state is State.QUEUED and not signalled else f"{held.job} is {state}, {signalled} signalled"
    )


def _recover(held: Held) -> str | None:
    done = recover(held.world.store, held.world.settings, held.world.here)
    return _freed(held, done.killed)


def _release(held: Held) -> str | None:
    """What `unjam locks release` does, once the holder is proven dead."""
    world = held.world
    [found] = world.store.live_jobs()
    done = Recovery()
    free(world.store, world.settings, world.here, found, done)
    return _freed(held, done.killed)


def _hand_over(held: Held) -> str | None:
    hand_over(held.world.store, held.world.settings, [held.job], lambda _told: None)
    return _freed(held)


def _sweep(_pid: int) -> str | None:
    killed = sweep([MARK]).killed
    return f"{killed} killed" if killed else None


def _strike(_pid: int) -> str | None:
    """A child that somebody else of the same process reaped already: the list still names it."""
    reaper = os.fork()
    if reaper == 0:
        os._exit(len(kill.strike([NUMBER])))  # a sibling's child is not its own
    hit = os.waitstatus_to_exitcode(os.waitpid(reaper, 0)[1])
    return f"{hit} hit" if hit else None


def _send(pidfd: int) -> str | None:
    sent = linux.send_pidfd(pidfd, signal.SIGKILL)
    os.close(pidfd)
    return "sent" if sent else None


OURS = (
    Way("identity with pidfs inode, pidfd", _identity, _kill_if_same),
    Way("  moves before the pidfd is open", _identity, _kill_if_same, moves="before"),
    Way("  moves after it", _identity, _kill_if_same, moves="after"),
    Way("pidfd kept (tree, zygote, pool)", os.pidfd_open, _send),
    Way("strike (sweep of own children)", int, _strike),
    Way("sweep by mark", int, _sweep),
    Way("  moves before the pidfd is open", int, _sweep, moves="before"),
    Way("  moves after it", int, _sweep, moves="after"),
    Way("cancel --now", Held.by, _cancel_now, prepare=_guarded),
    Way("recover", Held.by, _recover, prepare=_worked_on),
    Way("locks release", Held.by, _release, prepare=_worked_on),
    Way("handover (the same command again)", Held.by, _hand_over, prepare=_worked_on),
)


def keeps_its_number() -> bool:
    """Who signals only children that it has not reaped (keeper, guardian, probe) cannot meet a stranger: as
    long as the dead one is not reaped the kernel gives its number to nobody."""
    victim = fork_as(NUMBER)
    os.kill(victim, signal.SIGKILL)
    os.waitid(os.P_PID, victim, os.WEXITED | os.WNOWAIT)
    other = fork_as(NUMBER)
    os.waitpid(victim, 0)
    end(other)
    return victim == NUMBER != other


def table(trials: int, folder: Path, *, ways: tuple[Way, ...] = (*NAIVE, *OURS)) -> tuple[list[Tally], int]:
    """The tallies, and of how many trials an unreaped child kept its number."""
    report = folder / "report"

    def inside() -> None:
        linux.unshare(linux.CLONE_NEWPID)
        inner = os.fork()
        if inner == 0:
            code = 1
            try:
                linux.mount_private_proc()
                os.environ["REUSE_FOLDER"] = str(folder)
                kept = sum(keeps_its_number() for _ in range(trials))
                found = [tally(way, trials) for way in ways]
                rows = [[t.name, t.ours, t.trials, t.later, t.same_tick, t.ticks, t.wrong] for t in found]
                report.write_text(json.dumps([rows, kept]))
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) == 0, "see stderr"

    in_subreaper(inside)
    return read(folder)


def read(folder: Path) -> tuple[list[Tally], int]:
    """What `table` found, from its report."""
    rows, kept = json.loads((folder / "report").read_text())
    return [Tally(*row) for row in rows], int(kept)


def main() -> int:
    if os.geteuid() != 0:
        print("needs root: a PID namespace in which the next number can be chosen")
        return 2
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        found, kept = table(trials, Path(folder))
    print(f"strangers killed, of {trials} each{'':13}{'25 ms later':>14}{'same tick':>12}{'(one tick)':>12}")
    for one in found:
        owner = "  " if one.ours else "- "
        print(f"{owner}{one.name:40}{one.later:>14}{one.same_tick:>12}{one.ticks:>12}")
        for sentence in one.wrong:
            print(f"    ! {sentence}")
    print(f"an unreaped child kept its number in {kept} of {trials} (-: naive, for comparison)")
    bad = sum(one.later + one.same_tick + len(one.wrong) for one in found if one.ours) + trials - kept
    print(f"{bad} faults of ours")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
