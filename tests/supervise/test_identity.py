"""A stored identity finds exactly its process, or nothing (INV-STRANGER)."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.helpers import wait_until
from tests.supervise.rig import state_of
from unjam.supervise.identity import Identity, boot_id, identity_of, is_alive, open_if_same


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["/bin/sleep", "60"])
    yield child
    child.kill()
    child.wait()


def known(pid: int) -> Identity:
    found = identity_of(pid)
    assert found is not None
    return found


def test_it_survives_the_database(sleeper: subprocess.Popen[bytes]) -> None:
    identity = known(sleeper.pid)
    assert Identity.from_json(identity.to_json()) == identity
    assert Identity.from_json('["b",1,2,null,7]') == Identity("b", 1, 2, None, 7)
    assert identity.boot_id == boot_id()


@pytest.mark.parametrize("text", ["", "null", "[1]", '{"pid":1}', '["b","x",2,3]'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a process identity"):
        Identity.from_json(text)


def test_a_process_of_another_container_is_never_proven_dead(sleeper: subprocess.Popen[bytes]) -> None:
    """INV-ONCE, INV-STRANGER: the same number in another PID namespace says nothing about it."""
    elsewhere = dataclasses.replace(known(sleeper.pid), namespace=1)
    sleeper.kill()
    sleeper.wait()
    assert is_alive(elsewhere)
    with pytest.raises(OSError, match="another PID namespace"):
        open_if_same(elsewhere)


def test_a_process_of_another_boot_is_never_proven_dead(sleeper: subprocess.Popen[bytes]) -> None:
    """INV-ONCE, INV-STRANGER: that boot may be the running one of another machine."""
    elsewhere = dataclasses.replace(known(sleeper.pid), boot_id="another boot")
    sleeper.kill()
    sleeper.wait()
    assert is_alive(elsewhere)
    with pytest.raises(OSError, match="another boot"):
        open_if_same(elsewhere)


WITHOUT_DESCRIPTORS = """
import os, resource, sys
from unjam.supervise.identity import Identity, is_alive
identity = Identity.from_json(sys.argv[1])
assert is_alive(identity)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
while True:
    try:
        taken.append(os.dup(0))
    except OSError:
        break
for _ in range(4):  # with none left, and with one, two, three
    print(is_alive(identity))
    os.close(taken.pop())
"""


def test_whoever_cannot_look_has_no_proof_of_a_death(sleeper: subprocess.Popen[bytes]) -> None:
    """INV-ONCE: a worker that ran out of descriptors must not take the jobs of a living one."""
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS, known(sleeper.pid).to_json()],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert (said.stdout.split(), said.stderr) == (["True"] * 4, "")


def test_the_pidfd_is_of_that_process(sleeper: subprocess.Popen[bytes]) -> None:
    pidfd = open_if_same(known(sleeper.pid))
    assert pidfd is not None
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    os.close(pidfd)
    assert sleeper.wait(5) == -signal.SIGTERM


def test_a_zombie_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    identity = known(sleeper.pid)
    assert is_alive(identity)
    sleeper.send_signal(signal.SIGKILL)
    wait_until(lambda: state_of(sleeper.pid) == "Z", what="the zombie")
    assert not is_alive(identity)
    assert identity_of(sleeper.pid) is None


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"inode": 1}])
def test_a_difference_in_any_field_is_another_process(
    sleeper: subprocess.Popen[bytes], change: dict[str, str | int]
) -> None:
    identity = known(sleeper.pid)
    if "inode" in change and identity.inode is None:
        change = {"start_ticks": 2}  # before Linux 6.9 the inode says nothing
    assert not is_alive(dataclasses.replace(identity, **change))  # type: ignore[arg-type]
    assert sleeper.poll() is None
