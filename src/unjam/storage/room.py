"""How much room is left, told by the file system that a person would have to clear."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from unjam.measures import show_size


def mount_point(path: Path) -> Path:
    """Where the file system of this path begins; of what is not there yet, that of its nearest parent."""
    here = path.absolute()
    while not here.exists():
        here = here.parent
    device = here.stat().st_dev
    while here != here.parent and here.parent.stat().st_dev == device:
        here = here.parent
    return here


def fullest(folders: Iterable[str]) -> str:
    """The file system of these folders with the least room: "/media/usb has 1.2 MB left of 32.0 GB"; "" where
    none can be asked."""
    found: list[tuple[int, str]] = []
    for folder in folders:
        try:
            root = mount_point(Path(folder))
            usage = shutil.disk_usage(root)
        except OSError:
            continue  # it went away: then that is not where it is full
        found.append((usage.free, f"{root} has {show_size(usage.free)} left of {show_size(usage.total)}"))
    return min(found, default=(0, ""))[1]
