"""The public Python API and what every front end shares: submit, follow, act, view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unjam.client.api import Batch, JobHandle, Unjam

__all__ = ["Batch", "JobHandle", "Unjam"]


def __getattr__(name: str) -> Any:
    # `unjam ls` needs the view only: the API brings the pipelines along, and with them pydantic.
    if name in __all__:
        from unjam.client import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
