"""unjam: media jobs that never jam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unjam.client.api import Unjam
    from unjam.pipelines.api import pipeline
    from unjam.pipelines.context import Context
    from unjam.pipelines.params import Params

__version__ = "0.1.0"
__all__ = ["Context", "Params", "Unjam", "__version__", "pipeline"]

_HOMES = {
    "Unjam": "unjam.client.api",
    "pipeline": "unjam.pipelines.api",
    "Context": "unjam.pipelines.context",
    "Params": "unjam.pipelines.params",
}


def __getattr__(name: str) -> Any:
    # Every command and every worker imports this package: what it exports is loaded when it is asked for.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
