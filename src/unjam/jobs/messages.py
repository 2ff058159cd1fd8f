"""The channel between an attempt and its worker: small versioned messages, and how they travel in packets.

The socket is SEQPACKET, so a packet arrives whole or not at all; a message longer than one packet (the
committed units of a long film) is cut into several. Both ends of this module are pure: bytes in, bytes out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

VERSION = 1
PACKET_BYTES = 60_000
"""Well below the default SO_SNDBUF of a unix socket (212,992): a larger packet is refused with EMSGSIZE."""


@dataclass(frozen=True, slots=True)
class Message:
    kind: ClassVar[str] = ""


# -- attempt to worker --------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class StageStarted(Message):
    """A stage began. `weight` is its share of the whole job; limits in seconds."""

    kind: ClassVar[str] = "stage_started"
    stage: str
    weight: float
    stall_after: float | None
    busy_after: float | None
    timeout: float | None


@dataclass(frozen=True, slots=True)
class StageEnded(Message):
    kind: ClassVar[str] = "stage_ended"
    stage: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """Where a stage is. `evidence` is anything that changes when, and only when, the work advanced
    (frames, bytes, microseconds of output); the worker compares it, it never reads it (INV-STALL)."""

    kind: ClassVar[str] = "progress"
    stage: str
    fraction: float
    evidence: str
    message: str = ""
    unit: str | None = None
    unit_fraction: float | None = None


@dataclass(frozen=True, slots=True)
class UnitsDeclared(Message):
    kind: ClassVar[str] = "units_declared"
    stage: str
    total: int
    done: int


@dataclass(frozen=True, slots=True)
class PlanProposed(Message):
    """Ask for a stage's plan to be stored or found again; `revise` keeps what is committed.

    Answer: PlanAccepted."""

    kind: ClassVar[str] = "plan_proposed"
    stage: str
    digest: str
    body: Mapping[str, Any]
    revise: bool = False


@dataclass(frozen=True, slots=True)
class UnitCommitted(Message):
    """Commit one unit. Answer: Ack after the store has it, or Refused."""

    kind: ClassVar[str] = "unit_committed"
    stage: str
    name: str
    uri: str | None
    size_bytes: int | None
    sha256: str | None
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class UnitsVoided(Message):
    """Committed units whose files are gone: a row without its file is void. Answer: Ack."""

    kind: ClassVar[str] = "units_voided"
    stage: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenWanted(Message):
    """Ask for a scarce thing of the machine (`gpu`). Answer: Ack when it is there."""

    kind: ClassVar[str] = "token_wanted"
    name: str


@dataclass(frozen=True, slots=True)
class TokenReturned(Message):
    kind: ClassVar[str] = "token_returned"
    name: str


@dataclass(frozen=True, slots=True)
class InputProbed(Message):
    """What a probe found of input number `index`."""

    kind: ClassVar[str] = "input_probed"
    index: int
    media: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finished(Message):
    """The pipeline is through; `outputs` are staged and verified (fields of StagedOutput). Answer: Ack."""

    kind: ClassVar[str] = "finished"
    outputs: tuple[Mapping[str, Any], ...]
    partial: str | None = None
    """Set when some units failed and the rest is delivered: the sentence that says so."""


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """The pipeline gave up, and why. `code` is a ReasonCode. Answer: Ack."""

    kind: ClassVar[str] = "failed"
    code: str
    message: str


# -- worker to attempt --------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Ack(Message):
    """Done as asked. `stop` names a request the attempt should obey at this point (`pause`, `cancel`)."""

    kind: ClassVar[str] = "ack"
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Refused(Message):
    kind: ClassVar[str] = "refused"
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class PlanAccepted(Message):
    """The plan in force and the units that hold under it."""

    kind: ClassVar[str] = "plan_accepted"
    body: Mapping[str, Any]
    revision: int
    committed: tuple[Mapping[str, Any], ...]
    voided: int


@dataclass(frozen=True, slots=True)
class Stop(Message):
    """Sent before the signal: an attempt is told why it will be stopped."""

    kind: ClassVar[str] = "stop"
    why: str
    message: str


_KINDS: dict[str, type[Message]] = {
    c.kind: c
    for c in (
        StageStarted,
        StageEnded,
        Progress,
        UnitsDeclared,
        PlanProposed,
        UnitCommitted,
        UnitsVoided,
        TokenWanted,
        TokenReturned,
        InputProbed,
        Finished,
        Failed,
        Ack,
        Refused,
        PlanAccepted,
        Stop,
    )
}


class BadMessage(ValueError):
    """Bytes that are no message of this version."""


def encode(message: Message) -> list[bytes]:
    """The packets that carry `message`, in order. The first byte of each says whether more follow."""
    body = json.dumps({"v": VERSION, "k": message.kind, **asdict(message)}, separators=(",", ":")).encode()
    chunks = [body[i : i + PACKET_BYTES] for i in range(0, len(body), PACKET_BYTES)]
    return [(b"+" if i + 1 < len(chunks) else b".") + chunk for i, chunk in enumerate(chunks)]


class Decoder:
    """Puts packets together again; one per direction of a channel."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, packet: bytes) -> Message | None:
        """The message that this packet completes, or None while more must follow. Raises BadMessage."""
        if packet[:1] not in (b"+", b"."):
            raise BadMessage(f"packet begins with {packet[:1]!r}")
        self._parts.append(packet[1:])
        if packet[:1] == b"+":
            return None
        raw, self._parts = b"".join(self._parts), []
        return _build(raw)


def _build(raw: bytes) -> Message:
    try:
        data = json.loads(raw)
        version, kind = data.pop("v"), data.pop("k")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BadMessage(f"not a message: {raw[:80]!r}") from error
    if version != VERSION or not isinstance(kind, str) or kind not in _KINDS:
        raise BadMessage(f"unknown message {kind!r} of version {version!r}")
    cls = _KINDS[kind]
    values: dict[str, Any] = {}
    for field in fields(cls):
        if field.name not in data:
            continue  # the default, or a TypeError below
        value = data[field.name]
        if not _FITS[str(field.type)](value):
            raise BadMessage(f"{kind}: {field.name} is {str(value)[:80]!r}")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    try:
        return cls(**values)
    except TypeError as error:
        raise BadMessage(f"{kind}: {error}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_mappings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


# Annotations are strings here (PEP 563): a new field of another type fails the round-trip test, not a user.
_FITS: dict[str, Callable[[object], bool]] = {
    "str": lambda v: isinstance(v, str),
    "str | None": lambda v: v is None or isinstance(v, str),
    "float": _is_number,
    "float | None": lambda v: v is None or _is_number(v),
    "int": _is_integer,
    "int | None": lambda v: v is None or _is_integer(v),
    "bool": lambda v: isinstance(v, bool),
    "Mapping[str, Any]": lambda v: isinstance(v, dict),
    "Mapping[str, Any] | None": lambda v: v is None or isinstance(v, dict),
    "tuple[str, ...]": _is_names,
    "tuple[Mapping[str, Any], ...]": _is_mappings,
}
