"""Protocol Buffers as bytes: the fields of a message, and a reading of them where no schema is at hand.

A field on the wire has a number and a wire type, and no more: a length-delimited one may be a string, a message,
bytes or packed numbers. So what `guess` gives names its reading beside the number, ``{"1:string": "ann"}``, and it
is a reading: text where all of it is printable UTF-8, else a message where it parses as one, else bytes (base64).

Nesting is bounded by PROTO_DEPTH, values by PROTO_VALUES; whatever the bytes are, `guess` ends.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

from kshark import limits

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
GROUP: Final = 3
GROUP_END: Final = 4
FIXED32: Final = 5

Value = int | bytes
Piece = tuple[int, int, Value]  # field number, wire type, what is there (of a group: its content)
Fields = dict[str, Any]


class BadMessage(Exception):
    """These bytes are no message of Protocol Buffers; `at` is where that shows."""


class Short(BadMessage):
    """They end within a field."""


class Budget:
    """How many values may still be read."""

    __slots__ = ("left", "spent")

    def __init__(self, left: int = limits.PROTO_VALUES) -> None:
        self.left = left
        self.spent = False  # there were more

    def take(self) -> bool:
        """One more; whether it may be."""
        if self.left <= 0:
            self.spent = True
            return False
        self.left -= 1
        return True


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer at `at`, and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Short
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise BadMessage


def pieces(data: bytes) -> Iterator[Piece]:
    """The fields of a message, in order; raises where they end.

    >>> list(pieces(b"\\x08\\x96\\x01\\x12\\x02hi"))
    [(1, 0, 150), (2, 2, b'hi')]
    """
    at = 0
    while at < len(data):
        number, wire, at = tag(data, at)
        if wire == GROUP:
            end, after = group_end(data, at, number)
            yield number, wire, data[at:end]
            at = after
            continue
        value, at = scalar(data, at, wire)
        yield number, wire, value


def tag(data: bytes, at: int) -> tuple[int, int, int]:
    """Field number, wire type, and the offset after them."""
    key, at = varint(data, at)
    if not 0 < key >> 3 < 1 << 29:
        raise BadMessage
    return key >> 3, key & 7, at


def scalar(data: bytes, at: int, wire: int) -> tuple[Value, int]:
    """The value at `at`, and the offset after it."""
    if wire == VARINT:
        return varint(data, at)
    if wire == BYTES:
        size, at = varint(data, at)
        if size > len(data) - at:
            raise Short
        return data[at : at + size], at + size
    size = 8 if wire == FIXED64 else 4
    if wire not in (FIXED32, FIXED64):
        raise BadMessage
    if size > len(data) - at:
        raise Short
    return int.from_bytes(data[at : at + size], "little"), at + size


def group_end(data: bytes, at: int, number: int) -> tuple[int, int]:
    """Where the content of a group ends, and what follows begins."""
    open_ = [number]
    while True:
        start = at
        found, wire, at = tag(data, at)
        if wire == GROUP:
            if len(open_) >= limits.PROTO_DEPTH:
                raise BadMessage
            open_.append(found)
        elif wire == GROUP_END:
            if open_.pop() != found:
                raise BadMessage
            if not open_:
                return start, at
        else:
            _, at = scalar(data, at, wire)


def whole(data: bytes) -> bool:
    """Whether these bytes parse as a message."""
    try:
        for _ in pieces(data):
            pass
    except BadMessage:
        return False
    return True


def guess(data: bytes, budget: Budget, depth: int = 0) -> Fields:
    """A message without a schema: number and reading of each field, and its value; several in a list."""
    found: Fields = {}
    for number, wire, value in pieces(data):
        if not budget.take():
            break
        reading, shown = read(wire, value, budget, depth)
        put(found, f"{number}:{reading}", shown)
    return found


def put(found: Fields, name: str, value: object) -> None:
    """One more value of that name."""
    if name not in found:
        found[name] = value
    elif isinstance(found[name], Several):
        found[name].append(value)
    else:
        found[name] = Several([found[name], value])


class Several(list[Any]):
    """The values of a field that came more than once."""


def read(wire: int, value: Value, budget: Budget, depth: int = 0) -> tuple[str, object]:
    """How a value is read, and the value so."""
    if isinstance(value, int):
        return ("varint", "fixed64", "", "", "", "fixed32")[wire], value
    deep = depth + 1 < limits.PROTO_DEPTH
    if wire == GROUP:
        if deep:
            return "group", guess(value, budget, depth + 1)
    elif not value:
        return "empty", ""
    elif (text := printable(value)) is not None:
        return "string", text
    elif deep and whole(value):
        return "message", guess(value, budget, depth + 1)
    return "bytes", base64.b64encode(value).decode()


def printable(data: bytes) -> str | None:
    """The text that these bytes are, None where a character of it cannot be printed."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    bare = text.translate(_SPACES)
    return text if bare == "" or bare.isprintable() else None


_SPACES: Final = {9: None, 10: None, 13: None}
