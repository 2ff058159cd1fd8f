"""What a pipeline is: a named, versioned function with typed parameters, and what the engine must know before
it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from unjam.errors import UsageError
from unjam.jobs.model import InputFile, JobLimits, Needs

if TYPE_CHECKING:
    from unjam.pipelines.context import Context
    from unjam.pipelines.params import Params

PipelineFunction = Callable[["Context", Any], None]
_VIDEO = (
    "3g2 3gp asf avi divx dv f4v flv gxf ivf m1v m2p m2ts m2v m4v mj2 mkv mov mp4 mpe mpeg mpg mts mxf nsv"
    " nut ogm ogv qt rm rmvb swf ts vob webm wmv wtv y4m"
)
_AUDIO = (
    "aac ac3 aif aiff amr ape au caf dts eac3 f4a flac m4a m4b mka mp2 mp3 oga ogg opus tta w64 wav wma wv"
)
MEDIA_SUFFIXES = frozenset(f".{name}" for name in _VIDEO.split())
AUDIO_SUFFIXES = frozenset(f".{name}" for name in _AUDIO.split())


@dataclass(frozen=True, slots=True)
class PipelineDef:
    """A pipeline and everything that is asked of it before an attempt starts."""

    name: str
    version: int
    function: PipelineFunction
    params: type[Params]
    summary: str = ""
    takes_input: bool = True
    accepts: frozenset[str] = MEDIA_SUFFIXES
    """Lower-case suffixes that the expansion of a folder takes."""
    preload: tuple[str, ...] = ()
    """Modules the zygote imports (imports only) so that an attempt starts in milliseconds."""
    isolation: Literal["fork", "spawn"] = "fork"
    limits: JobLimits = field(default_factory=JobLimits)
    suffix_of: Callable[[Any, InputFile], str | None] | None = None
    needs_of: Callable[[Any, int], Needs] | None = None
    accepts_of: Callable[[Any], frozenset[str]] | None = None

    def validate(self, values: Mapping[str, Any]) -> Params:
        """Typed parameters from strings or JSON. Raises UsageError naming parameter, value and way out."""
        return self.params.parse(values, pipeline=self.name)

    def suffixes(self, params: Params) -> frozenset[str]:
        """Suffixes that the expansion of a folder takes with these parameters."""
        return self.accepts_of(params) if self.accepts_of else self.accepts

    def output_suffix(self, params: Params, source: InputFile) -> str | None:
        """Suffix of the main output (".mp4"), or None when the pipeline publishes no file named by the
        engine."""
        return self.suffix_of(params, source) if self.suffix_of else None

    def needs(self, params: Params, cpus: int) -> Needs:
        """What one job takes of a machine with `cpus` slots."""
        return self.needs_of(params, cpus) if self.needs_of else Needs()


def pipeline(
    name: str,
    *,
    version: int,
    params: type[Params] | None = None,
    summary: str = "",
    takes_input: bool = True,
    accepts: frozenset[str] = MEDIA_SUFFIXES,
    preload: tuple[str, ...] = (),
    isolation: Literal["fork", "spawn"] = "fork",
    limits: JobLimits | None = None,
    output_suffix: Callable[[Any, InputFile], str | None] | None = None,
    needs: Callable[[Any, int], Needs] | None = None,
    accepts_of: Callable[[Any], frozenset[str]] | None = None,
) -> Callable[[PipelineFunction], PipelineDef]:
    """Declare a pipeline. The decorated function takes `(ctx: Context, params: P)`; P is read from its
    annotation when `params` is not given.

    >>> @pipeline("loudness", version=1)
    ... def loudness(ctx: Context, params: LoudnessParams) -> None: ...
    """
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"pipeline name {name!r}: use letters, digits, '-' and '_'")

    def declare(function: PipelineFunction) -> PipelineDef:
        return PipelineDef(
            name=name,
            version=version,
            function=function,
            params=params or _annotated_params(function),
            summary=summary or (function.__doc__ or "").strip().split("\n")[0],
            takes_input=takes_input,
            accepts=accepts,
            preload=(function.__module__, *preload),
            isolation=isolation,
            limits=limits or JobLimits(),
            suffix_of=output_suffix,
            needs_of=needs,
            accepts_of=accepts_of,
        )

    return declare


def _annotated_params(function: PipelineFunction) -> type[Params]:
    import typing

    from unjam.pipelines.context import Context
    from unjam.pipelines.params import Params

    hints = typing.get_type_hints(function, localns={"Context": Context, "Params": Params})
    found = [t for t in hints.values() if isinstance(t, type) and issubclass(t, Params)]
    if len(found) != 1:
        raise UsageError(
            f"pipeline function {function.__qualname__}: annotate one argument with a Params model"
        )
    return found[0]
