"""What compiled filters call: the parts of CEL that no Python operator means exactly.

Whatever CEL calls an error raises here; the test that asked is then false.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from kshark import limits
from kshark.api import Details, Entry, Message
from kshark.filter.literals import LARGEST

T = TypeVar("T")
Number = int | float
Reader = Callable[[Message, str], Details | None]

_INTEGER: Final = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*")


class Absent(Exception):
    """A fact that the entry does not have."""


def need(value: T | None) -> T:
    """A value that is there."""
    if value is None:
        raise Absent
    return value


def absent() -> Any:
    """Where an expression would give what is not there."""
    raise Absent


def bounded(value: T) -> T:
    """A list or map that is walked; raises where it has too many elements."""
    if len(value) > limits.FILTER_ELEMENTS:  # type: ignore[arg-type]
        raise OverflowError
    return value


def plain(value: Any) -> Any:
    """A dynamic value as its JSON has it."""
    return msgspec.to_builtins(value)


def headers(pairs: list[tuple[str, str]]) -> Mapping[str, str]:
    """Pairs of name and value as a map: names in lower case, repeated ones joined by ", "."""
    found: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for name, value in pairs:
        name = name.lower()
        if name not in found:
            found[name] = value
        else:
            repeated.setdefault(name, [found[name]]).append(value)
    for name, values in repeated.items():
        found[name] = ", ".join(values)
    return found


class Parts:
    """The typed details of the entry at hand and of what was added to it, made once and only when asked for."""

    def __init__(self, read: Reader, show: Callable[[Details], Details]) -> None:
        self._read = read
        self._show = show
        self._entry: Entry | None = None
        self._halves: list[Details | None] = [None, None]
        self._failed: list[bool] = [False, False]
        self._added: dict[str, Details | None] = {}

    def asked(self, entry: Entry) -> Details:
        """Those of the request."""
        return self._half(entry, entry.request, 0)

    def answered(self, entry: Entry) -> Details:
        """Those of the response."""
        return self._half(entry, entry.response, 1)

    def added(self, entry: Entry, name: str) -> Details:
        """The object that an enricher added."""
        if entry is not self._entry:
            self._take(entry)
        if name not in self._added:
            self._added[name] = None  # until it has worked
            self._added[name] = self._show(need(entry.extra)[name])
        return need(self._added[name])

    def forget(self) -> None:
        """Let go of the entry."""
        self._entry = None

    def _take(self, entry: Entry) -> None:
        self._entry = entry
        self._halves, self._failed, self._added = [None, None], [False, False], {}

    def _half(self, entry: Entry, message: Message | None, side: int) -> Details:
        if entry is not self._entry:
            self._take(entry)
        found = self._halves[side]
        if found is not None:
            return found
        if message is None or self._failed[side]:
            raise Absent
        self._failed[side] = True  # until it has worked
        found = self._halves[side] = need(self._read(message, entry.protocol))
        return found


# ---------------------------------------------------------------- numbers


def whole(value: int) -> int:
    """An integer of 64 bits; CEL's arithmetic does not wrap."""
    if -LARGEST - 1 <= value <= LARGEST:
        return value
    raise OverflowError


def divided(a: int, b: int) -> int:
    """Division that cuts towards zero, as CEL's does."""
    quotient = abs(a) // abs(b)
    return whole(quotient if (a < 0) == (b < 0) else -quotient)


def modulo(a: int, b: int) -> int:
    """The rest of `divided`: it has the sign of `a`."""
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def quotient(a: float, b: float) -> float:
    """Division of IEEE 754, which has an answer for a zero."""
    if b:
        return a / b
    if not a or a != a:
        return float("nan")
    negative = (str(a)[0] == "-") != (str(b)[0] == "-")
    return float("-inf") if negative else float("inf")


