"""pipelines, config, db, completion: what there is and how it is set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from unjam.cli.app import App, pass_app
from unjam.cli.output import data, data_name, document, json_line, say, table
from unjam.errors import UsageError
from unjam.printable import one_line


@click.command(epilog="Example: unjam pipelines convert")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="With NAME: JSON Schema of its parameters.")
@pass_app
def pipelines(app: App, /, name: str | None, as_json: bool) -> int:
    """List pipelines, or show one with its parameters."""
    from unjam.pipelines import registry

    modules = app.settings.pipelines
    if name is None:
        found = [registry.get(known, modules) for known in registry.names(modules)]
        if as_json:
            for one in found:
                json_line({"name": one.name, "version": one.version, "summary": one.summary})
        else:
            table(
                ["PIPELINE", "VERSION", "WHAT IT DOES"], [[p.name, str(p.version), p.summary] for p in found]
            )
        return 0
    one = registry.get(name, modules)
    schema = one.params.model_json_schema()
    if as_json:
        document({"name": one.name, "version": one.version, "summary": one.summary, "params": schema})
        return 0
    data(f"{one.name} {one.version}: {one.summary}")
    rows = [
        [key, _default(field), f"{field.get('description', '')} [{_kind(field)}]".strip()]
        for key, field in schema.get("properties", {}).items()
    ]
    if rows:
        table(["PARAMETER", "DEFAULT", "MEANING"], rows)
    if one.takes_input:
        data("folders: " + " ".join(sorted(one.accepts)))
    return 0


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    return "" if value is None else str(value)


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(str(value) for value in field["enum"])
    if "anyOf" in field:
        return " | ".join(_kind(part) for part in field["anyOf"] if part.get("type") != "null")
    kind = str(field.get("type", "text"))
    low, high = field.get("minimum", field.get("exclusiveMinimum")), field.get("maximum")
    return kind if low is None and high is None else f"{kind} {low if low is not None else ''}..{high or ''}"


@click.group()
def config() -> None:
    """Settings in force and where they come from."""


@config.command("show")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_app
def show_config(app: App, /, as_json: bool) -> int:
    """Every setting: value, origin, meaning. Order: flag, UNJAM_*, ./unjam.toml, user config, default."""
    from unjam.settings import RULES, show_range
    from unjam.store.url import shown

    loaded = app.loaded
    values = {name: getattr(loaded.settings, name) for name in RULES}
    values["store"] = shown(values["store"])  # a screen may be seen by others
    if as_json:
        document(
            {
                name: {
                    "value": value if isinstance(value, int | float | tuple) else str(value),
                    "origin": loaded.origins[name],
                }
                for name, value in values.items()
            }
        )  # fmt: skip
        return 0
    table(
        ["SETTING", "VALUE", "ORIGIN", "MEANING"],
        [
            [
                name,
                ",".join(value) if isinstance(value, tuple) else str(value),
                loaded.origins[name],
                RULES[name].help + (f" [{show_range(RULES[name])}]" if show_range(RULES[name]) else ""),
            ]
            for name, value in values.items()
        ],
    )
    return 0


@config.command("path")
def path_config() -> int:
    """The files that are read, in the order in which the later wins."""
    import os

    from unjam.settings import default_user_config

    for path in (default_user_config(os.environ), Path.cwd() / "unjam.toml"):
        data_name(f"{path}{'' if path.is_file() else '  (not there)'}")
    return 0


@click.group()
def db() -> None:
    """Upgrade, back up or check the store."""


@db.command()
@pass_app
def upgrade(app: App, /) -> int:
    """Bring the store to the schema of this version; every command does so when it opens the store."""
    from unjam.store.url import shown

    with app.store() as store:
        data(f"{shown(store.url)}: of this version's schema")
    return 0


@db.command()
@click.argument("path", required=False)
@pass_app
def backup(app: App, /, path: str | None) -> int:
    """Copy the store to PATH while it is in use; default: a dated file in the home. A store in PostgreSQL is
    backed up with pg_dump."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = Path(path).absolute() if path else app.settings.home / f"backup-{stamp}.db"
    if target.exists():
        raise UsageError(f"{target}: exists; choose another name")
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent}: no such folder")
    with app.store() as store:
        store.backup(str(target))
    data_name(str(target))
    return 0


@db.command()
@pass_app
def check(app: App, /) -> int:
    """Look for damage; exit code 1 when there is any."""
    from unjam.store.url import shown

    with app.store() as store:
        findings = store.check()
        for finding in findings:
            data(one_line(finding))
        if findings:
            name = shown(store.url)
            say(f"unjam: {name}: {len(findings)} finding(s); restore a backup, see `unjam db backup`")
            return 1
        say(f"{shown(store.url)}: no damage found")
    return 0


@click.command(epilog='Example: eval "$(unjam completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from unjam.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three"
    data(kind(cli, {}, "unjam", "_UNJAM_COMPLETE").source())
    return 0
