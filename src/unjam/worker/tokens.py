"""Scarce things of a machine that a stage holds (`gpu`): file locks, freed by the kernel."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

RETRY_EVERY = 0.2


class Tokens:
    """One lock file a token, shared by all workers of the machine (INV-LOCK: nothing to leak or count)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def take(self, name: str, owner: str, wanted: Callable[[], bool]) -> int | None:
        """Wait until the token is free; returns the descriptor that holds it for `owner`, or None once it is
        no longer `wanted`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while wanted():
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(RETRY_EVERY)
                else:
                    _sign(fd, owner)
                    return fd
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise

    def owner(self, name: str) -> str:
        """The job that holds the token, or held it last; only for people to read."""
        try:
            return (self._folder / f"{name}.lock").read_text()
        except OSError:
            return ""

    @staticmethod
    def give_back(fd: int) -> None:
        os.close(fd)


def _sign(fd: int, owner: str) -> None:
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, owner.encode(), 0)
    except OSError:
        return  # a full disk: the lock is ours all the same, only its holder cannot be named
