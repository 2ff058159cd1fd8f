"""What an attempt may use, and how those limits are put on the process that is about to become one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unjam.supervise.mark import get_mark, new_mark, set_mark

__all__ = ["Limits", "get_mark", "new_mark", "set_mark"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one attempt.

    deadline: seconds from `go` until the tree is asked to end; None for never.
    grace: seconds between TERM+CONT and KILL.
    memory_bytes: resident bytes of the whole tree. The guardian samples them once a second, above 80 %
        ten times, and kills at once: the last line before the kernel's own killer, not a hard ceiling.
    nice, ionice_idle: priority of the tree; the guardian keeps its own.
    """

    deadline: float | None
    grace: float = 5.0
    memory_bytes: int | None = None
    nice: int = 0
    ionice_idle: bool = False

    def __post_init__(self) -> None:
        if self.deadline is not None and self.deadline <= 0:
            raise ValueError(f"deadline must be positive, not {self.deadline}")
        if self.grace < 0:
            raise ValueError(f"grace must not be negative, not {self.grace}")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise ValueError(f"memory_bytes must be positive, not {self.memory_bytes}")

    def to_wire(self) -> Mapping[str, Any]:
        return asdict(self)
