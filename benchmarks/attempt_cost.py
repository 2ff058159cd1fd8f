"""What one guarded attempt costs: CPU of everything it takes, beside a bare Python start measured in the same
run.

`python benchmarks/attempt_cost.py [N]`. An attempt is launch, hello, go, a no-op entry, and the proof that
the tree is gone. CPU is counted over the worker and all its children; the zygote's start is not part of it.
"""

import asyncio
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from unjam.supervise import linux
from unjam.supervise.launch import Launcher, LaunchSpec, Limits
from unjam.supervise.mark import new_mark

# Returns False, which is exit code 0, and is imported in every Python: nothing but the supervision is
# measured.
NO_OP = "operator:is_"
PRELOAD = ("unjam.pipelines.runner",)


def cpu_so_far(living: list[int]) -> float:
    """CPU seconds of this process, its reaped children, and of the given ones that still live (nanoseconds
    exact)."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(one.ru_utime + one.ru_stime for one in used)
    for pid in living:
        text = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii")
        total += int(text.split()[0]) / 1e9
        # What the zygote has waited for (the process between) is in its own children's account only.
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK")
    return total


@contextmanager
def measured(label: str, count: int, living: list[int]) -> Iterator[list[float]]:
    walls: list[float] = []
    before = cpu_so_far(living)
    yield walls
    cpu = (cpu_so_far(living) - before) / count * 1e3
    print(f"{label:34} {cpu:6.2f} ms CPU   {statistics.median(walls) * 1e3:6.2f} ms wall (median of {count})")


async def attempts(containment: Literal["tree", "pidns"], keep: int, count: int, log: str) -> None:
    launcher = Launcher(
        mark=new_mark(0), base_preload=PRELOAD, keep_guardians=keep, default_containment=containment
    )
    await launcher.start()
    if containment == "pidns" and launcher.pidns_obstacle:
        print(f"attempt, pidns: not possible here: {launcher.pidns_obstacle.why}")
        await launcher.close()
        return
    spec = LaunchSpec(
        name="cost/1",
        entry=NO_OP,
        payload={},
        limits=Limits(deadline=60),
        log_path=log,
        cwd="/",
        env={},
        preload=PRELOAD,
        containment=containment,
    )
    for _ in range(3):
        await one(launcher, spec)
    how = "guardian kept" if keep else "all forked"
    with measured(f"attempt, {containment}, {how}", count, linux.children()) as walls:
        for _ in range(count):
            began = time.perf_counter()
            await one(launcher, spec)
            walls.append(time.perf_counter() - began)
    await launcher.close()


async def one(launcher: Launcher, spec: LaunchSpec) -> None:
    tree = await launcher.launch(spec)
    tree.go(math.inf)
    end = await tree.done()
    tree.channel.close()
    assert end.exit_code == 0, end


def bare_python(count: int) -> None:
    with measured("python -I -S -c pass", count, []) as walls:
        for _ in range(count):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
            walls.append(time.perf_counter() - began)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    bare_python(count)
    with tempfile.TemporaryDirectory() as folder:
        for containment in ("tree", "pidns"):
            for keep in (0, 1):
                asyncio.run(attempts(containment, keep, count, os.path.join(folder, "log")))


if __name__ == "__main__":
    main()
