"""The identity of a piece of JSON: plans, parameters and work are compared by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def digest_of(body: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of `body` (sorted keys, no spaces), as 64 hex digits."""
    # In here, and wherever a zygote would import it: OpenSSL makes every fork of a process dearer, and an
    # attempt costs three (benchmarks/attempt_cost.py).
    import hashlib

    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
