"""Signals as something to be read: a wait ends at once when one comes, and nothing is raised anywhere."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Any, Self

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Inside `with`, INT, TERM and HUP are noted in `pressed` instead of ending the process."""

    def __init__(self) -> None:
        self.pressed: list[int] = []
        self._before: dict[int, Any] = {}
        self._pipe = (-1, -1)
        self._wakeup = -1

    def __enter__(self) -> Self:
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        # The pipe, not the handler, ends a wait: Python restarts an interrupted sleep.
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in CAUGHT:
            # nohup's SIGHUP stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        for end in self._pipe:
            os.close(end)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # A closed terminal says HUP twice, once itself and once by its shell: that is no second wish.
        if number != signal.SIGHUP or number not in self.pressed:
            self.pressed.append(number)

    def wait(self, seconds: float) -> None:
        """Sleep, at most until the next signal."""
        ready, _, _ = select.select([self._pipe[0]], [], [], seconds)
        if ready:
            try:
                os.read(self._pipe[0], 4096)
            except BlockingIOError:
                return

    @property
    def exit_code(self) -> int:
        """130 for Ctrl+C and a closed terminal, 143 for TERM."""
        return 143 if self.pressed and self.pressed[0] == signal.SIGTERM else 130
