"""Messages with descriptors over a SEQPACKET pair."""

import os
import socket

import pytest

from unjam.supervise import protocol


def test_a_message_and_its_descriptors_arrive_together() -> None:
    ours, theirs = protocol.pair()
    read, write = os.pipe()
    with ours, theirs:
        protocol.send(ours, {"op": "x", "n": 1.5}, [write])
        os.close(write)
        message, fds = protocol.receive(theirs)
        assert message == {"op": "x", "n": 1.5}
        os.write(fds[0], b"through")
        assert os.read(read, 10) == b"through"
    for fd in (read, *fds):
        os.close(fd)


@pytest.mark.parametrize("size", [10, 64 * 1024 - 20, 64 * 1024, 5_000_000])
def test_size_does_not_matter(size: int) -> None:
    ours, theirs = protocol.pair()
    with ours, theirs:
        protocol.send(ours, {"text": "x" * size})
        message, fds = protocol.receive(theirs)
    assert message == {"text": "x" * size}
    assert fds == []


def test_a_peer_that_died_with_unread_messages_is_an_end() -> None:
    ours, theirs = protocol.pair()
    with ours:
        protocol.send(ours, {"op": "never read"})
        theirs.close()
        assert protocol.receive(ours) == (None, [])


def test_the_last_words_of_a_peer_that_left_messages_unread_are_heard() -> None:
    ours, theirs = protocol.pair()
    with ours:
        protocol.send(theirs, {"ev": "done"})
        protocol.send(ours, {"op": "renew, crossing it"})
        theirs.close()
        assert protocol.receive(ours) == ({"ev": "done"}, [])
        assert protocol.receive(ours) == (None, [])


def test_a_full_socket_says_so() -> None:
    ours, theirs = protocol.pair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            fill(ours)


def fill(sock: socket.socket) -> None:
    for _ in range(100_000):
        protocol.send(sock, {"op": "beat"})
