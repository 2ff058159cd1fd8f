"""Torture and tests as an unprivileged user: a copy of the program that he can read, and the step down.

The checkout and even the interpreter may lie below a folder that only root may enter, so what runs is a copy:
our sources, the packages beside them and, where it must be, Python itself. What does not change is linked.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tests.torture.rig import ROOT
from unjam.supervise import linux

TORTURE = ("src/unjam", "tests/torture", "tests/__init__.py", "tests/postgres.py")
"""What the torture consists of."""
_STDLIB_LEFT_OUT = ("site-packages", "test", "idlelib", "ensurepip", "tkinter", "turtledemo", "lib2to3")
_LEFT_BEHIND = ("UNJAM_", "PYTHON", "VIRTUAL_ENV", "XDG_")
"""Variables of root's that begin so."""


class ProgramCopy:
    """A folder owned by root and readable by all, with a home folder of the user in it.

    sources: paths below the checkout.
    """

    def __init__(self, uid: int, sources: Sequence[str] = TORTURE) -> None:
        self._uid = uid
        self.folder = Path(tempfile.mkdtemp(prefix="unjam-program-"))
        self.folder.chmod(0o755)
        try:
            self.home = self.folder / "home"
            self.home.mkdir(mode=0o700)
            os.chown(self.home, uid, uid)
            for source in sources:
                _copy(ROOT / source, self.folder / source, link=False)
            packages = Path(sysconfig.get_path("platlib"))
            _copy(packages, self.folder / "packages", link=True)
            self._python = self._readable_python()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        shutil.rmtree(self.folder)

    def become(self, module: str, arguments: Sequence[str], parent: int) -> NoReturn:
        """Replace this process by the module, run by the user. `parent`: pidfd of the process with which it
        dies."""
        os.setgroups([])
        os.setresgid(self._uid, self._uid, self._uid)
        os.setresuid(self._uid, self._uid, self._uid)
        linux.die_with(parent)  # after the step down, which clears it
        os.chdir(self.home)
        os.execve(self._python, [str(self._python), "-m", module, *arguments], self._environment())

    def start(self, *arguments: str, groups: Sequence[int] = ()) -> subprocess.Popen[str]:
        """Python with these arguments, in the folder of the copy; its output in one pipe. `groups`: more that
        the user is in."""
        return subprocess.Popen(
            [str(self._python), *arguments],
            user=self._uid,
            group=self._uid,
            extra_groups=groups,
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(_LEFT_BEHIND)},
            "HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join(str(self.folder / name) for name in ("src", "", "packages")),
            # Where a copied interpreter finds its own library; for another there is no such folder.
            "LD_LIBRARY_PATH": str(self.folder / "python" / "lib"),
        }

    def _readable_python(self) -> Path:
        real = Path(sys.executable).resolve()
        if _may_run(real, self._uid):
            return real
        base, copy = Path(sys.base_prefix), self.folder / "python"
        library = Path(os.__file__).parent
        _copy(library, copy / library.relative_to(base), link=True, leave_out=_STDLIB_LEFT_OUT)
        for shared in (base / "lib").glob("libpython*.so*"):
            _copy(shared, copy / "lib" / shared.name, link=True)
        _copy(real, copy / "bin" / real.name, link=True)
        return copy / "bin" / real.name


def user_namespaces_work(uid: int) -> bool:
    """Whether this user may have what an attempt needs, by the word of another program than ours."""
    words = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"]
    return not subprocess.run(words, user=uid, group=uid, extra_groups=[], check=False).returncode


def _may_run(python: Path, uid: int) -> bool:
    command = [str(python), "-c", "import ctypes, sqlite3"]
    try:
        tried = subprocess.run(
            command,
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            env={},
            stderr=subprocess.PIPE,
            check=False,
        )
    except PermissionError:
        return False
    return tried.returncode == 0


def _copy(source: Path, target: Path, *, link: bool, leave_out: Sequence[str] = ()) -> None:
    """A file or folder with everything in it, readable by all."""

    def one(old: str, new: str) -> None:
        if link and os.stat(old).st_mode & 0o004:
            try:
                os.link(old, new)
                return
            except OSError:
                pass  # another file system: copied
        shutil.copy2(old, new)
        os.chmod(new, os.stat(new).st_mode | 0o444)

    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        one(str(source.resolve()), str(target))
        return
    ignore = shutil.ignore_patterns(*leave_out)
    shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=one)
    for folder, _, _ in os.walk(target):
        os.chmod(folder, 0o755)
