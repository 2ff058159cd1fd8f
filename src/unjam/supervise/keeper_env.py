"""What a keeper and its child tell each other: two environment variables, read once and kept from attempts,
and one signal."""

import os
import signal

from unjam.supervise import linux

KEEPER_FD, KEEPER_IDENTITY = "UNJAM_KEEPER_FD", "UNJAM_KEEPER_IDENTITY"
LET_GO = signal.SIGUSR1
"""To a keeper, and handed on: who started it is done and does not wait. The death of that process is none of
its concern any more, and the child finishes what it has, begins nothing new, and ends."""


def take_keeper() -> tuple[int, str] | None:
    """(pidfd of our keeper, its identity as text), or None when nobody keeps us. Call once, early.

    Removes the variables and closes the descriptor to what we execute: a child of ours has another keeper, or
    none. From here on we die with it, until a launcher watches it: who is still starting when its keeper is
    killed would go on to its first claim, seconds later on a busy machine (INV-ORPHAN: kill -9).
    """
    fd_text, identity = os.environ.pop(KEEPER_FD, ""), os.environ.pop(KEEPER_IDENTITY, "")
    if not fd_text.isdigit() or not identity:
        return None
    fd = int(fd_text)
    try:
        os.set_inheritable(fd, False)
    except OSError:
        return None  # inherited through somebody who closed it: that keeper is not ours
    linux.die_with(fd)
    return fd, identity
