"""``cel.expr.CheckedExpr`` off the wire: the few messages of a checked filter, as a small tree.

No package ships these messages, and they are six. Field numbers are those of cel-spec
``proto/cel/expr/checked.proto`` and ``syntax.proto``; the wire format is protobuf's: varints (type 0),
eight bytes (1), and length-delimited (2). The bytes come from the library in this process, so what is
malformed here is a mistake of ours or a new version of it, and raises `ValueError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Wire = dict[int, list[Any]]


@dataclass(slots=True)
class Node:
    """An expression. `at` is its offset in the text that was parsed, `type` as in `Field.type`."""

    type: str
    at: int


@dataclass(slots=True)
class Const(Node):
    value: Any


@dataclass(slots=True)
class Name(Node):
    name: str


@dataclass(slots=True)
class Select(Node):
    operand: Node
    field: str
    test: bool  # has(operand.field)


@dataclass(slots=True)
class Call(Node):
    function: str
    args: list[Node] = field(default_factory=list)  # the target first, if there is one


@dataclass(slots=True)
class Items(Node):
    elements: list[Node]


@dataclass(slots=True)
class Loop(Node):
    """What the macros exists, all, exists_one, filter and map become."""

    variable: str
    over: Node
    total: str  # name of the accumulator
    start: Node
    step: Node
    result: Node


@dataclass(slots=True)
class Other(Node):
    """What no filter needs."""

    what: str


_PRIMITIVES: Final = ("", "bool", "int", "uint", "double", "string", "bytes")
_SUMS: Final = ("_+_", "_-_", "_*_", "_/_", "_%_", "-_")
_WELL_KNOWN: Final = ("", "dyn", "timestamp", "duration")
_CONSTANTS: Final[Mapping[int, str]] = {
    1: "null_type", 2: "bool", 3: "int", 4: "uint", 5: "double", 6: "string", 7: "bytes",
}  # fmt: skip


def tree(serialized: bytes) -> Node:
    """The tree of a checked expression, in its ``google.protobuf.Any``."""
    checked = fields(fields(serialized)[2][0])
    types = {k: _type(fields(v or b"")) for k, v in _pairs(checked.get(3, []))}
    names = {k: fields(v or b"") for k, v in _pairs(checked.get(2, []))}
    source = fields(checked[5][0]) if 5 in checked else {}
    at = dict(_pairs(source.get(4, [])))
    return _Reader(types, names, at).node(checked[4][0])


class _Reader:
    def __init__(
        self, types: Mapping[int, str], names: Mapping[int, Wire], at: Mapping[int, int]
    ) -> None:
        self.types = types
        self.names = names
        self.at = at

    def node(self, data: bytes) -> Node:
        expr = fields(data)
        number = expr.get(2, [0])[0]
        base = (self.types.get(number, "dyn"), self.at.get(number, 0))
        for kind, read in _KINDS.items():
            if kind in expr:
                found: Node = read(self, base, fields(expr[kind][0]), number)
                return found
        return Other(*base, "this expression")

    def const(self, base: tuple[str, int], wire: Wire, number: int) -> Node:
        for kind, name in _CONSTANTS.items():
            if kind in wire:
                return Const(name, base[1], _constant(kind, wire[kind][0]))
        return Other(*base, "this constant")

    def ident(self, base: tuple[str, int], wire: Wire, number: int) -> Node:
        reference = self.names.get(number, {})
        return Name(*base, text(reference.get(1) or wire.get(1)))

    def select(self, base: tuple[str, int], wire: Wire, number: int) -> Node:
        if number in self.names:
            return Name(*base, text(self.names[number].get(1)))
        test = bool(wire.get(3, [0])[0])
        return Select(*base, self.node(wire[1][0]), text(wire.get(2)), test)

    def call(self, base: tuple[str, int], wire: Wire, number: int) -> Node:
        function = text(wire.get(2))
        args = [self.node(arg) for arg in (*wire.get(1, []), *wire.get(3, []))]
        return Call(_honest(base[0], function, args), base[1], function, args)

    def items(self, base: tuple[str, int], wire: Wire, number: int) -> Node:
        elements = [self.node(one) for one in wire.get(1, [])]
        dynamic = any("dyn" in one.type for one in elements)
        return Items("list(dyn)" if dynamic else base[0], base[1], elements)

    def struct(self, base: tuple[str, int], wire: Wire, number: int) -> Node:
        return Other(*base, "a map or message between braces")

    def loop(self, base: tuple[str, int], wire: Wire, number: int) -> Node:
        return Loop(
            *base,
            variable=text(wire.get(1)),
            over=self.node(wire[2][0]),
            total=text(wire.get(3)),
            start=self.node(wire[4][0]),
            step=self.node(wire[6][0]),
            result=self.node(wire[7][0]),
        )


_KINDS: Final = {
    3: _Reader.const,
    4: _Reader.ident,
    5: _Reader.select,
    6: _Reader.call,
    7: _Reader.items,
    8: _Reader.struct,
    9: _Reader.loop,
}


def _honest(kind: str, function: str, args: list[Node]) -> str:
    """The type of a call. The checker takes what it hopes of a dynamic operand for a fact."""
    if function == "_[_]" and "dyn" in args[0].type:
        return "dyn"
    if function == "_?_:_" and any("dyn" in arg.type for arg in args[1:]):
        return "dyn"
    if function in _SUMS and any("dyn" in arg.type for arg in args):
        return "list(dyn)" if all(arg.type.startswith("list") for arg in args) else "dyn"
    return kind


def _type(wire: Wire) -> str:
    if 3 in wire:
        return _PRIMITIVES[wire[3][0]]
    if 5 in wire:
        return _WELL_KNOWN[wire[5][0]]
    if 6 in wire:
        inner = fields(wire[6][0])
        return f"list({_type(fields(inner[1][0])) if 1 in inner else 'dyn'})"
    if 7 in wire:
        inner = fields(wire[7][0])
        key, value = (_type(fields(inner[n][0])) if n in inner else "dyn" for n in (1, 2))
        return f"map({key}, {value})"
    return "null_type" if 2 in wire else "dyn"


def _constant(kind: int, value: Any) -> Any:
    if kind == 1:
        return None
    if kind == 2:
        return bool(value)
    if kind == 3:
        return value - (1 << 64) if value >> 63 else value
    if kind == 5:
        return struct.unpack("<d", value)[0]
    return value.decode() if kind == 6 else value


def _pairs(entries: list[bytes]) -> Iterator[tuple[int, Any]]:
    """The entries of a map: its key is field 1, its value field 2, each left out where it is 0."""
    for entry in entries:
        wire = fields(entry)
        yield wire.get(1, [0])[0], wire.get(2, [0])[0]


def text(held: list[bytes] | None) -> str:
    """A string field."""
    return held[0].decode() if held else ""


def fields(data: bytes) -> Wire:
    """One message: the values of each field, in order; nested messages stay bytes."""
    found: Wire = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        value: int | bytes
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 1:
            value, at = data[at : at + 8], at + 8
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"wire type {kind}")
        if at > len(data):
            raise ValueError("message cut short")
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("message cut short")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("varint too long")
