"""The short form of a pipeline: `unjam convert` is `unjam run convert`, with its parameters as options."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import click

from unjam.cli.app import App
from unjam.cli.options import FILES, GENERAL, with_options
from unjam.cli.run import submit_and_follow


class PipelineCommand(click.Command):
    """The short form of one pipeline: its parameters are options. Read from the pipeline when called."""

    def __init__(self, pipeline: str, **more: Any) -> None:
        self._pipeline = pipeline
        super().__init__(pipeline, **more)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        taken = {param.name for param in own}
        extra = [option for option in self._own_options() if option.name not in taken]
        # After the inputs and -o, which everybody needs, and before what all pipelines share.
        return [*own[:2], *extra, *own[2:]]

    def _own_options(self) -> list[click.Parameter]:
        from pydantic_core import PydanticUndefined

        from unjam.pipelines import registry

        fields = registry.get(self._pipeline).params.model_fields
        return [
            click.Option(
                [f"--{name.replace('_', '-')}", f"param_{name}"],
                metavar=_metavar(field.annotation),
                help=(field.description or name)
                + ("" if field.default in (None, PydanticUndefined) else f" [default: {field.default}]"),
            )
            for name, field in fields.items()
        ]


def _metavar(kind: Any) -> str:
    """What may be written, as far as the type says it: `mp4|remux`, INTEGER, NUMBER."""
    for part in (kind, *get_args(kind)):
        if get_origin(part) is Literal:
            return "|".join(str(value) for value in get_args(part))
        if part in (int, float):
            return "INTEGER" if part is int else "NUMBER"
    return "VALUE"


def _short_form(pipeline: str, summary: str, example: str) -> PipelineCommand:
    @click.pass_context
    def callback(ctx: click.Context, /, inputs: tuple[str, ...], **options: Any) -> int:
        own = {
            name.removeprefix("param_"): options.pop(name)
            for name in list(options)
            if name.startswith("param_")
        }
        given = {name: value for name, value in own.items() if value is not None}
        return submit_and_follow(ctx.find_object(App) or App({}), pipeline, inputs, given, options)

    decorated = with_options(FILES)(with_options(GENERAL)(callback))
    params = list(reversed(getattr(decorated, "__click_params__", [])))
    argument = click.Argument(["inputs"], nargs=-1)
    return PipelineCommand(
        pipeline, callback=decorated, params=[argument, *params], help=summary, epilog=example
    )


convert = _short_form(
    "convert",
    "Convert each INPUT (files, folders, patterns, or - for a list on stdin).",
    "Example: unjam convert holiday.mov clips/ -o out --preset mp4",
)
