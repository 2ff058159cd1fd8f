"""What a machine may be short of for a moment: file descriptors, processes, memory for a fork.

None of it is a job's fault. No job is claimed that could not be started; one that could not all the same is
given back without blame, and the worker waits before it claims again.
"""

from __future__ import annotations

import os
import resource
import sys

from unjam.supervise.values import SHORT_OF, LaunchFailed

WAIT = 5.0
"""Seconds without a claim after a start that failed for a shortage."""
PER_ATTEMPT = 8
"""Descriptors of the worker that an attempt needs at most, while it is started; then three."""
SPARE = 12
"""Descriptors for the worker's own moments: a log, a publication, a wake-up call, a new connection."""
_OWN = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"


def is_shortage(error: Exception) -> bool:
    """Is this error of a start the machine's, and likely to pass?"""
    if isinstance(error, LaunchFailed) and error.short:
        return True
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in SHORT_OF


def room_for_attempts(starting: int) -> int:
    """How many more attempts there are descriptors for, beside those that are `starting` now.

    Looking takes a descriptor itself, so it also sees a machine whose table of open files is full.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    try:
        used = len(os.listdir(_OWN))
    except OSError:
        return 0
    return max(0, (soft - used - SPARE) // PER_ATTEMPT - starting)


def descriptors() -> str:
    """The shortage and the way out, for people."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"no file descriptors left to start a job (limit {soft}); raise it: ulimit -n 4096, or LimitNOFILE="
    )
