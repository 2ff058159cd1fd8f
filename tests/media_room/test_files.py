"""Paths that must be refused before anything can block on them."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from unjam.errors import InputBad, InputMissing, NotPermitted
from unjam.media.files import check_readable


def fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "is a named pipe, not a file"),
        (device, "is a device, not a file"),
        (Path.mkdir, "is a folder, not a file"),
        (Path.touch, "the file is empty"),
        (a_socket, "No such device or address"),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "x.mp4"
    make(path)
    with pytest.raises(InputBad, match=said) as caught:
        check_readable(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_missing_not_bad(tmp_path: Path) -> None:
    with pytest.raises(InputMissing):
        check_readable(tmp_path / "x.mp4")


def test_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    as_root = os.geteuid() == 0
    if as_root:  # root reads everything: be nobody for the length of the call
        os.seteuid(65534)
    try:
        with pytest.raises(NotPermitted, match="no permission to read it"):
            check_readable(path)
    finally:
        if as_root:
            os.seteuid(0)
