"""Comparisons that CEL allows and nobody means: they would be false for every entry, or true for each.

A time without its unit, a protocol or an outcome that does not exist, a range in place of an address, a text in a
list of numbers: an error with a suggestion is worth more than a run that shows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from kshark.filter.checked import Call, Const, Items, Loop, Name, Node, Select
from kshark.filter.fields import Field
from kshark.filter.literals import TIMES, Wrong

_EQUAL: Final = ("_==_", "_!=_")
_ORDERS: Final = ("_<_", "_<=_", "_>_", "_>=_")
_BARE: Final = re.compile(r"[0-9]+(?![\w.])")
_TIME: Final = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9:.]*Z?)?)?)?")
_RANGE: Final = re.compile(r"[0-9a-fA-F.:]+/[0-9]+|[0-9.]*\*")


def sensible(node: Node, text: str, known: Mapping[str, Field]) -> None:
    """Raise `Wrong` at the first comparison of this tree that makes no sense."""
    for one in walk(node):
        if isinstance(one, Call) and one.function in (*_EQUAL, *_ORDERS):
            for name, value in (one.args, one.args[::-1]):
                if isinstance(name, Name) and isinstance(value, Const):
                    _compared(known.get(name.name), value, text, one.function in _EQUAL)
        elif isinstance(one, Call) and one.function == "@in" and isinstance(one.args[1], Items):
            _among(one.args[0], one.args[1], text, known)


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
