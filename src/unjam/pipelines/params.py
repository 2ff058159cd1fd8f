"""Typed parameters: one pydantic model drives the CLI, the REST schema, the form and the docs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from unjam.errors import UsageError


class Params(BaseModel):
    """Base of every pipeline's parameters. Unknown names are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, pipeline: str) -> Self:
        """Validate `values` (strings from a command line or JSON). Raises UsageError naming parameter and way
        out."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UsageError("; ".join(_sentence(cls, pipeline, e) for e in error.errors())) from None


def _sentence(model: type[BaseModel], pipeline: str, error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = list(model.model_fields)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
        return f"{pipeline} has no parameter {name!r}: {hint}"
    if error["type"] == "missing":
        return f"{pipeline} needs the parameter {name!r}: give -p {name}=VALUE"
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return f"{pipeline}: {message}"
    message = message[:1].lower() + message[1:]
    return f"{pipeline}: parameter {name}={error['input']!r}: {message}"