def integer(value: Any) -> int:
    """``int(x)`` of a number or of text."""
    if isinstance(value, str):
        if len(value) > 32 or not _INTEGER.fullmatch(value):
            raise ValueError
        return whole(int(value))
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, float):
        if not -(2.0**63) < value < 2.0**63:
            raise OverflowError
        return int(value)
    return whole(operator.index(value))


def decimal(value: Any) -> float:
    """``double(x)`` of a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def string(value: Any) -> str:
    """``string(x)`` of text, yes/no or an integer."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    return str(operator.index(value))


# ---------------------------------------------------------------- values of any type


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(a: Any, b: Any) -> bool:
    """Equality of CEL: numbers across their types, nothing else."""
    if is_number(a) and is_number(b):
        return bool(a == b)
    if isinstance(a, str) and isinstance(b, str):
        return a == b
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return len(a) == len(b) and all(k in b and same(v, b[k]) for k, v in a.items())
    return type(a) is type(b) and bool(a == b)


_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def ordered(how: str, a: Any, b: Any) -> bool:
    """A comparison of dynamic values: numbers, or two of one simple type."""
    if is_number(a) and is_number(b):
        return _ORDERS[how](a, b)
    if type(a) is type(b) and isinstance(a, str | bytes | bool):
        return _ORDERS[how](a, b)
    raise TypeError


_SUMS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}


def reckoned(how: str, a: Any, b: Any) -> Any:
    """Arithmetic of dynamic values: two of one type."""
    if type(a) is int and type(b) is int:
        if how in _SUMS:
            return whole(_SUMS[how](a, b))
        return divided(a, b) if how == "/" else modulo(a, b)
    if type(a) is float and type(b) is float and how != "%":
        return quotient(a, b) if how == "/" else _SUMS[how](a, b)
    if how == "+" and type(a) is type(b) and isinstance(a, str | bytes | list):
        return a + b
    raise TypeError


def negative(value: Any) -> Any:
    """Minus of a dynamic value."""
    if not is_number(value):
        raise TypeError
    return whole(-value) if isinstance(value, int) else -value


def text(value: Any) -> str:
    """A dynamic value that must be text."""
    if not isinstance(value, str):
        raise TypeError
    return value


def size(value: Any) -> int:
    """Characters, bytes or elements."""
    if not isinstance(value, str | bytes | list | tuple | Mapping):
        raise TypeError
    return len(value)


def at(items: Any, index: Any) -> Any:
    """The element of a list, counted from 0 and never from the end."""
    if not is_number(index) or index < 0 or index != int(index):
        raise IndexError
    return items[int(index)]


def pick(held: Any, key: Any) -> Any:
    """``x[key]`` of a dynamic value."""
    if isinstance(held, Mapping):
        for name, value in held.items() if is_number(key) else ():
            if same(name, key):
                return value
        if is_number(key) or isinstance(key, bool):
            raise KeyError
        return held[key]
    if isinstance(held, list | tuple):
        return at(held, key)
    raise TypeError


def inside(value: Any, held: Any) -> bool:
    """``value in held`` where a type is not known beforehand."""
    if not isinstance(held, list | tuple | Mapping):
        raise TypeError
    return any(same(value, one) for one in bounded(held))


def walk(held: Any) -> Any:
    """The elements of a dynamic list, or the keys of a map."""
    if not isinstance(held, list | tuple | Mapping):
        raise TypeError
    return bounded(held)


def holds(held: Any, name: str) -> bool:
    """``has(x.name)`` of a dynamic value."""
    if not isinstance(held, Mapping):
        raise TypeError
    return name in held


def lower(value: str) -> str:
    """Lower case of the letters A to Z alone."""
    if value.isascii():
        return value.lower()
    return "".join(c.lower() if c.isascii() else c for c in value)


def upper(value: str) -> str:
    """Upper case of the letters a to z alone."""
    if value.isascii():
        return value.upper()
    return "".join(c.upper() if c.isascii() else c for c in value)
