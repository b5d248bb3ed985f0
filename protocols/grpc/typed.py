"""A message of Protocol Buffers by its schema: field names and values, as JSON can hold them.

Names are those of the ``.proto``. What the schema does not know, or says otherwise than the bytes, is shown as
`wire.guess` reads it. A message that is cut is shown as far as it came. Fields that are not there stay away. Numbers
are numbers, of 64 bits too; bytes are base64; the well-known types are written as protobuf's JSON has them.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kshark import limits
from kshark.protocols.grpc import schema, wire
from kshark.protocols.grpc.schema import Field, MessageType, Pool
from kshark.protocols.grpc.wire import Budget, Short, Value, pieces, put, varint

HIDDEN: Final = "REDACTED"
_WIRES: Final = {
    schema.DOUBLE: wire.FIXED64,
    schema.FLOAT: wire.FIXED32,
    schema.FIXED64: wire.FIXED64,
    schema.FIXED32: wire.FIXED32,
    schema.SFIXED64: wire.FIXED64,
    schema.SFIXED32: wire.FIXED32,
    schema.STRING: wire.BYTES,
    schema.BYTES: wire.BYTES,
    schema.MESSAGE: wire.BYTES,
    schema.GROUP: wire.GROUP,
}
"""The wire type of each type of field; the others are varints."""


class Typed:
    """One body: what was read of it, and what is odd about it."""

    def __init__(self, pool: Pool, budget: Budget) -> None:
        self.pool = pool
        self.budget = budget
        self.strange = False  # there are fields that the schema does not know, or not so
        self.cut = False  # it ends within a field

    def message(self, data: bytes, kind: MessageType, depth: int = 0) -> Any:
        """The message, a dict but for well-known types; raises `BadMessage` if it is none."""
        if depth >= limits.PROTO_DEPTH:
            return base64.b64encode(data).decode()
        found: dict[str, Any] = {}
        try:
            for number, how, value in pieces(data):
                if not self.budget.take():
                    break
                self.add(found, kind, number, how, value, depth)
        except Short:
            self.cut = True
        special = WELL_KNOWN.get(kind.name)
        return special(self, found, depth) if special is not None else found

    def add(
        self,
        found: dict[str, Any],
        kind: MessageType,
        number: int,
        how: int,
        value: Value,
        depth: int,
    ) -> None:
        """One field."""
        field = kind.fields.get(number)
        expected = _WIRES.get(field.kind, wire.VARINT) if field is not None else -1
        packed = field is not None and field.repeated and how == wire.BYTES != expected
        if field is None or (how != expected and not packed):
            self.strange = True
            reading, shown = wire.read(how, value, self.budget, depth)
            put(found, f"{number}:{reading}", shown)
        elif field.hidden:
            found[field.name] = HIDDEN
        elif packed:
            assert isinstance(value, bytes)
            found.setdefault(field.name, []).extend(self.unpacked(value, field, expected))
        else:
            self.place(found, field, self.value(value, field, depth))

    def place(self, found: dict[str, Any], field: Field, value: Any) -> None:
        """A value of a field: in a list, a map, or by itself."""
        inner = self.pool.messages.get(field.type_name) if field.type_name else None
        if inner is not None and inner.map_entry and isinstance(value, dict):
            key = value.get("key", self.default(inner.fields.get(1)))
            shown = str(key).lower() if isinstance(key, bool) else str(key)
            content = value.get("value", self.default(inner.fields.get(2)))
            found.setdefault(field.name, {})[shown] = content
        elif field.repeated:
            found.setdefault(field.name, []).append(value)
        elif isinstance(value, dict) and isinstance(found.get(field.name), dict):
            found[field.name].update(value)  # parts of one message, by the encoding's rules
        else:
            found[field.name] = value

    def default(self, field: Field | None) -> Any:
        """What a key or value of a map is that was not sent."""
        if field is None or field.kind in (schema.STRING, schema.BYTES):
            return ""
        if field.kind == schema.MESSAGE:
            kind = self.pool.messages.get(field.type_name)
            return self.message(b"", kind) if kind is not None else {}
        if field.kind == schema.ENUM:
            return self.pool.enums.get(field.type_name, {}).get(0, 0)
        return number_of(0, field.kind)

    def unpacked(self, data: bytes, field: Field, how: int) -> list[Any]:
        """The numbers of a packed field."""
        found: list[Any] = []
        at = 0
        try:
            while at < len(data) and self.budget.take():
                value, at = varint(data, at) if how == wire.VARINT else wire.scalar(data, at, how)
                found.append(self.value(value, field, 0))
        except Short:
            self.cut = True
        return found

    def value(self, value: Value, field: Field, depth: int) -> Any:
        """A value by its type."""
        kind = field.kind
        if isinstance(value, bytes):
            if kind == schema.STRING:
                return value.decode("utf-8", "replace")
            inner = self.pool.messages.get(field.type_name)
            if kind == schema.BYTES:
                return base64.b64encode(value).decode()
            if inner is None:
                self.strange = True
                return wire.read(wire.BYTES, value, self.budget, depth)[1]
            return self.message(value, inner, depth + 1)
        if kind == schema.ENUM:
            number = signed(value, 32)
            return self.pool.enums.get(field.type_name, {}).get(number, number)
        return number_of(value, kind)


def number_of(value: int, kind: int) -> Any:
    """A number by its type, from its bits."""
    if kind == schema.BOOL:
        return value != 0
    if kind in (schema.DOUBLE, schema.FLOAT):
        code, size = ("<d", 8) if kind == schema.DOUBLE else ("<f", 4)
        return real(struct.unpack(code, value.to_bytes(size, "little"))[0])
    if kind in (schema.SINT32, schema.SINT64):
        value &= 0xFFFF_FFFF if kind == schema.SINT32 else 0xFFFF_FFFF_FFFF_FFFF
        return value >> 1 ^ -(value & 1)
    if kind in (schema.INT32, schema.SFIXED32):
        return signed(value, 32)
    if kind in (schema.INT64, schema.SFIXED64):
        return signed(value, 64)
    return value & 0xFFFF_FFFF if kind == schema.UINT32 else value


def signed(value: int, bits: int) -> int:
    """The low bits as a signed number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def real(value: float) -> float | str:
    """A number that JSON can hold, else its name."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


# ---------------------------------------------------------------- well-known types


def _timestamp(_: Typed, found: dict[str, Any], __: int) -> Any:
    seconds, nanos = found.get("seconds", 0), found.get("nanos", 0)
    if not (isinstance(seconds, int) and isinstance(nanos, int) and 0 <= nanos < 1_000_000_000):
        return found
    try:
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return found
    return when.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + fraction(nanos) + "Z"


def _duration(_: Typed, found: dict[str, Any], __: int) -> Any:
    seconds, nanos = found.get("seconds", 0), found.get("nanos", 0)
    if not (isinstance(seconds, int) and isinstance(nanos, int) and abs(nanos) < 1_000_000_000):
        return found
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{fraction(abs(nanos))}s"


def fraction(nanos: int) -> str:
    """Three, six or nine decimals, as many as it takes."""
    if nanos == 0:
        return ""
    text = f"{nanos:09d}"
    return "." + (text[:3] if text[3:] == "000000" else text[:6] if text[6:] == "000" else text)


def _wrapper(empty: Any) -> Callable[[Typed, dict[str, Any], int], Any]:
    return lambda _, found, __: found.get("value", empty) if found.keys() <= {"value"} else found


def _struct(_: Typed, found: dict[str, Any], __: int) -> Any:
    return found.get("fields", {})


def _value(_: Typed, found: dict[str, Any], __: int) -> Any:
    return next((None if name == "null_value" else v for name, v in found.items()), None)


def _list(_: Typed, found: dict[str, Any], __: int) -> Any:
    return found.get("values", [])


def _any(typed: Typed, found: dict[str, Any], depth: int) -> Any:
    url = found.get("type_url", "")
    raw = (
        base64.b64decode(found.get("value", "")) if isinstance(found.get("value", ""), str) else b""
    )
    kind = typed.pool.messages.get(str(url).rpartition("/")[2])
    if kind is None:
        return {"@type": url, "value": wire.read(wire.BYTES, raw, typed.budget, depth)[1]}
    inner = typed.message(raw, kind, depth + 1)
    return {"@type": url, **inner} if isinstance(inner, dict) else {"@type": url, "value": inner}


WELL_KNOWN: Final[dict[str, Callable[[Typed, dict[str, Any], int], Any]]] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Struct": _struct,
    "google.protobuf.Value": _value,
    "google.protobuf.ListValue": _list,
    "google.protobuf.Any": _any,
    "google.protobuf.BoolValue": _wrapper(False),
    "google.protobuf.StringValue": _wrapper(""),
    "google.protobuf.BytesValue": _wrapper(""),
    **{
        f"google.protobuf.{name}Value": _wrapper(0)
        for name in ("Int32", "Int64", "UInt32", "UInt64", "Float", "Double")
    },
}
"""Types whose JSON is not that of their fields."""
