"""The tiny first process: starts one child, hands signals on, ends what it leaves, starts it again when it
crashed.

`python -m unjam.supervise.keeper [--restart] [--parent-fd N] -- COMMAND...`. Works as PID 1 of a container.
It does as
little as possible so that nothing in it can fail: os, signal, select and a few calls by ctypes.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from unjam.supervise import kill, linux
from unjam.supervise.keeper_env import KEEPER_FD, KEEPER_IDENTITY, LET_GO

BACKOFF_FIRST, BACKOFF_LAST = 0.1, 5.0  # seconds between restarts, doubling
HEALTHY_AFTER = 60.0  # seconds of life after which the backoff starts anew
KILL_LIMIT = 5.0  # seconds; what is in uninterruptible sleep must not keep the next child from starting
EX_TEMPFAIL = 75  # the child saw its keeper die, or wants to be ended: not a crash
EX_NOT_FOUND = 127  # the command cannot be executed: no restart would help

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, LET_GO)
_USAGE = "usage: python -m unjam.supervise.keeper [--restart] [--parent-fd N] -- COMMAND..."


class Keeper:
    def __init__(self, command: Sequence[str], *, restart: bool, parent_fd: int | None) -> None:
        self._command = list(command)
        self._restart = restart
        self._parent_fd = parent_fd
        self._child = 0
        self._wait_status: int | None = None
        self._ending = 0  # the termination signal that was handed on: what follows is no crash
        self._wake_read, wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(wake_write, False)
        # Every signal becomes one byte in this pipe, in order: none is merged, none is handled twice.
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (*_FORWARDED, signal.SIGCHLD):
            # nohup's SIGHUP stays ignored: whoever closes the terminal asked for a worker that outlives it.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _noted)

    def run(self) -> int:
        """The exit code for the shell: the child's own, 128 + number when a signal ended it."""
        linux.set_name("uj-keeper")
        linux.become_subreaper()
        backoff = BACKOFF_FIRST
        while True:
            began = time.monotonic()
            self._start()
            while self._wait_status is None:
                self._wait(None)
            # Guardians end their trees by themselves; whoever lost guardian and worker came to us
            # (INV-ORPHAN).
            kill.kill_my_children(limit=KILL_LIMIT)
            code = _exit_code(self._wait_status)
            if not self._restart or self._ending or code in (0, EX_TEMPFAIL, EX_NOT_FOUND):
                return code
            backoff = BACKOFF_FIRST if time.monotonic() - began >= HEALTHY_AFTER else backoff
            asked_to_end = self._pause(backoff)
            if asked_to_end:
                return 128 + asked_to_end
            backoff = min(BACKOFF_LAST, backoff * 2)

    def _start(self) -> None:
        me = os.pidfd_open(os.getpid())
        identity = linux.identity_fields(os.getpid())
        assert identity is not None, "we live"
        self._wait_status = None
        held = {*_FORWARDED, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, held)
        self._child = os.fork()
        if self._child == 0:
            self._become_child(me, linux.identity_text(identity))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
        os.close(me)

    def _become_child(self, keeper_fd: int, identity: str) -> NoReturn:
        try:
            # Its own session: a terminal's Ctrl+C reaches only us, and we hand it on exactly once.
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (*_FORWARDED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.set_inheritable(keeper_fd, True)
            if self._parent_fd is not None:
                os.close(self._parent_fd)
            os.environ.update({KEEPER_FD: str(keeper_fd), KEEPER_IDENTITY: identity})
            os.execvp(self._command[0], self._command)
        except OSError as error:
            _complain(f"{self._command[0]}: {error.strerror}")
        finally:
            os._exit(EX_NOT_FOUND)

    def _wait(self, timeout: float | None) -> None:
        """Until something happened: hand on what came, reap what ended."""
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        if self._parent_fd is not None:
            poller.register(self._parent_fd, select.POLLIN)
        ready = dict(poller.poll(None if timeout is None else max(0, int(timeout * 1000) + 1)))
        if self._parent_fd is not None and self._parent_fd in ready:
            self._parent_fd = None
            self._hand_on(signal.SIGTERM)
        if self._wake_read in ready:
            for number in os.read(self._wake_read, 4096):
                if number == LET_GO:
                    self._parent_fd = None
                if number in _FORWARDED:
                    self._hand_on(number)
        kill.reap_all(self._on_reap)

    def _on_reap(self, pid: int, status: int, _used: object) -> None:
        if pid == self._child:
            self._wait_status = status

    def _hand_on(self, number: int) -> None:
        """Our unreaped child keeps its number, so this cannot hit a stranger (INV-STRANGER)."""
        self._ending = self._ending or number
        if self._wait_status is None:
            os.kill(self._child, number)

    def _pause(self, seconds: float) -> int:
        """The termination signal that came meanwhile, or 0."""
        until = time.monotonic() + seconds
        while not self._ending and (left := until - time.monotonic()) > 0:
            self._wait(left)
        return self._ending


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wake-up pipe has it; a handler must exist, or the signal would end us."""


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _complain(text: str) -> None:
    os.write(2, f"unjam keeper: {text}\n".encode())


def main(arguments: Sequence[str]) -> int:
    restart, parent_fd = False, None
    rest = list(arguments)
    while rest and rest[0] != "--":
        option = rest.pop(0)
        if option == "--restart":
            restart = True
        elif option == "--parent-fd" and rest and rest[0].isdigit():
            parent_fd = int(rest.pop(0))
            os.set_inheritable(parent_fd, False)
        else:
            _complain(f"{option} is not understood\n{_USAGE}")
            return 2
    if len(rest) < 2:
        _complain(_USAGE)
        return 2
    return Keeper(rest[1:], restart=restart, parent_fd=parent_fd).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
