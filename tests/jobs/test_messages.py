"""Messages survive the channel whole; anything else is refused as BadMessage and nothing worse."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjam.jobs import messages
from unjam.jobs.messages import (
    PACKET_BYTES,
    VERSION,
    BadMessage,
    Decoder,
    Message,
    Progress,
    UnitCommitted,
    encode,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.text(), json_values, max_size=4)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(),
    "str | None": st.none() | st.text(),
    "float": st.floats(allow_nan=False),
    "float | None": st.none() | st.floats(allow_nan=False),
    "int": st.integers(),
    "int | None": st.none() | st.integers(),
    "bool": st.booleans(),
    "Mapping[str, Any]": mappings,
    "Mapping[str, Any] | None": st.none() | mappings,
    "tuple[str, ...]": st.lists(st.text(), max_size=4).map(tuple),
    "tuple[Mapping[str, Any], ...]": st.lists(mappings, max_size=3).map(tuple),
}
KINDS = sorted(messages._KINDS.values(), key=lambda kind: kind.kind)


def of_kind(kind: type[Message]) -> st.SearchStrategy[Message]:
    return st.builds(kind, **{field.name: FIELDS[str(field.type)] for field in dataclasses.fields(kind)})


def through_the_channel(message: Message) -> Message | None:
    decoder = Decoder()
    *first, last = encode(message)
    for packet in first:
        assert decoder.feed(packet) is None
    return decoder.feed(last)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@given(data=st.data())
def test_round_trip(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(of_kind(kind))
    assert through_the_channel(message) == message


def test_every_message_has_a_kind_of_its_own() -> None:
    defined = {
        thing for thing in vars(messages).values() if isinstance(thing, type) and issubclass(thing, Message)
    }
    assert set(KINDS) == defined - {Message}


@pytest.mark.parametrize("size", [PACKET_BYTES - 200, PACKET_BYTES, 5 * PACKET_BYTES])
def test_long_messages_travel_in_packets_that_the_socket_takes(size: int) -> None:
    message = UnitCommitted("encode", "unit", None, None, None, {"text": "ä" * size})
    packets = encode(message)
    assert all(len(packet) <= PACKET_BYTES + 1 for packet in packets)
    assert len(packets) > 1 or size < PACKET_BYTES
    assert through_the_channel(message) == message


def test_a_decoder_takes_message_after_message() -> None:
    decoder = Decoder()
    sent = [Progress("encode", number / 10, str(number)) for number in range(10)]
    packets = [packet for message in sent for packet in encode(message)]
    assert [decoder.feed(packet) for packet in packets] == sent


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    for packet in (garbage, b"." + garbage):
        with pytest.raises(BadMessage):
            Decoder().feed(packet if packet[:1] != b"+" else b"-" + packet)


@given(mappings)
def test_json_that_is_no_message_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        Decoder().feed(b"." + json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        [],
        7,
        None,
        {"v": VERSION, "k": ["progress"]},
        {"v": VERSION, "k": "no_such_kind"},
        {"v": VERSION + 1, "k": "ack"},
        {"v": VERSION, "k": "progress", "stage": "encode"},
        {"v": VERSION, "k": "progress", "stage": 7, "fraction": 0.5, "evidence": ""},
        {"v": VERSION, "k": "progress", "stage": "encode", "fraction": "half", "evidence": ""},
        {"v": VERSION, "k": "progress", "stage": "encode", "fraction": True, "evidence": ""},
        {"v": VERSION, "k": "finished", "outputs": ["not a mapping"]},
        {"v": VERSION, "k": "finished", "outputs": {"a": 1}},
        {"v": VERSION, "k": "units_declared", "stage": "encode", "total": 1.5, "done": 0},
    ],
)
def test_messages_of_another_shape_are_refused(body: object) -> None:
    with pytest.raises(BadMessage):
        Decoder().feed(b"." + json.dumps(body).encode())


def test_json_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(BadMessage):
        Decoder().feed(b"." + b"[" * 100_000)


def test_a_field_of_a_later_minor_change_is_ignored() -> None:
    body = {"v": VERSION, "k": "ack", "stop": "pause", "added_later": 1}
    assert Decoder().feed(b"." + json.dumps(body).encode()) == messages.Ack("pause")
