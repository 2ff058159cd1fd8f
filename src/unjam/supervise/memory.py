"""What an attempt's memory does against its limit, and whether the kernel's killer was there.

With a control group of its own the kernel keeps the limit; without one the guardian looks at the tree once a
second, and ten times near the limit. Without a limit only the machine's killer is watched for: a SIGKILL that
nobody of ours sent is no crash when that killer has struck a moment before.
"""

from unjam.supervise import cgroup, linux
from unjam.supervise.values import Killer

SAMPLE_SECONDS = 1.0
SAMPLE_SECONDS_NEAR_LIMIT = 0.1
SAMPLE_SECONDS_LATER = 2.0
"""Between samples of a tree that has no limit to keep, once it has run for YOUNG seconds."""
YOUNG = 10.0
KILLER_SECONDS = 5.0
"""How often the machine's killer is looked for: its count stands among 170 others that the kernel adds up
over all processors, the dearest file of a sample."""
NEAR_LIMIT = 0.8  # share of the limit above which sampling is ten times faster


class MemoryWatch:
    """One attempt's. `group` is None where the system gives us none, and always without a limit."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.group: cgroup.Group | None = None
        self._kills = [kernel_kills()]
        self._began = self._looked_at = linux.boottime()

    def enclose(self, mark: int, name: str) -> bool:
        """Make the group, if there is a limit and the system lets us. It holds nobody until `admit`."""
        if self.limit is not None:
            self.group = cgroup.make(mark, name, self.limit)
        return self.group is not None

    def admit(self, pid: int) -> None:
        """Before its first instruction: what was used outside does not count inside."""
        if self.group is not None:
            try:
                self.group.admit(pid)
            except OSError:
                self.leave()

    def leave(self) -> None:
        """The tree is gone, or never came to be."""
        if self.group is not None:
            self.group.remove()
            self.group = None

    def first_look(self) -> float:
        """Seconds until the first sample."""
        return SAMPLE_SECONDS if self.limit is None or self.group is not None else SAMPLE_SECONDS_NEAR_LIMIT

    def over(self, rss: int) -> bool:
        """Must the tree be ended now?"""
        now = linux.boottime()
        if now - self._looked_at >= KILLER_SECONDS:
            self._kills, self._looked_at = [self._kills[-1], kernel_kills()], now
        if self.group is not None:
            return self.group.oom_kills() > 0  # version 1 kills only one of the tree
        return self.limit is not None and rss > self.limit

    def look_again_in(self, rss: int) -> float:
        """Seconds until the next sample."""
        if self.limit is None and linux.boottime() - self._began >= YOUNG:
            return SAMPLE_SECONDS_LATER
        near = self.limit is not None and self.group is None and rss > NEAR_LIMIT * self.limit
        return SAMPLE_SECONDS_NEAR_LIMIT if near else SAMPLE_SECONDS

    def killer(self) -> Killer | None:
        """Asked when the tree is gone: did the kernel kill one of it, or somebody on this machine within the
        last ten seconds?"""
        if self.group is not None and self.group.oom_kills():
            return "group"
        return "machine" if kernel_kills() > self._kills[0] else None

    def peak(self) -> int:
        """The group's, once it was full: then no file cache was left in it. What the attempt shares with its
        zygote is in the samples, but not in the group. 0 otherwise."""
        return self.group.peak() if self.group is not None and self.group.oom_kills() else 0


def kernel_kills() -> int:
    """How many processes the kernel has killed for memory since boot, in whatever group (Linux 4.13)."""
    try:
        with open("/proc/vmstat", "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return 0
    _, found, rest = text.partition(b"\noom_kill ")
    return int(rest.split(maxsplit=1)[0]) if found else 0
