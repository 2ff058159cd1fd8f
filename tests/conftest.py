"""House rules of the test run, and the fixtures that every room uses."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.helpers import DEMO
from tests.postgres import Server
from unjam.supervise import nsprobe

pytest_plugins = ["tests.plugins.fault_cells", "tests.plugins.orphans", "tests.plugins.skips"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs another user is skipped; tests/supervise/test_ordinary_user.py becomes one where root runs
    the tests."""
    root = os.geteuid() == 0
    obstacle = None if root else nsprobe.obstacle(insist=True)
    for item in items:
        if not root and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))
        if root and item.get_closest_marker("ordinary"):
            item.add_marker(pytest.mark.skip(reason="needs an ordinary user"))
        if obstacle and item.get_closest_marker("pidns"):
            item.add_marker(pytest.mark.skip(reason=f"no PID namespace here: {obstacle.why}"))


@contextmanager
def _running() -> Iterator[Server]:
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server that lives as long as the test run. It may be frozen for a moment, never ended:
    started again it is another process, which must not outlive its test."""
    with _running() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A PostgreSQL server that the test may stop, start and kill."""
    with _running() as server:
        yield server


@pytest.fixture(scope="session")
def ffmpeg() -> Path:
    """The pinned ffmpeg of the wheel."""
    return Path(imageio_ffmpeg.get_ffmpeg_exe())


@pytest.fixture(scope="session")
def system_ffmpeg() -> Path:
    """The ffmpeg on PATH, of another version; `./run test` installs it."""
    found = shutil.which("ffmpeg")
    assert found, "no ffmpeg on PATH: start the tests with ./run test"
    return Path(found)


@pytest.fixture(scope="session")
def demo_mp4() -> Path:
    """60 s of a band playing: h264 and aac, 1441 frames, 19 keyframes."""
    return DEMO
