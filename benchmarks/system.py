"""The real thing for a benchmark: keeper and worker on an SQLite file, and what all of it costs."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from unjam.jobs.states import ACTIVE
from unjam.settings import Settings, as_environment, load
from unjam.store import open_store
from unjam.store.port import JobFilter, Store
from unjam.supervise import linux
from unjam.worker.spawn import keeper_argv, worker_argv

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
START_LIMIT = 60.0


@dataclass(frozen=True, slots=True)
class System:
    """A running keeper with its worker. CPU and memory are the keeper's and of everything below it."""

    store: Store
    folder: Path
    keeper: int

    def cpu_seconds(self) -> float:
        """User and system time so far, with all that was waited for. Ticks of 10 ms: measure many jobs."""
        stats = (linux.proc_stat(pid) for pid in (self.keeper, *linux.descendants(self.keeper)))
        return sum(stat.cpu_ticks for stat in stats if stat is not None) / TICK

    def cpu_by_part(self) -> dict[str, float]:
        """Seconds of keeper, worker and zygotes themselves, and of `attempts`: all that was waited for."""
        parts = {"keeper": 0.0, "worker": 0.0, "zygotes": 0.0, "attempts": 0.0}
        for pid in (self.keeper, *linux.descendants(self.keeper)):
            data = linux.read_small(f"/proc/{pid}/stat") or b""
            name, field = data[: data.rfind(b")")], data[data.rfind(b")") + 2 :].split()
            if not field:
                continue
            part = "keeper" if pid == self.keeper else "worker"
            if b"(uj" in name:
                part = "zygotes" if b"uj-zygote" in name else "attempts"
            parts[part] += (int(field[11]) + int(field[12])) / TICK
            parts["attempts"] += (int(field[13]) + int(field[14])) / TICK
        return parts

    def scheduled_by_name(self) -> dict[str, int]:
        """Nanoseconds on a processor, of all threads of what lives now, by process name."""
        found: dict[str, int] = {}
        for pid in (self.keeper, *linux.descendants(self.keeper)):
            name = _name(pid)
            for account in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                used = (linux.read_small(str(account)) or b"0").split()[0]
                found[name] = found.get(name, 0) + int(used)
        return found

    def pss_bytes(self) -> dict[str, int]:
        """Proportional set size by process name."""
        found: dict[str, int] = {}
        for pid in (self.keeper, *linux.descendants(self.keeper)):
            name = _name(pid)
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            size = next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
            found[name] = found.get(name, 0) + size
        return found

    def active(self) -> int:
        counts = self.store.count_by_state(JobFilter())
        return sum(counts.get(state, 0) for state in ACTIVE)

    def drained(self, every: float = 0.05) -> None:
        """Return once no job is left to do."""
        while self.active():
            time.sleep(every)


def _name(pid: int) -> str:
    name = (linux.read_small(f"/proc/{pid}/comm") or b"?").decode().strip()
    if b"unjam.worker" in (linux.read_small(f"/proc/{pid}/cmdline") or b"") and name != "uj-keeper":
        return "worker"
    return "attempt" if name.startswith("uj:") else name.removeprefix("uj-")


@contextmanager
def running(
    folder: Path,
    containment: str,
    *,
    slots: int | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[System]:
    """Keeper and worker in a fresh `folder`, idle and ready. `settings`: variables beside the defaults."""
    for part in (folder, folder / "config", folder / "home"):
        part.mkdir()
    chosen = _settings(folder, containment, settings)
    with open(folder / "worker.log", "wb") as log:
        keeper = subprocess.Popen(
            keeper_argv(worker_argv(slots=slots)),
            env={**os.environ, **as_environment(chosen), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    store = open_store(chosen.store)
    try:
        _wait_ready(folder / "worker.log", keeper)
        yield System(store, folder, keeper.pid)
    finally:
        store.close()
        keeper.send_signal(signal.SIGTERM)
        keeper.wait(60)


def _settings(folder: Path, containment: str, more: Mapping[str, str]) -> Settings:
    environment = {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "UNJAM_HOME": str(folder / "home"),
        "UNJAM_PIPELINES": "benchmarks.noop",
        "UNJAM_CONTAINMENT": containment,
        **more,
    }
    return load(env=environment, cwd=folder)


def _wait_ready(log: Path, keeper: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_LIMIT
    while b": ready" not in log.read_bytes():
        if keeper.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the worker did not start:\n{log.read_text()}")
        time.sleep(0.02)


def machine() -> str:
    """The line that every table begins with."""
    return f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Linux {os.uname().release}"
