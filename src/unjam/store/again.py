"""Calls of the store that are made again: their transaction surely did not happen, and nobody is to blame."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Any

from unjam.errors import StoreUnavailable
from unjam.store.database import NotUnique

PAUSE = 0.02
"""Seconds before the next try, on average: two that were in each other's way do not meet again at once."""


class Again(StoreUnavailable):
    """The transaction was rolled back as a whole: the call may be repeated as if it had never been made."""


def again(method: Callable[..., Any], patience: float) -> Callable[..., Any]:
    """The method, repeated for `patience` seconds while its transaction fails by a deadlock, by a connection
    lost before the commit, or because another one took a unique key between a look and an insert."""

    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        deadline = time.monotonic() + patience
        while True:
            try:
                return method(*arguments, **named)
            except (Again, NotUnique):
                if time.monotonic() >= deadline:
                    raise
            time.sleep(PAUSE * 2 * random.random())

    return call
