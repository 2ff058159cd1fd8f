"""A process with the imports done that forks guardians in milliseconds; it computes nothing and owns nothing.

`python -m unjam.supervise.zygote SOCKET_FD WORKER_PIDFD`. Executed fresh, never forked from the worker with
its threads. It imports and does nothing else: no session, no model, no array is made before the fork (a model
loaded before it hangs its users for ever). Guardians are forked twice, so they become the worker's children
and the zygote may die without harm to any attempt.
"""

import errno
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from unjam.supervise import linux, protocol
from unjam.supervise.guardian import Guardian
from unjam.supervise.keeper_env import KEEPER_FD, KEEPER_IDENTITY
from unjam.supervise.mark import set_mark

# OpenBLAS starts its threads at import, and a thread does not survive a fork. Set for the imports only:
# attempts have the environment as the worker had it, for what they execute; in a forked attempt BLAS stays at
# one thread until it is told otherwise (threadpoolctl).
_PRELOAD_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}


class Zygote:
    def __init__(self, sock: socket.socket, worker: int) -> None:
        self._sock = sock
        self._worker = worker

    def run(self) -> NoReturn:
        config, _ = protocol.receive(self._sock)
        if config is None:
            os._exit(0)
        for key in (KEEPER_FD, KEEPER_IDENTITY):
            os.environ.pop(key, None)  # the worker's own: no attempt is kept by that keeper
        # Before anything is forked: there is no moment at which a descendant lacks the mark (INV-ORPHAN).
        marked = set_mark(config["mark"])
        sys.path += [path for path in config["path"] if path not in sys.path]
        _tell(self._sock, {"ev": "up", "marked": marked, "obstacle": _try_namespace(config["probe"])})
        self._preload(config["preload"])
        self._serve()

    def _preload(self, modules: Sequence[str]) -> None:
        """A module that fails is left to the attempt, whose own import says it in the attempt's own log."""
        given = {key: os.environ.get(key) for key in _PRELOAD_ENVIRONMENT}
        os.environ.update(_PRELOAD_ENVIRONMENT)
        for module in modules:
            if linux.pidfd_dead(self._worker):
                os._exit(0)
            try:
                importlib.import_module(module)
            except Exception:  # noqa: BLE001 - any module may raise anything at import
                sys.stderr.write(f"unjam: preloading {module} failed\n{traceback.format_exc()}")
        for key, value in given.items():
            del os.environ[key]
            if value is not None:
                os.environ[key] = value
        # What is here now is never written by a collection in a child: the pages stay shared.
        gc.collect()
        gc.freeze()
        # From Python 3.12 on fork() warns when a library has threads. They belong to imports only, measured
        # safe.
        warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)

    def _serve(self) -> NoReturn:
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        poller.register(self._worker, select.POLLIN)
        while True:
            if self._worker in dict(poller.poll()):
                os._exit(0)
            request, fds = protocol.receive(self._sock)
            if request is None:
                os._exit(0)
            if len(fds) < 3:
                _refuse(fds)
                continue
            ctl = socket.socket(fileno=fds[0])
            try:
                middle = os.fork()
            except OSError as error:
                _tell(ctl, {"ev": "failed", "reason": f"fork: {error.strerror}"})
            else:
                if middle == 0:
                    self._fork_guardian(request, ctl, fds[1], fds[2])
                os.waitpid(middle, 0)
            ctl.close()
            os.close(fds[1])
            os.close(fds[2])

    def _fork_guardian(self, request: dict[str, Any], ctl: socket.socket, channel: int, log: int) -> NoReturn:
        """In the process between: its only duty is to die, so that the guardian becomes the worker's
        child."""
        try:
            pid = os.fork()
            if pid == 0:
                # A copy left open here would hide the zygote's end from the worker.
                self._sock.close()
                Guardian(ctl, self._worker).run(request, channel, log)
            # Before we exit means before the guardian is adopted: a sweep never takes it for an orphan.
            _tell(ctl, {"ev": "forked", "pid": pid})
        except OSError as error:
            _tell(ctl, {"ev": "failed", "reason": f"fork: {error.strerror}"})
        finally:
            os._exit(0)


def _try_namespace(probe: str | None) -> tuple[object, ...] | None:
    """None: attempts can have PID namespaces, or nobody asks."""
    if probe is None:
        return None
    from unjam.supervise import nsprobe  # in here: only one zygote of a worker tries it

    return nsprobe.obstacle(insist=probe == "insist")


def _refuse(fds: list[int]) -> None:
    """The kernel drops descriptors of a message that there is no room for here."""
    if fds:
        with socket.socket(fileno=fds.pop(0)) as ctl:
            _tell(ctl, {"ev": "failed", "reason": f"fork: {os.strerror(errno.EMFILE)}"})
    for fd in fds:
        os.close(fd)


def _tell(ctl: socket.socket, message: protocol.Message) -> None:
    try:
        protocol.send(ctl, message)
    except OSError:
        return  # the worker gave this launch up or died: its pidfd ends the guardian


def main() -> NoReturn:
    sock_fd, worker = int(sys.argv[1]), int(sys.argv[2])
    # First of all, before the long imports: a killed worker must not leave a zygote that is still importing.
    linux.die_with(worker)
    linux.set_name("uj-zygote")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for fd in (sock_fd, worker):
        os.set_inheritable(fd, False)
    Zygote(socket.socket(fileno=sock_fd), worker).run()


if __name__ == "__main__":
    main()
