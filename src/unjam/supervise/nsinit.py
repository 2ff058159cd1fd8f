"""PID 1 of an attempt's PID namespace: when it goes, the kernel kills all that is left inside, at one
stroke."""

import os
import signal
import struct
from types import FrameType
from typing import NoReturn

from unjam.supervise import linux

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCONT)
_STATUS = struct.Struct("i")


def serve(attempt: int, report_fd: int) -> NoReturn:
    """Reap orphans, hand signals on to the attempt, and leave with it.

    Writes one byte once the attempt exists and its raw wait status at its end to `report_fd`: PID 1 cannot
    die of a signal it sends itself, so its own exit code could not say how the attempt ended.
    """
    linux.set_name("uj-init")
    pidfd = os.pidfd_open(attempt)

    def forward(number: int, _frame: FrameType | None) -> None:
        linux.send_pidfd(pidfd, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    # Blocked since before the fork: PID 1 loses a signal that has neither handler nor block.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.write(report_fd, b"r")
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == attempt:
            os.write(report_fd, _STATUS.pack(status))
            os._exit(0)


def read_status(report_fd: int) -> int | None:
    """The attempt's wait status after PID 1 has ended; None when PID 1 was killed before it could say."""
    data = os.read(report_fd, _STATUS.size + 1).removeprefix(b"r")
    return int(_STATUS.unpack(data)[0]) if len(data) == _STATUS.size else None
