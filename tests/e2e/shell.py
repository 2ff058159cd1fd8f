"""The command line as a stranger uses it: a home of its own, real processes (or fast inside the test's),
nothing left after the test."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import imageio_ffmpeg
from click.testing import CliRunner

from tests.helpers import wait_until
from unjam.cli import main
from unjam.settings import Settings
from unjam.store import open_store
from unjam.store.port import Store

UNJAM = (sys.executable, "-m", "unjam.cli.main")

_COUNTING = """#!/bin/sh
# Notes what is written to, then becomes the real one: no process more than without it.
for last; do :; done
case "$last" in -version) ;; *) printf '%s\\n' "$last" >> '{ledger}' ;; esac
exec '{real}' "$@"
"""


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def both(self) -> str:
        return self.out + self.err


class Ledger:
    """An ffmpeg that notes each start. It is one build from the first start to the last."""

    def __init__(self, root: Path, real: str | None = None) -> None:
        self.path = root / "ffmpeg"
        self._file = root / "ffmpeg-starts"
        self._file.touch(mode=0o666)
        self.path.write_text(_COUNTING.format(ledger=self._file, real=real or pinned()))
        self.path.chmod(0o755)

    def starts(self) -> list[str]:
        """What each start writes to, in the order of the starts; asking for the version is none."""
        return self._file.read_text().splitlines()

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The starts inside the block, filled in at its end."""
        before = len(self.starts())
        new: list[str] = []
        yield new
        new += self.starts()[before:]


