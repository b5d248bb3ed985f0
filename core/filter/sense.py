"""Comparisons that CEL allows and nobody means: they would be false for every entry, or true for each.

A time without its unit, a unit where there is none, a protocol or an outcome that does not exist, a range in
place of an address, a text in a list of numbers: an error with a suggestion is worth more than a run that
shows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from kshark.filter.checked import Call, Const, Items, Loop, Name, Node, Select
from kshark.filter.fields import Field
from kshark.filter.literals import TIMES, Quantity, Wrong

_EQUAL: Final = ("_==_", "_!=_")
_ORDERS: Final = ("_<_", "_<=_", "_>_", "_>=_")
_SUMS: Final = ("_+_", "_-_", "_*_", "_/_", "_%_", "-_")
_BARE: Final = re.compile(r"[0-9]+(?![\w.])")
_TIME: Final = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9:.]*Z?)?)?)?")
_RANGE: Final = re.compile(r"[0-9a-fA-F.:]+/[0-9]+|[0-9.]*\*")


_SIZED: Final = frozenset({"size", "bytes", "length", "len", "octets"})
"""Words in the name of a field that say that it counts bytes."""
_BYTES: Final = re.compile(r"\bbytes?\b", re.IGNORECASE)
_SPOKEN: Final = {"time": "a time", "size": "a number of bytes", "": "a plain number"}


def sensible(
    node: Node, text: str, known: Mapping[str, Field], units: Mapping[int, Quantity]
) -> None:
    """Raise `Wrong` at the first comparison of this tree that makes no sense.

    `units` are the quantities of the text by their places.
    """
    measures = _Measures(known, units)
    for one in walk(node):
        measures.look(one)
        if isinstance(one, Call) and one.function in (*_EQUAL, *_ORDERS):
            for name, value in (one.args, one.args[::-1]):
                if isinstance(name, Name) and isinstance(value, Const):
                    _compared(known.get(name.name), value, text, one.function in _EQUAL)
        elif isinstance(one, Call) and one.function == "@in" and isinstance(one.args[1], Items):
            _among(one.args[0], one.args[1], text, known)


class _Measures:
    """What is a time, what a size: a unit belongs where the other side is one."""

    def __init__(self, known: Mapping[str, Field], units: Mapping[int, Quantity]) -> None:
        self.known = known
        self.units = units

    def look(self, node: Node) -> None:
        """Raise `Wrong` where two sides of an operator measure different things, one by its unit."""
        if not self.units or not isinstance(node, Call) or len(node.args) != 2:
            return
        one, other = node.args
        if node.function == "@in" and isinstance(other, Items):
            for item in other.elements:
                self.pair(one, item)
        elif node.function in (*_EQUAL, *_ORDERS, "_+_", "_-_"):
            self.pair(one, other)

    def pair(self, one: Node, other: Node) -> None:
        for written, held in ((other, one), (one, other)):
            at, quantity = self.written(written)
            measure, own = self.measure(held), self.measure(written)
            if quantity is None or measure in (None, own) or own is None:
                continue
            assert measure is not None
            name = next((n.name for n in walk(held) if isinstance(n, Name)), "the other side")
            said = f"{quantity.text} is {_SPOKEN[quantity.what]}, and {name} is {_SPOKEN[measure]}"
            raise Wrong(at, said, _instead(quantity.text, measure))

    def written(self, node: Node) -> tuple[int, Quantity | None]:
        """The first number with a unit in this sum or product."""
        if isinstance(node, Const):
            at = node.at if node.at in self.units else node.at + 1  # behind a sign
            return at, self.units.get(at)
        if isinstance(node, Call) and node.function in _SUMS:
            return next((f for f in map(self.written, node.args) if f[1] is not None), (0, None))
        return 0, None

    def measure(self, node: Node) -> str | None:
        """time, size, "" for a number of anything else; None: it may be any of them."""
        if isinstance(node, Const):
            quantity = self.written(node)[1]
            return quantity.what if quantity else None
        if isinstance(node, Name):
            field = self.known.get(node.name)
            return None if field is None or field.type not in ("int", "double") else _measure(field)
        if not isinstance(node, Call):
            return None
        if node.function == "size":
            return "size"
        if node.function in _SUMS and node.function != "_/_":
            found = [m for m in map(self.measure, node.args) if m is not None]
            return max(found, default=None)  # 2 * 100ms is a time
        if node.function == "_/_" and self.measure(node.args[1]) is None:
            return self.measure(node.args[0])
        return None


def _measure(field: Field) -> str:
    """What a number of a field measures, by its name and its doc line."""
    last = field.name.rpartition(".")[2]
    if field.name in TIMES or last.endswith("_ns"):
        return "time"
    return "size" if _SIZED & {*last.split("_")} or _BYTES.search(field.doc) else ""


def _instead(text: str, measure: str) -> str:
    digits = text.rstrip("hbBdm")
    if measure == "time":
        return "as in 100ms"
    if measure == "size":
        return f"did you mean {digits}MB?" if text.endswith("m") else "as in 100B, 1KiB"
    if text.endswith("h") and digits.isdigit():
        return f"hex is written 0x{digits}"
    return "it is compared with a number without a unit"


def walk(node: Node) -> Iterator[Node]:
    """A node and all within it."""
    yield node
    inner: list[Node] = []
    if isinstance(node, Call):
        inner = node.args
    elif isinstance(node, Items):
        inner = node.elements
    elif isinstance(node, Select):
        inner = [node.operand]
    elif isinstance(node, Loop):
        inner = [node.over, node.step]
    for one in inner:
        yield from walk(one)


def _among(held: Node, items: Items, text: str, known: Mapping[str, Field]) -> None:
    """``x in [...]``."""
    for one in items.elements:
        if not isinstance(one, Const):
            continue
        if {held.type, one.type} == {"int", "string"}:
            kinds = ("text", "a number") if one.type == "string" else ("a number", "text")
            hint = "text stands in quotes, numbers do not"
            raise Wrong(one.at, f"{kinds[0]} in a list for {kinds[1]}", hint)
        if isinstance(held, Name):
            _compared(known.get(held.name), one, text, True)


def _compared(field: Field | None, value: Const, text: str, equal: bool) -> None:
    """A field compared with a constant."""
    if field is None:
        return
    if field.name in TIMES and _BARE.match(text[value.at :]) and value.value:
        hint = f"as in {value.value}ms, or {field.name}_ns and a number of ns"
        raise Wrong(value.at, "a time needs its unit", hint)
    if not isinstance(value.value, str):
        return
    if field.name in ("time", "request.time", "response.time") and not _TIME.fullmatch(value.value):
        raise Wrong(
            value.at,
            f"{shown(value.value)} is no time",
            f'as in {field.name} >= "2026-01-02T03:04"',
        )
    if not equal:
        return
    if field.values and value.value not in field.values:
        close = get_close_matches(value.value.lower(), field.values, 1) or sorted(field.values)
        raise Wrong(value.at, f"{field.name} is never {shown(value.value)}", _either(close))
    if field.name in ("src.ip", "dst.ip") and _RANGE.fullmatch(value.value):
        hint = f'a range is written {field.name}.startsWith("10.1.")'
        raise Wrong(value.at, f"{shown(value.value)} is no address", hint)


def shown(value: str) -> str:
    """A text of the user's, as much as fits a line."""
    return f'"{value[:40]}"' if value.isprintable() else "this text"


def _either(names: list[str]) -> str:
    return f"did you mean {', '.join(names)}?" if len(names) == 1 else f"it is {', '.join(names)}"
