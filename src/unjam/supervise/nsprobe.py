"""Can attempts have a PID namespace of their own here? Answered by making one, in a throw-away fork, and
never from a setting; settings are read afterwards, to say what refused it and what helps.

As root it needs nothing else. An ordinary user needs a user namespace around it, and gets one only if he
insists: it knows no user but him, setuid tools do nothing in it, and stock Ubuntu and Docker refuse it.
"""

import errno
import os
from typing import NamedTuple, NoReturn

from unjam.supervise import linux, userns
from unjam.supervise.values import SHORT_OF

_SUCCESS = "ok"


class Obstacle(NamedTuple):
    """Why there is none, and what helps. `passing`: the machine had nothing left for it at that moment."""

    why: str
    way_out: str
    passing: bool = False


NOT_ASKED = Obstacle("an ordinary user gets one only on demand", "set containment = pidns for the worker")


def obstacle(*, insist: bool = False) -> Obstacle | None:
    """None where a PID namespace with its own /proc can be had. `insist`: also in a user namespace."""
    ids = userns.own_ids()
    if ids is not None and not insist:
        return NOT_ASKED
    me, (answer, told) = os.pidfd_open(os.getpid()), os.pipe()
    try:
        child = os.fork() if ids is None else userns.fork_inside()
    except OSError as error:
        os.close(answer)
        return explain(error, ids is None)
    else:
        if child == 0:
            _try_and_tell(ids, told, me)
    finally:
        os.close(told)
        os.close(me)
    words = linux.read_to_end(answer).decode()
    os.waitpid(child, 0)
    if words == _SUCCESS:
        return None
    number, _, text = words.partition(" ")
    return explain(OSError(int(number or errno.EIO), text or "whoever tried it was killed"), ids is None)


def _try_and_tell(ids: userns.Ids | None, told: int, parent: int) -> NoReturn:
    """In the throw-away child: what a guardian's child will do."""
    words = ""
    try:
        linux.die_with(parent)
        _try(ids)
        words = _SUCCESS
    except OSError as error:
        words = f"{error.errno} {error.strerror}"
    finally:
        os.write(told, words.encode())
        os._exit(0)


def _try(ids: userns.Ids | None) -> None:
    """Returns in PID 1 of a new PID namespace with its own /proc."""
    if ids is not None:
        userns.settle(ids)
    else:
        linux.unshare(linux.CLONE_NEWPID)
        if inner := os.fork():
            os.waitpid(inner, 0)
            os._exit(0)  # that one has told
    linux.mount_private_proc()
    if os.readlink("/proc/self") != "1":
        raise OSError(errno.EINVAL, "its /proc shows other processes")
    if ids is not None:
        userns.drop_capabilities()


def explain(error: OSError, root: bool, sysctls: str = "/proc/sys") -> Obstacle:
    """What refused it. `sysctls`: where this kernel's settings are read."""
    told = error.strerror or str(error)
    if error.errno in SHORT_OF:
        why = f"{told}: no descriptor, process or memory for it at that moment"
        return Obstacle(why, "raise the limit (ulimit -n, ulimit -u), and start again", passing=True)
    if root:
        return Obstacle(told, "run the worker as root on the host itself, or in a container with SYS_ADMIN")
    if error.errno == errno.ENOSPC:
        most = _setting(f"{sysctls}/user/max_user_namespaces")
        why = f"{told}: a limit on namespaces is reached (user.max_user_namespaces is {most or 'hidden'})"
        return Obstacle(why, "sudo sysctl user.max_user_namespaces=10000")
    if _setting(f"{sysctls}/kernel/unprivileged_userns_clone") == "0":
        why = f"{told}: forbidden to ordinary users (kernel.unprivileged_userns_clone = 0)"
        return Obstacle(why, "sudo sysctl kernel.unprivileged_userns_clone=1")
    if _setting(f"{sysctls}/kernel/apparmor_restrict_unprivileged_userns") not in ("", "0"):
        why = f"{told}: AppArmor forbids it, as on Ubuntu (kernel.apparmor_restrict_unprivileged_userns)"
        fix = "allow `userns` to this Python in an AppArmor profile, or: "
        return Obstacle(why, fix + "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0")
    if error.errno in (errno.ENOSYS, errno.EINVAL):
        return Obstacle(f"{told}: this kernel has no user namespaces", "run the worker as root")
    why = f"{told}: refused by a container (Docker's seccomp filter or its masked /proc) or a security module"
    fix = "start the container with --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
    return Obstacle(why, fix + ", or run the worker as root on the host")


def _setting(path: str) -> str:
    return (linux.read_small(path) or b"").decode().strip()
