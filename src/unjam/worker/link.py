"""The worker's end of the channel to one attempt: reads messages, hands them on, sends the answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from unjam.jobs.messages import BadMessage, Decoder, Message, encode


class Link:
    """Serves one attempt until its end of the channel is closed."""

    def __init__(self, sock: socket.socket, handle: Callable[[Message], Awaitable[Message | None]]) -> None:
        self._sock = sock
        self._handle = handle
        self._decoder = Decoder()
        self.broken = ""
        """What came instead of a message, if the attempt broke the protocol."""

    async def serve(self, on_broken: Callable[[str], None]) -> None:
        """Returns when nobody holds the other end any more."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                packet = await loop.sock_recv(self._sock, 1 << 17)
            except ConnectionResetError:
                # Said once, before what the peer had sent: it died with answers unread, and its last words
                # (a commit, the result) are still to come.
                continue
            if not packet:
                return
            try:
                message = self._decoder.feed(packet)
            except BadMessage as error:
                on_broken(str(error))
                return
            if message is not None and (answer := await self._handle(message)) is not None:
                await self.tell(answer)

    async def tell(self, message: Message) -> None:
        """Send; a peer that is gone is no error, its end is seen elsewhere."""
        loop = asyncio.get_running_loop()
        try:
            for packet in encode(message):
                await loop.sock_sendall(self._sock, packet)
        except (BrokenPipeError, ConnectionResetError):
            return

    def tell_now(self, message: Message) -> None:
        """Send without waiting: words before a signal, dropped when the attempt does not read."""
        try:
            for packet in encode(message):
                self._sock.send(packet)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return
