"""Types of Protocol Buffers, from descriptors as protoc, buf and server reflection give them: `Pool`.

Descriptors are messages themselves; what is needed of them is read by `wire`. The field numbers here are those of
``google/protobuf/descriptor.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from kshark.protocols.grpc.wire import BadMessage, pieces

# Types of fields.
DOUBLE, FLOAT, INT64, UINT64, INT32, FIXED64, FIXED32, BOOL, STRING = range(1, 10)
GROUP, MESSAGE, BYTES, UINT32, ENUM, SFIXED32, SFIXED64, SINT32, SINT64 = range(10, 19)
REPEATED: Final = 3


class Field(msgspec.Struct, frozen=True):
    """A field of a message type."""

    name: str
    kind: int
    repeated: bool = False
    type_name: str = ""  # of a message or an enum
    hidden: bool = False  # debug_redact


class MessageType(msgspec.Struct, frozen=True):
    """Fields by number."""

    name: str
    fields: dict[int, Field]
    map_entry: bool = False


class Method(msgspec.Struct, frozen=True):
    """What a method takes and gives."""

    asks: str
    answers: str
    client_streaming: bool = False
    server_streaming: bool = False


class Pool:
    """Message types, enums and methods by their full names; a method's is ``/package.Service/Method``."""

    def __init__(self) -> None:
        self.messages: dict[str, MessageType] = {}
        self.enums: dict[str, dict[int, str]] = {}
        self.methods: dict[str, Method] = {}

    def add_set(self, data: bytes) -> None:
        """A FileDescriptorSet; `BadMessage` if it is none."""
        for number, _, value in pieces(data):
            if number != 1 or not isinstance(value, bytes):
                raise BadMessage
            self.add_file(value)

    def add_file(self, data: bytes) -> None:
        """A FileDescriptorProto."""
        package = text(data, 2)
        scope = f"{package}." if package else ""
        for one in parts(data, 4):
            self.add_message(one, scope)
        for one in parts(data, 5):
            self.add_enum(one, scope)
        for service in parts(data, 6):
            for method in parts(service, 2):
                self.methods[f"/{scope}{text(service, 1)}/{text(method, 1)}"] = Method(
                    text(method, 2).lstrip("."),
                    text(method, 3).lstrip("."),
                    number_of(method, 5) == 1,
                    number_of(method, 6) == 1,
                )
        for one in parts(data, 7):
            self.extend(one)

    def add_message(self, data: bytes, scope: str) -> None:
        """A DescriptorProto, with what is declared in it."""
        name = scope + text(data, 1)
        options = b"".join(parts(data, 7))
        fields = {number_of(one, 3): field(one) for one in parts(data, 2)}
        known = self.messages.get(name)  # an extension may have come first
        self.messages[name] = MessageType(
            name, {**(known.fields if known else {}), **fields}, number_of(options, 7) == 1
        )
        for one in parts(data, 3):
            self.add_message(one, f"{name}.")
        for one in parts(data, 4):
            self.add_enum(one, f"{name}.")
        for one in parts(data, 6):
            self.extend(one)

    def add_enum(self, data: bytes, scope: str) -> None:
        """An EnumDescriptorProto; of several names for a number the first counts."""
        names: dict[int, str] = {}
        for value in parts(data, 2):
            number = number_of(value, 2)
            names.setdefault(number - (1 << 64) if number >> 63 else number, text(value, 1))
        self.enums[scope + text(data, 1)] = names

    def extend(self, data: bytes) -> None:
        """An extension: one more field of another message, whose name is written in brackets."""
        whom = text(data, 2).lstrip(".")
        known = self.messages.setdefault(whom, MessageType(whom, {}))
        one = field(data)
        known.fields[number_of(data, 3)] = msgspec.structs.replace(one, name=f"[{one.name}]")


def field(data: bytes) -> Field:
    """A FieldDescriptorProto."""
    options = b"".join(parts(data, 8))
    return Field(
        text(data, 1),
        number_of(data, 5),
        number_of(data, 4) == REPEATED,
        text(data, 6).lstrip("."),
        number_of(options, 16) == 1,
    )


def parts(data: bytes, wanted: int) -> Iterator[bytes]:
    """The length-delimited values of a field."""
    for number, _, value in pieces(data):
        if number == wanted and isinstance(value, bytes):
            yield value


def text(data: bytes, wanted: int) -> str:
    """The last text of a field, "" if there is none."""
    found = ""
    for value in parts(data, wanted):
        found = value.decode("utf-8", "replace")
    return found


def number_of(data: bytes, wanted: int) -> int:
    """The last number of a field, 0 if there is none."""
    found = 0
    for number, _, value in pieces(data):
        if number == wanted and isinstance(value, int):
            found = value
    return found
