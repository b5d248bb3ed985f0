"""A message made readable when somebody asks: unpacked, then by its schema, or read without one."""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec

from kshark.protocols import _body
from kshark.protocols.grpc.schema import MessageType, Pool
from kshark.protocols.grpc.typed import Typed
from kshark.protocols.grpc.wire import BadMessage, Budget, guess, whole

NOTES: Final[dict[str, str]] = {
    "bad-protobuf": "the message is not what its schema, or Protocol Buffers, ask for; it is shown as bytes",
    "schema-differs": "fields that the schema does not know, or not of this type: shown by number and reading",
    "proto-limit": "more than 10,000 values: the rest of the message is not shown",
    "unknown-coding": "compressed, and by which coding is not known",
}
"""Notes on a body, beside those of `_body.NOTES`."""
_MAGIC: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy"),
)


class Shown(msgspec.Struct):
    """A message as JSON can hold it."""

    text: str = ""
    reading: str = ""
    notes: list[str] = []


def coding_of(data: bytes) -> str:
    """By which coding these bytes are compressed, as their beginning tells; "" if it does not.

    >>> coding_of(b"\\x1f\\x8b\\x08"), coding_of(b"\\x78\\x9c\\x01"), coding_of(b"abc")
    ('gzip', 'deflate', '')
    """
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    zlib = len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return "deflate" if zlib else ""


def show(
    data: bytes, packed: bool, coding: str, subtype: str, pool: Pool, kind: str, cut: bool
) -> Shown:
    """`data` is a message as sent, `kind` its type where that is known, `subtype` what follows application/grpc."""
    notes: list[str] = []
    if packed:
        coding = coding or coding_of(data)
        if not coding:
            return as_bytes(data, ["unknown-coding"])
        unpacked = _body.unpack(data, [coding])
        notes = unpacked.notes
        if notes and unpacked.data is data:
            return as_bytes(data, notes)
        data = unpacked.data
        cut = cut or bool(notes)
    if subtype == "json":
        text = _body.text(data, "application/json", cut)
        return Shown(text.text, "json", notes + text.notes)
    return protobuf(data, pool, kind, cut, notes)


def protobuf(data: bytes, pool: Pool, kind: str, cut: bool, notes: list[str]) -> Shown:
    """A message of Protocol Buffers."""
    budget = Budget()
    found: Any
    known = pool.messages.get(kind)
    try:
        if known is not None:
            typed = Typed(pool, budget)
            found = typed.message(data, known)
            if typed.strange:
                notes = [*notes, "schema-differs"]
            if typed.cut and not cut:
                notes = [*notes, "bad-protobuf"]
            reading = kind
        else:
            found = guess(data, budget) if not cut or whole(data) else partly(data, budget)
            reading = "guess"
    except BadMessage:
        return as_bytes(data, notes if cut else [*notes, "bad-protobuf"])
    if budget.spent:
        notes = [*notes, "proto-limit"]
    return Shown(msgspec.json.encode(found).decode(), reading, notes)


def partly(data: bytes, budget: Budget) -> dict[str, Any]:
    """The beginning of a message that is cut: the fields that came whole."""
    found: dict[str, Any] = Typed(Pool(), budget).message(data, MessageType("", {}))
    return found


def as_bytes(data: bytes, notes: list[str]) -> Shown:
    """What cannot be read."""
    return Shown(base64.b64encode(data).decode(), "base64", notes)
