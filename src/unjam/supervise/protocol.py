"""Messages between worker, zygote and guardian: one JSON object per SEQPACKET message, file descriptors
beside it."""

import array
import json
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

_MAX_FDS = 8
_INLINE = (
    64 * 1024
)  # a larger message travels as a file: a SEQPACKET message must fit the send buffer (208 KiB) whole
_WIRE = _INLINE + 1024


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends that keep message boundaries (macOS: datagrams, which have no end)."""
    kind = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
    return socket.socketpair(socket.AF_UNIX, kind)


def anonymous_file(data: bytes) -> int:
    """A file with no name that holds `data`, read position at the start."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("unjam")
    else:
        import tempfile  # here: it costs the zygote ten other modules, and Linux never comes this way

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def read_file(fd: int) -> bytes:
    """All of a file that `anonymous_file` made; closes it."""
    with os.fdopen(fd, "rb") as file:
        return file.read()


def send(sock: socket.socket, message: Message, fds: Sequence[int] = (), flags: int = 0) -> None:
    """`flags` as of send(2). Raises BlockingIOError when a non-blocking socket is full, BrokenPipeError when
    the peer is gone."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) <= _INLINE:
        _send(sock, data, fds, flags)
        return
    body = anonymous_file(data)
    try:
        _send(sock, b"+", [*fds, body], flags)
    finally:
        os.close(body)


def _send(sock: socket.socket, data: bytes, fds: Sequence[int], flags: int) -> None:
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], extra, flags | socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[Message | None, list[int]]:
    """One message and the descriptors that came with it; (None, []) when the peer has gone."""
    try:
        data, extra, _, _ = sock.recvmsg(_WIRE, socket.CMSG_SPACE(_MAX_FDS * 4))
    except ConnectionResetError:
        # The peer ended with messages unread. The kernel says so once, BEFORE what the peer itself had sent:
        # taken for the end, a guardian's last word was lost and it counted as killed (one renewal too late
        # sufficed). Asked again it gives those messages, then the end.
        try:
            data, extra, _, _ = sock.recvmsg(_WIRE, socket.CMSG_SPACE(_MAX_FDS * 4))
        except ConnectionResetError:
            return None, []
    fds: list[int] = []
    for level, kind, value in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(value[: len(value) - len(value) % numbers.itemsize])
            fds += numbers
    if not data:
        return None, fds
    if data == b"+":
        data = read_file(fds.pop())
    message: Message = json.loads(data)
    return message, fds
