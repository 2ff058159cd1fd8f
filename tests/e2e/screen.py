"""A person at a terminal: a real tmux with a shell in it, typed into and read from."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.e2e.shell import UNJAM
from tests.helpers import wait_until

COLUMNS, ROWS = 110, 40
PROMPT = "you> "


class Screen:
    """One terminal. `unjam` in it is the command under test. Use it with `with`."""

    def __init__(self, env: Mapping[str, str], cwd: Path) -> None:
        # A socket's name must be short; the folder of a test is not.
        self._folder = Path(tempfile.mkdtemp(prefix="uj-tmux-"))
        self._tmux = ["tmux", "-S", str(self._folder / "s"), "-f", "/dev/null"]
        start = self._folder / "start"
        words = " ".join(shlex.quote(word) for word in UNJAM)
        start.write_text(f'PS1={shlex.quote(PROMPT)}\nunset PROMPT_COMMAND\nunjam() {{ {words} "$@"; }}\n')
        bash = ["bash", "--noprofile", "--rcfile", str(start), "-i"]
        made = ["new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-s", "you", "-c", str(cwd), *bash]
        terminal = {k: v for k, v in env.items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"}
        subprocess.run([*self._tmux, *made], env=terminal, check=True, timeout=20, cwd=cwd)
        self.wait_for(PROMPT.strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, timeout=20, capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def type(self, text: str) -> None:
        """A line and Enter. What it ended with is shown as `[exit N]`."""
        self._do("send-keys", "-t", "you", "-l", f'{text}; echo "[exit $?]"')
        self.keys("Enter")

    def keys(self, *names: str) -> None:
        """Keys by tmux's names: C-c, C-z, Enter."""
        self._do("send-keys", "-t", "you", *names)

    def hang_up(self) -> None:
        """The window is closed, as by a click or `tmux kill-session`."""
        self._do("kill-session", "-t", "you")

    def text(self) -> str:
        """What stands on the screen, and above it."""
        return self._do("capture-pane", "-p", "-J", "-t", "you", "-S", "-")

    def after(self, command: str) -> str:
        """What stands below the newest line that holds `command`."""
        return self.text().rpartition(command)[2]

    def wait_for(self, words: str, timeout: float = 30, *, below: str = "") -> str:
        """Until the screen shows what matches `words` (below the newest `below`); returns the screen."""
        pattern = re.compile(words)

        def seen() -> str:
            text = self.after(below) if below else self.text()
            return text if pattern.search(text) else ""

        try:
            return wait_until(seen, timeout, f"{words!r}", interval=0.05)
        except AssertionError:
            raise AssertionError(f"{words!r} did not appear in {timeout:g} s:\n{self.text()}") from None

    def exit_code(self, timeout: float = 30) -> int:
        """Of the newest command, when it has ended."""
        shown = self.wait_for(r"\[exit \d+\]\s+you>\s*\Z", timeout)
        return int(re.findall(r"\[exit (\d+)\]", shown)[-1])

    def _do(self, *words: str) -> str:
        done = subprocess.run(
            [*self._tmux, *words], check=True, timeout=20, capture_output=True, text=True, errors="replace"
        )
        return done.stdout


def python_words(code: str) -> str:
    """A shell's words that run this Python."""
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


def parent_of(pid: int) -> int:
    """The pid of the parent."""
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return int(stat.rpartition(")")[2].split()[1])


def exists(pid: int) -> bool:
    """Is there any process of this number, a zombie included?"""
    return os.path.exists(f"/proc/{pid}")