class Shell:
    """A folder to work in, a home, an ffmpeg that counts, and the command. Use it with `with`.

    `prefix`: what stands before the command, say `setpriv` to run it as somebody else.
    """

    def __init__(self, root: Path, *, prefix: tuple[str, ...] = (), **settings: str) -> None:
        self.root = root
        self.cwd = root / "work"
        self.home = root / "home"
        self.cwd.mkdir(parents=True)
        self.ledger = Ledger(root)
        self.prefix = prefix
        self.settings = Settings(home=self.home)
        names = ("PATH", "LANG", "LC_ALL", "PYTHONPATH")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        self.env = {
            **kept,
            "HOME": str(root),
            "UNJAM_HOME": str(self.home),
            "UNJAM_FFMPEG": str(self.ledger.path),
            "UNJAM_GRACE": "2",
            "NO_COLOR": "1",
            **{f"UNJAM_{name.upper()}": value for name, value in settings.items()},
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_all()

    # -- commands -------------------------------------------------------------------------------------------
    def run(
        self, *args: str | bytes | Path, timeout: float = 50, input: bytes | None = None, **env: str
    ) -> Said:
        """`unjam ARGS` to its end. Past `timeout` everything it started is killed and the test fails."""
        with self.start(*args, stdin=subprocess.PIPE, **env) as process:
            try:
                out, err = process.communicate(input, timeout=timeout)
            except subprocess.TimeoutExpired as error:
                self.end_all()
                out, err = process.communicate()
                raise AssertionError(
                    f"not over after {timeout:g} s: {args}\n{out.decode(errors='replace')}"
                    f"\n{err.decode(errors='replace')}"
                ) from error
        said = Said(
            process.returncode, out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "replace")
        )
        assert "Traceback" not in said.both, said.both
        return said

    def start(
        self,
        *args: str | bytes | Path,
        stdin: int = subprocess.DEVNULL,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        **env: str,
    ) -> "subprocess.Popen[bytes]":
        """`unjam ARGS`, left running."""
        return subprocess.Popen(
            [*self.prefix, *UNJAM, *args],
            cwd=self.cwd, env={**self.env, **env}, stdin=stdin, stdout=stdout, stderr=stderr,
        )  # fmt: skip

    def quick(self, *args: str) -> Said:
        """In this process: a tenth of the time, for everything that neither forks nor waits."""
        before = Path.cwd()
        os.chdir(self.cwd)
        try:
            with CliRunner().isolation(env=self.env) as (out, err, _both):
                code = main.run(args)
                sys.stdout.flush()
                return Said(code, out.getvalue().decode("utf-8", "surrogateescape"), err.getvalue().decode())
        finally:
            os.chdir(before)

    def file(self, name: str, content: bytes = b"media") -> Path:
        """A file in the working folder."""
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def show(self, ident: str = "@last") -> dict[str, Any]:
        """The job as JSON, its units included."""
        said = self.run("show", ident, "--units", "--json")
        assert said.code == 0, said.err
        body = said.json
        assert isinstance(body, dict)
        return body

    def jobs(self) -> list[dict[str, Any]]:
        """Every job, newest first."""
        return self.run("ls", "-n", "0", "--json").lines

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store itself, for what no command shows."""
        store = open_store(self.settings.store)
        try:
            yield store
        finally:
            store.close()

    # -- what is left ---------------------------------------------------------------------------------------
    def processes(self) -> dict[int, str]:
        """Living processes that got this home in their environment: pid and command line."""
        mark = os.fsencode(f"UNJAM_HOME={self.home}")
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                if mark not in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    continue
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue  # gone meanwhile, or somebody else's
            if command:  # a zombie has none
                found[int(name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def pids(self, words: str) -> list[int]:
        """Living processes of this home whose command line holds `words`."""
        return [pid for pid, command in self.processes().items() if words in command]

    def leftovers(self) -> list[Path]:
        """After `unjam gc`: staged files below the working folder, and work folders."""
        assert self.run("gc").code == 0
        staged = list(self.cwd.rglob(".unjam-*"))
        work = self.home / "work"
        return [*staged, *(work.iterdir() if work.is_dir() else ())]

    def assert_clean(self) -> None:
        """Nothing runs and nothing lies about (INV-ORPHAN, INV-TORN)."""
        wait_until(lambda: not self.processes(), 5, f"the end of {self.processes()}")
        assert self.leftovers() == []

    def end_all(self) -> None:
        """Kill every process of this home, until there is none."""
        wait_until(self._kill_once, 10, f"the end of {self.processes()}")

    def _kill_once(self) -> bool:
        found = self.processes()
        for pid in found:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if pid in self.processes():  # asked again through the pidfd's eyes: pids are used again
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended by itself
            finally:
                os.close(pidfd)
        return not found


# -- media --------------------------------------------------------------------------------------------------
def pinned() -> str:
    """The ffmpeg of the wheel."""
    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path


def ffmpeg(*args: str | Path) -> None:
    """Run the pinned ffmpeg, quietly; a failure fails the test."""
    subprocess.run(
        [pinned(), "-nostdin", "-hide_banner", "-v", "error", "-y", *args],
        check=True, timeout=50, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def make_clip(
    path: Path, *codecs: str, seconds: float = 1.0, size: str = "64x48", sound: bool = True
) -> Path:
    """A small film with a picture that moves and a tone; `codecs` are output options of ffmpeg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d={seconds}"]
    if sound:
        inputs += ["-f", "lavfi", "-i", f"sine=f=440:r=48000:d={seconds}"]
    ffmpeg(*inputs, *codecs, f"file:{path}")
    return path


def make_sound(path: Path, *codecs: str, seconds: float = 1.0) -> Path:
    """A tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg("-f", "lavfi", "-i", f"sine=f=440:r=48000:d={seconds}", *codecs, f"file:{path}")
    return path


def decodes(path: Path) -> str:
    """Decode all of it, strictly; returns what was wrong, "" for a file that plays to its end."""
    done = subprocess.run(
        [
            pinned(), "-nostdin", "-hide_banner", "-v", "error", "-xerror", "-err_detect", "explode",
            "-i", f"file:{path}", "-map", "0", "-f", "null", "-",
        ],
        capture_output=True, timeout=50, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = done.stderr.decode(errors="replace").strip()
    return "" if done.returncode == 0 and not said else f"exit code {done.returncode}: {said}"
