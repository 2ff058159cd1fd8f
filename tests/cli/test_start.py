"""P15: what `unjam --help` and `unjam ls` load. A new import there costs every user of every command."""

import subprocess
import sys

import pytest

from tests.e2e.shell import Shell

HEAVY = (
    "pydantic rich av numpy psutil imageio_ffmpeg platformdirs fastapi sqlalchemy psycopg asyncio subprocess"
)


@pytest.mark.parametrize(
    ("args", "more"),
    [(["--help"], ["sqlite3", "unjam.settings", "unjam.store"]), (["--version"], ["sqlite3"]), (["ls"], [])],
)
def test_what_is_not_imported(terminal: Shell, args: list[str], more: list[str]) -> None:
    code = (
        "import sys; from unjam.cli.main import run; code = run(sys.argv[1:]);"
        "print('LOADED', *sorted(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=terminal.env,
        cwd=terminal.cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "unjam.cli.main" in loaded
    assert loaded & {*HEAVY.split(), *more} == set()


def test_help_lists_every_command_and_each_has_help_with_an_example(terminal: Shell) -> None:
    from unjam.cli.main import COMMANDS

    listed = terminal.quick("--help").out
    for name in COMMANDS:
        assert f"\n  {name} " in listed
        text = terminal.quick(name, "--help").out
        assert text.startswith("Usage: "), name
        if name not in ("config", "db"):
            assert "Example: " in text, name
    assert "--preset" in terminal.quick("convert", "--help").out
