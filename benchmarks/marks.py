"""When the first line of a job ran: jobs of every contestant append a line, the benchmark reads it."""

import os
import time
from pathlib import Path


def write(marks: str, number: int) -> None:
    """`NUMBER NANOSECONDS` on CLOCK_MONOTONIC, which all processes of a machine share."""
    now = time.monotonic_ns()
    fd = os.open(marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{number} {now}\n".encode())
    os.close(fd)


def wait_for(marks: Path, number: int, patience: float = 30.0) -> int:
    """When that job's first line ran. Raises TimeoutError."""
    wanted = f"{number} ".encode()
    end = time.monotonic() + patience
    while True:
        for line in marks.read_bytes().splitlines() if marks.exists() else ():
            if line.startswith(wanted):
                return int(line.split()[1])
        if time.monotonic() > end:
            raise TimeoutError(f"job {number} did not run in {patience:g} s")
        time.sleep(0.001)


def wait_until(marks: Path, count: int, patience: float = 120.0) -> None:
    """Return once so many jobs have run."""
    end = time.monotonic() + patience
    while not marks.exists() or marks.read_bytes().count(b"\n") < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{count} jobs did not run in {patience:g} s")
        time.sleep(0.02)
