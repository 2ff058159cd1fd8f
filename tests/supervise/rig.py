"""Building blocks of the supervision tests: launchers that surely close, specs with defaults, forked
helpers."""

import asyncio
import os
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.reaper import PR_SET_CHILD_SUBREAPER, prctl
from unjam.supervise import linux
from unjam.supervise.launch import Launcher, LaunchSpec, Limits
from unjam.supervise.mark import new_mark
from unjam.supervise.portable import AnyTree

ENTRIES = "tests.supervise.entries"


@asynccontextmanager
async def launcher(**options: Any) -> AsyncIterator[Launcher]:
    # Specs say for themselves what they want; this lets an ordinary user have namespaces where he can.
    options.setdefault("default_containment", "pidns")
    one = Launcher(mark=options.pop("mark", new_mark(7)), **options)
    await one.start()
    try:
        yield one
    finally:
        await one.close()
        # Other tests of this process expect their orphans to go where they always go.
        prctl(PR_SET_CHILD_SUBREAPER, 0)


def spec(folder: Path, entry: str = "nothing", **options: Any) -> LaunchSpec:
    """A spec with short limits; `limits` options (deadline, grace, memory_bytes) may be given flat."""
    limits = Limits(
        deadline=options.pop("deadline", 30.0),
        grace=options.pop("grace", 0.3),
        memory_bytes=options.pop("memory_bytes", None),
        nice=options.pop("nice", 0),
    )
    return LaunchSpec(
        name=options.pop("name", "t1/1"),
        entry=entry if ":" in entry else f"{ENTRIES}:{entry}",
        payload=options.pop("payload", {}),
        limits=limits,
        log_path=str(folder / "log"),
        cwd=str(folder),
        env=options.pop("env", {}),
        containment=options.pop("containment", "tree"),
        **options,
    )


async def hear(tree: AnyTree, timeout: float = 10.0) -> bytes:
    """One message of the attempt."""
    async with asyncio.timeout(timeout):
        return await asyncio.get_running_loop().sock_recv(tree.channel, 65536)


async def until(predicate: Callable[[], Any], timeout: float = 10.0, what: str = "") -> Any:
    """Like tests.helpers.wait_until, without stopping the loop."""
    end = linux.boottime() + timeout
    while True:
        value = predicate()
        if value:
            return value
        assert linux.boottime() < end, f"waited {timeout:g} s in vain for {what or predicate}"
        await asyncio.sleep(0.005)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(50):
            await test()

    asyncio.run(bounded())


def in_subreaper(work: Callable[[], None]) -> None:
    """Run `work` in a forked subreaper that dies with us; fail when it raised or left anything alive."""
    me = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            linux.die_with(me)
            linux.become_subreaper()
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - a forked test has nobody to raise to
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(me)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "failed in the forked process, see stderr"


def state_of(pid: int) -> str:
    """The letter of /proc/PID/stat, '' when there is no such process."""
    stat = linux.proc_stat(pid)
    return stat.state if stat else ""


def named(name: str, below: int | None = None) -> list[int]:
    """Living descendants whose process name starts so, the oldest first."""
    found = []
    for pid in linux.descendants(below):
        stat = linux.proc_stat(pid)
        comm = linux.read_small(f"/proc/{pid}/comm")
        if stat and comm and stat.state not in "ZX" and comm.decode(errors="replace").startswith(name):
            found.append((stat.start_ticks, pid))
    return [pid for _, pid in sorted(found)]


def with_path(folder: Path) -> str:
    """A PYTHONPATH that finds `folder` first."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
