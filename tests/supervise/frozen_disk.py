"""A disk that can be frozen: whoever writes to it then is in uninterruptible sleep (state D). Root only."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FrozenDisk:
    """An ext4 in a file, on a loop device. SIGKILL does not end who waits for its thaw."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self.path.mkdir(parents=True)
        self._image = folder / "disk.img"
        with open(self._image, "wb") as image:
            image.truncate(16 << 20)
        _run("mkfs.ext4", "-q", self._image)
        _run("mount", "-o", "loop", self._image, self.path)
        self.frozen = False

    def freeze(self) -> None:
        _run("fsfreeze", "--freeze", self.path)
        self.frozen = True

    def thaw(self) -> None:
        if self.frozen:
            _run("fsfreeze", "--unfreeze", self.path)
            self.frozen = False

    def close(self) -> None:
        """Thaw and unmount: whoever waited has its SIGKILL and needs a moment to go."""
        self.thaw()
        end = time.monotonic() + 10
        while True:
            try:
                _run("umount", self.path)
                return
            except AssertionError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)


@contextmanager
def frozen_disk(folder: Path) -> Iterator[FrozenDisk]:
    disk = FrozenDisk(folder)
    try:
        yield disk
    finally:
        disk.close()


def _run(*words: str | Path) -> None:
    done = subprocess.run(
        [*map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
