"""Finds pipelines by name: those that ship with unjam, modules named in the settings, and entry points."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unjam.errors import NotFound, UsageError
from unjam.pipelines.api import PipelineDef

BUILT_IN = {
    "convert": "unjam.pipelines.convert:convert",
    "exec": "unjam.pipelines.command:command",
}
PRELOADS = {"convert": ("unjam.media.demux", "unjam.pipelines.convert.deliver")}
"""What attempts of a built-in pipeline import besides its own module."""
if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "unjam.pipelines"


def names(modules: Sequence[str] = ()) -> tuple[str, ...]:
    """Every pipeline that can be run here. `modules` are dotted names whose PipelineDef attributes count
    too."""
    found = set(BUILT_IN) | set(_from_modules(modules))
    found |= {point.name for point in _entry_points()}
    return tuple(sorted(found))


def get(name: str, modules: Sequence[str] = ()) -> PipelineDef:
    """The pipeline called `name`. Raises NotFound with the nearest name."""
    if name in BUILT_IN:
        return _load(BUILT_IN[name])
    own = _from_modules(modules)
    if name in own:
        return own[name]
    for point in _entry_points():
        if point.name == name:
            return _load(point.value)
    known = names(modules)
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    raise NotFound(f"no pipeline {name!r}: {hint}")


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker must know to start a pipeline, without importing it."""

    preload: tuple[str, ...]
    isolation: Literal["fork", "spawn"]


def start_of(name: str, modules: Sequence[str] = ()) -> Start:
    """How attempts of `name` are started. Pipelines that ship with unjam are not imported for this: the
    worker of a machine stays small whatever its pipelines load. Raises NotFound."""
    if name in BUILT_IN:
        return Start((BUILT_IN[name].partition(":")[0], *PRELOADS.get(name, ())), "fork")
    definition = get(name, modules)
    return Start(definition.preload, definition.isolation)


def _entry_points() -> Iterable[EntryPoint]:
    # In here: it brings an e-mail parser along, which every fork of a zygote would pay for.
    from importlib.metadata import entry_points

    return entry_points(group=ENTRY_POINT_GROUP)


def _load(target: str) -> PipelineDef:
    module, _, attribute = target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, PipelineDef):
        raise UsageError(f"{target} is not a pipeline: declare it with @pipeline")
    return found


def _from_modules(modules: Sequence[str]) -> dict[str, PipelineDef]:
    found = {}
    for dotted in modules:
        try:
            module = importlib.import_module(dotted)
        except ImportError as error:
            raise UsageError(f"pipelines module {dotted!r} cannot be imported: {error}") from error
        found.update({d.name: d for d in vars(module).values() if isinstance(d, PipelineDef)})
    return found
