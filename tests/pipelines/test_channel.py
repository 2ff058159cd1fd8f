"""The attempt's end of the socket: answers, refusals, stops, and a worker that is gone."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from unjam.errors import LeaseLost, UnjamError
from unjam.jobs.messages import (
    Ack,
    Decoder,
    Message,
    PlanProposed,
    Progress,
    Refused,
    Stop,
    UnitCommitted,
    encode,
)
from unjam.jobs.reasons import ReasonCode
from unjam.pipelines.channel import SocketChannel, stop_asked
from unjam.pipelines.stage import Stopped

UNIT = UnitCommitted("encode", "v00000", None, None, None)


@dataclass(slots=True)
class Pair:
    channel: SocketChannel
    worker: socket.socket

    def say(self, *messages: Message) -> None:
        for message in messages:
            for packet in encode(message):
                self.worker.sendall(packet)

    def hear(self) -> Message:
        decoder = Decoder()
        while (message := decoder.feed(self.worker.recv(1 << 17))) is None:
            pass
        return message


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield Pair(SocketChannel(ours), theirs)
    ours.close()
    theirs.close()


def test_ask_returns_the_answer(pair: Pair) -> None:
    pair.say(Ack("pause"))
    assert stop_asked(pair.channel.ask(UNIT)) == "pause"
    assert pair.hear() == UNIT


def test_a_long_plan_travels_in_pieces(pair: Pair) -> None:
    plan = PlanProposed("encode", "d", {"segments": [[f"v{i:05d}", i, 1500, i, i + 1] for i in range(4000)]})
    pair.say(Ack())
    pair.channel.ask(plan)
    assert pair.hear() == plan


def test_a_stop_before_the_answer_is_remembered(pair: Pair) -> None:
    pair.say(Stop("cancel", "asked by you"), Ack())
    assert pair.channel.ask(UNIT) == Ack()
    assert pair.channel.why_stopped() == Stop("cancel", "asked by you")


def test_a_refusal_is_an_error_with_its_code(pair: Pair) -> None:
    pair.say(Refused("disk_full", "no room"))
    with pytest.raises(UnjamError, match="no room") as caught:
        pair.channel.ask(UNIT)
    assert caught.value.code is ReasonCode.DISK_FULL


def test_a_stale_fence_ends_the_attempt(pair: Pair) -> None:
    """INV-FENCE: told by the worker, raised in the pipeline."""
    pair.say(Refused("worker_lost", "the lease is another's"))
    with pytest.raises(LeaseLost, match="another's"):
        pair.channel.ask(UNIT)


@pytest.mark.parametrize("unread", [False, True])
def test_a_dead_worker_is_a_lost_lease(pair: Pair, unread: bool) -> None:
    if unread:  # then the kernel says ECONNRESET instead of EOF
        pair.channel.send(UNIT)
    pair.worker.close()
    with pytest.raises(LeaseLost, match="what was committed is kept"):
        pair.channel.ask(UNIT)


@pytest.mark.timeout(5)
def test_why_stopped_never_waits(pair: Pair) -> None:
    assert pair.channel.why_stopped() is None
    pair.say(Stop("pause", "by you"))
    assert pair.channel.why_stopped() == Stop("pause", "by you")
    pair.worker.close()
    assert pair.channel.why_stopped() == Stop("pause", "by you")


def test_progress_awaits_no_answer(pair: Pair) -> None:
    for number in range(20):
        pair.channel.send(Progress("encode", number / 20, str(number)))
    assert [pair.hear() for _ in range(20)][-1] == Progress("encode", 19 / 20, "19")
    assert os.get_blocking(pair.worker.fileno())


def test_a_term_between_two_packets_of_an_answer_is_no_broken_message(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handler looks for the reason while the frame below has the first packet in its hands."""
    found: list[Stop | None] = []

    class Interrupted(socket.socket):
        def recv(self, size: int, flags: int = 0) -> bytes:
            packet = super().recv(size, flags)
            if not found:
                found.append(None)
                found[0] = pair.channel.why_stopped()
                raise Stopped("pause")
            return packet

    pair.say(Refused("internal_error", "x" * 100_000), Stop("pause", "asked"))
    with Interrupted(fileno=os.dup(pair.channel._sock.fileno())) as interrupted:
        monkeypatch.setattr(pair.channel, "_sock", interrupted)
        with pytest.raises(Stopped):
            pair.channel.ask(UNIT)
    assert found == [Stop("pause", "asked")]
