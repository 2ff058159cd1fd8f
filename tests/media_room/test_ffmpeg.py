"""Which ffmpeg is found, and what tells two builds apart."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unjam.errors import ToolMissing, UnjamError
from unjam.jobs.reasons import ReasonCode
from unjam.media.ffmpeg import find


def test_pinned_and_system_are_two_builds(ffmpeg: Path, system_ffmpeg: Path) -> None:
    pinned, system = find("pinned"), find("system")
    assert pinned.path == ffmpeg
    assert os.path.samefile(system.path, system_ffmpeg)
    assert pinned.build_id != system.build_id
    assert find(str(ffmpeg)).build_id == pinned.build_id


def test_the_same_binary_installed_again_is_the_same_build(tmp_path: Path, system_ffmpeg: Path) -> None:
    copy = tmp_path / "ffmpeg"
    shutil.copy(system_ffmpeg, copy)
    os.utime(copy, (1, 1))
    assert find(str(copy)).build_id == find("system").build_id
    with open(copy, "ab") as file:
        file.write(b"\0")
    assert find(str(copy)).build_id != find("system").build_id


def test_finding_imports_nothing_heavy() -> None:
    heavy = "('av', 'imageio_ffmpeg', 'numpy')"
    code = f"import sys, unjam.media.ffmpeg as f; f.find(); print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo 'ffmpeg version 4.3.9-0+deb11u1 Copyright'", r"is ffmpeg 4\.3\.9.*5\.1 or later"),
        ("echo hello", "not an ffmpeg that works"),
        ("exit 127", "not an ffmpeg that works"),
    ],
)
def test_what_is_no_working_ffmpeg_is_refused(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(ToolMissing, match=said):
        find(str(script(tmp_path / "ffmpeg", body)))


def test_builds_from_git_have_no_number_and_are_taken(tmp_path: Path) -> None:
    tool = script(tmp_path / "ffmpeg", "echo 'ffmpeg version N-118000-gabcdef Copyright'")
    assert find(str(tool)).version == "N-118000-gabcdef"


def test_a_missing_one_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolMissing, match="UNJAM_FFMPEG"):
        find(str(tmp_path / "nothing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="no ffmpeg on PATH"):
        find("system")


def test_one_that_is_killed_while_asked_is_no_missing_tool(tmp_path: Path) -> None:
    """Else a job whose ffmpeg was killed for memory in its first second would never be tried again."""
    with pytest.raises(UnjamError, match="killed by SIGKILL") as caught:
        find(str(script(tmp_path / "ffmpeg", "kill -9 $$")))
    assert caught.value.code is ReasonCode.CRASHED
