"""The rules of the test run hold: each is broken here by a small test run of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import container_files, process_alive, wait_until
from tests.plugins.skips import read_allowed
from tests.reaper import in_streams

ROOT = Path(__file__).parent.parent
PLUGINS = ("-p", "tests.plugins.orphans", "-p", "tests.plugins.skips")


def run_tests(folder: Path, source: str, *, streams: bool = False) -> subprocess.CompletedProcess[str]:
    (folder / "test_sample.py").write_text(source)
    if streams:
        (folder / "test_beside.py").write_text("def test_beside(): pass\n")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.reaper",
            *PLUGINS,
            *(in_streams(2) if streams else ()),
            "-p",
            "no:cacheprovider",
            "-c",
            "/dev/null",
            str(folder),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


# A double fork: the sleeper is nobody's child but the reaper's.
ORPHAN = """
import pathlib, subprocess

def test_leaves_an_orphan(tmp_path):
    out = subprocess.check_output(["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo $!"], text=True)
    pathlib.Path({pid_file!r}).write_text(out)

def test_innocent():
    pass
"""


@pytest.mark.parametrize("streams", [False, True], ids=["alone", "in streams"])
def test_an_orphan_is_named_and_killed(tmp_path: Path, streams: bool) -> None:
    pid_file = tmp_path / "pid"
    result = run_tests(tmp_path, ORPHAN.format(pid_file=str(pid_file)), streams=streams)
    assert result.returncode == 1, result.stdout
    assert "ERROR at teardown of test_leaves_an_orphan" in result.stdout
    assert "sleep 300" in result.stdout
    assert f"{3 if streams else 2} passed, 1 error" in result.stdout
    assert not process_alive(int(pid_file.read_text()))


SERVER_OF_A_FIXTURE = """
import subprocess, pytest

@pytest.fixture(scope="module")
def server():
    process = subprocess.Popen(["sleep", "300"])
    yield process
    {teardown}

def test_uses_it(server):
    assert server.poll() is None

def test_uses_it_still(server):
    assert server.poll() is None
"""


@pytest.mark.parametrize(
    ("teardown", "closing"),
    [("process.kill(); process.wait()", "2 passed in"), ("pass", "2 passed, 1 error in")],
)
def test_a_fixtures_process_may_outlive_a_test_but_not_the_run(
    tmp_path: Path, teardown: str, closing: str
) -> None:
    result = run_tests(tmp_path, SERVER_OF_A_FIXTURE.format(teardown=teardown))
    assert closing in result.stdout


@pytest.mark.parametrize("streams", [False, True], ids=["alone", "in streams"])
def test_killed_pytest_leaves_nothing(tmp_path: Path, streams: bool) -> None:
    source = """
import os, pathlib, signal, subprocess
def test_dies():
    sleeper = subprocess.Popen(["sleep", "300"])
    pathlib.Path({pid_file!r}).write_text(str(sleeper.pid))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    pid_file = tmp_path / "pid"
    result = run_tests(tmp_path, source.format(pid_file=str(pid_file)), streams=streams)
    assert result.returncode == (1 if streams else 137)
    assert not streams or ("1 failed, 1 passed" in result.stdout and "crashed while" in result.stdout)
    assert "sleep 300" in result.stderr
    sleeper = int(pid_file.read_text())
    wait_until(lambda: not process_alive(sleeper), timeout=2, what="the sleeper's end")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("pytest.skip('too lazy')", "too lazy"),
        ("pytest.importorskip('no_such_module')", "could not import 'no_such_module'"),
        ("pytest.xfail('known')", "xfail: known"),
    ],
)
def test_a_skip_that_nobody_allowed_fails_the_run(tmp_path: Path, body: str, named: str) -> None:
    result = run_tests(tmp_path, f"import pytest\ndef test_it():\n    {body}\ndef test_other():\n    pass\n")
    assert result.returncode == 1, result.stdout
    refused = result.stdout.partition("skips that allowed_skips.txt does not allow")[2]
    assert named in refused


def test_a_skipped_module_fails_the_run(tmp_path: Path) -> None:
    source = "import pytest\npytest.skip('whole file', allow_module_level=True)\n"
    result = run_tests(tmp_path, source)
    assert result.returncode != 0
    assert "whole file" in result.stdout.partition("skips that allowed_skips.txt does not allow")[2]


def test_allowed_skips_are_patterns_of_test_and_reason() -> None:
    (entry,) = read_allowed("# comment\n\ntests/* | needs root\n")
    assert entry.covers("tests/a/test_b.py::test_c", "needs root")
    assert not entry.covers("tests/a/test_b.py::test_c", "too lazy")
    assert not entry.covers("other/test_b.py::test_c", "needs root")
    with pytest.raises(ValueError, match=r"no '[|]'"):
        read_allowed("tests/*")


def test_every_sample_has_its_licence_and_a_stem_of_its_own() -> None:
    clips = container_files()
    assert len({clip.suffix for clip in clips}) >= 10
    assert len({clip.stem for clip in clips}) == len(clips)
    licences = (ROOT / "tests/media/LICENSES.md").read_text()
    media = [path for path in (ROOT / "tests/media").rglob("*") if path.is_file() and path.suffix != ".md"]
    for path in media:
        assert f"`{path.relative_to(ROOT / 'tests/media')}`" in licences


@pytest.mark.parametrize("clip", container_files(), ids=lambda clip: clip.name)
def test_sample_decodes_strictly(clip: Path, ffmpeg: Path) -> None:
    strict = ["-v", "error", "-xerror", "-err_detect", "explode"]
    result = subprocess.run(
        [ffmpeg, "-nostdin", *strict, "-i", clip, "-map", "0", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
