"""The store's clock on one machine: wall time that cannot jump while the machine runs.

A lease must not expire because somebody set the clock. The first opener after a boot writes down what the
wall clock said at the kernel's zero; from then on time is that anchor plus CLOCK_BOOTTIME, which runs
through suspend. A wall clock that is corrected later is followed after the next boot, but never back: where
it is wrong at the start (no battery, no network yet), jobs would become due in the future.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from unjam.store.database import Database

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str | None:
    """What names this boot of the machine; None where the system does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None


def since_boot() -> float:
    """Seconds since boot, time asleep included where the system counts it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def open_clock(database: Database) -> Callable[[], float]:
    """The clock that every process of this boot shares through the store."""
    boot = boot_id()
    if boot is None:
        return time.time
    row = database.one("get_anchor", {"boot": boot})
    if row is None:
        with database.write():
            row = database.one("get_anchor", {"boot": boot})
            if row is None:
                last = database.one("last_time")
                now = time.time() if last is None else max(time.time(), last["at"])
                database.run("set_anchor", {"boot": boot, "anchor": repr(now - since_boot())})
                row = database.one("get_anchor", {"boot": boot})
    assert row is not None  # written above, in the same transaction
    anchor = float(row["anchor"])
    return lambda: anchor + since_boot()
