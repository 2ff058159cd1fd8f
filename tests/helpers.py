"""What tests of every room need: waiting with a deadline, and seeing whether a process lives."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
MEDIA = ROOT / "tests" / "media"
DEMO = MEDIA / "demo.mp4"
BROKEN = MEDIA / "broken" / "theora.ogv"


def container_files() -> list[Path]:
    """The short clips, one for each container format, all of them good."""
    return sorted((MEDIA / "containers").iterdir())


def wait_until(
    predicate: Callable[[], T], timeout: float = 10.0, what: str = "", interval: float = 0.01
) -> T:
    """Call `predicate` until it returns something true, and return that; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(
                f"waited {timeout:g} s in vain for {what or predicate}; last value: {value!r}"
            )
        time.sleep(interval)


def process_alive(pid: int) -> bool:
    """Whether `pid` runs. A zombie does not: it only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
