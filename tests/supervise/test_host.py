"""A machine has one id, others have others, whatever they are called."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unjam.supervise import host
from unjam.supervise.host import host_id


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    host._found.cache_clear()
    yield
    host._found.cache_clear()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that is no container, with this file as its machine id."""
    path = tmp_path / "machine-id"
    path.write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    monkeypatch.setattr(host, "_MACHINE_ID", path)
    monkeypatch.setattr(host, "_in_container", lambda: False)
    return path


def test_the_id_of_the_machine_is_told_apart_and_kept_to_itself(machine: Path, tmp_path: Path) -> None:
    """What systemd-id128 gives with `--app-specific`: a hash, from which nobody finds the way back."""
    mine = host_id(tmp_path / "home")
    assert (len(mine), int(mine, 16) > 0) == (32, True)
    assert mine not in machine.read_text()
    assert host_id(tmp_path / "another home") == mine
    machine.write_text("3d1219c7c4c5404aaa1f6d2a48adfda5\n")
    host._found.cache_clear()
    assert host_id(tmp_path / "home") != mine
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("text", ["", "uninitialized\n", "0" * 32, "abc", "\udcff", None])
def test_without_a_machine_id_it_is_a_number_in_the_home(
    machine: Path, tmp_path: Path, text: str | None
) -> None:
    if text is None:
        machine.unlink()
    else:
        machine.write_bytes(text.encode(errors="surrogateescape"))
    mine = host_id(tmp_path / "home")
    host._found.cache_clear()
    assert host_id(tmp_path / "home") == mine
    assert host_id(tmp_path / "home of another machine") != mine


def test_in_a_container_the_images_machine_id_says_nothing(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_in_container", lambda: True)
    assert host_id(tmp_path / "a") != host_id(tmp_path / "b")


def test_what_a_person_has_chosen_holds(tmp_path: Path) -> None:
    assert host_id(tmp_path / "home", "encoder-7") == "encoder-7"
    assert not (tmp_path / "home").exists()


def test_an_empty_file_is_an_error_with_a_way_out(machine: Path, tmp_path: Path) -> None:
    machine.unlink()
    (tmp_path / host.FILE).touch()
    with pytest.raises(OSError, match="is empty: remove it"):
        host_id(tmp_path)


def test_many_that_start_at_once_find_one_id(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from unjam.supervise import host; "
        "host._in_container = lambda: True; sys.stdin.readline(); print(host.host_id(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "home")]
    starters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    told = {starter.communicate(timeout=20)[0] for starter in starters}
    assert len(told) == 1
    assert [path.name for path in (tmp_path / "home").iterdir()] == [host.FILE]
