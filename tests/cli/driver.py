"""The command line as a user calls it: as a process with its own home, or fast inside the test's process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from unjam.cli.main import run
from unjam.settings import Settings
from unjam.store import open_store
from unjam.store.port import Store


@dataclass(frozen=True, slots=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal:
    """A folder, a home and the command."""

    def __init__(self, root: Path) -> None:
        self.cwd = root / "work"
        self.cwd.mkdir()
        self.home = root / "home"
        self.settings = Settings(home=self.home)
        kept = {
            name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "PYTHONPATH") if name in os.environ
        }
        self.env = {**kept, "HOME": str(root), "UNJAM_HOME": str(self.home), "NO_COLOR": "1"}

    def run(self, *args: str, input: bytes | None = None, timeout: float = 50) -> Said:
        """As a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "unjam.cli.main", *args],
            cwd=self.cwd, env=self.env, input=input, capture_output=True, timeout=timeout,
        )  # fmt: skip
        return Said(done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode())

    def start(self, *args: str, **more: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "unjam.cli.main", *args],
            cwd=self.cwd, env=self.env, stdin=subprocess.DEVNULL, **more,
        )  # fmt: skip

    def quick(self, *args: str) -> Said:
        """In this process: a tenth of the time, for everything that neither forks nor waits."""
        before = Path.cwd()
        os.chdir(self.cwd)
        try:
            with CliRunner().isolation(env=self.env) as (out, err, _both):
                code = run(args)
                sys.stdout.flush()
                return Said(code, out.getvalue().decode("utf-8", "surrogateescape"), err.getvalue().decode())
        finally:
            os.chdir(before)

    def file(self, name: str, content: bytes = b"media") -> Path:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    @contextmanager
    def store(self) -> Iterator[Store]:
        store = open_store(self.settings.store)
        try:
            yield store
        finally:
            store.close()
