"""What people write and CEL does not have: ``100ms``, ``1KiB``, ``slow(100)``, ``has(src.name)``.

One pass over the text, outside of its strings and comments, turns quantities into integers (ns,
bytes), the argument of ``slow`` into ns, and ``has`` of a field into a variable of its own. It remembers
where each piece came from, so that an error points at what the user typed. Linear in the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

HAS: Final = "has_field."
"""What stands before a name in the variable that ``has(name)`` becomes."""

UNITS: Final = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 10**6, "s": 10**9,
    "m": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9,
}  # fmt: skip
SIZES: Final = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
TIMES: Final = frozenset({"latency", "duration"})
"""Names of times that people compare with times, and not with numbers of ns."""
LARGEST: Final = 2**63 - 1
"""The largest integer of CEL."""

_TOKEN: Final = re.compile(
    r"""
      (?P<comment>//[^\n]*)
    | (?P<string>
          (?:[rR][bB]?|[bB][rR])(?:\"{3}(?s:.*?)\"{3}|'{3}(?s:.*?)'{3}|"[^"\n]*"|'[^'\n]*')
        | [bB]?(?:\"{3}(?s:\\.|[^\\])*?\"{3}|'{3}(?s:\\.|[^\\])*?'{3}
                |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+|[0-9]+[uU](?![\w]))
    | (?P<quantity>(?:[0-9]+(?:\.[0-9]+)?[^\W\d_]+)+)
    | (?P<plain>[0-9]+(?:\.[0-9]+)?)
    | (?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.VERBOSE,
)
_PIECE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([^\W\d_]+)")
_SLOW: Final = "slow() takes milliseconds or a time: slow(100), slow(1.5s)"


class Wrong(Exception):
    """Something wrong at a place of the text."""

    def __init__(self, at: int, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.at = at
        self.text = text
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that was written with a unit."""

    text: str
    what: str  # "time" | "size"


@dataclass(slots=True)
class Lexed:
    """The text for the parser, and where its pieces were."""

    text: str = ""
    asked: set[str] = field(default_factory=set)  # names that has() is used with
    units: dict[int, Quantity] = field(default_factory=dict)  # by their offsets in the user's text
    _ours: list[int] = field(default_factory=list)
    _theirs: list[tuple[int, bool]] = field(default_factory=list)  # offset, whether as long

    def add(self, piece: str, at: int, *, same: bool) -> None:
        self._ours.append(len(self.text))
        self._theirs.append((at, same))
        self.text += piece

    def origin(self, offset: int, end: int) -> int:
        """The offset in the user's text, whose length is `end`."""
        if offset >= len(self.text) or not self._ours:
            return end
        number = bisect_right(self._ours, offset) - 1
        start, same = self._theirs[number]
        return start + (offset - self._ours[number] if same else 0)


def lex(text: str, is_field: Callable[[str], bool]) -> Lexed:
    """Rewrite `text`; `is_field` tells the names for which ``has`` asks of us and not of CEL."""
    tokens = [(str(m.lastgroup), m[0], m.start()) for m in _TOKEN.finditer(text)]
    times, names, words = _calls(tokens, is_field)
    lexed = Lexed()
    for number, (kind, piece, at) in enumerate(tokens):
        if number in times:
            lexed.add(str(_slow(kind, piece, at)), at, same=False)
        elif number in names:
            lexed.asked.add(piece)
            lexed.add(f"{HAS}{piece}", at, same=False)
        elif number in words:
            lexed.add(" " * len(piece), at, same=True)
        elif number and tokens[number - 1][0] == "quantity" and kind in ("plain", "number"):
            raise Wrong(at, f"{piece} has no unit", "as in 1m30s")
        elif kind == "quantity":
            lexed.add(str(quantity(piece, at)), at, same=False)
            lexed.units[at] = Quantity(piece, "time" if _PIECE.match(piece)[2] in UNITS else "size")  # type: ignore[index]
        else:
            lexed.add(piece, at, same=True)
    return lexed


def _calls(
    tokens: list[tuple[str, str, int]], is_field: Callable[[str], bool]
) -> tuple[set[int], set[int], set[int]]:
    """Numbers of the tokens that are arguments of slow, arguments of has, and the words has."""
    times, names, words = set(), set(), set()
    solid = [n for n, (kind, _, _) in enumerate(tokens) if kind not in ("space", "comment")]
    for word, bracket, argument, end in zip(solid, solid[1:], solid[2:], solid[3:], strict=False):
        called = tokens[word][1] if tokens[bracket][1] == "(" else ""
        alone = tokens[end][1] == ")"
        if called == "slow" and not alone:
            raise Wrong(tokens[argument][2], _SLOW)
        if called == "slow":
            times.add(argument)
        elif called == "has" and alone and is_field(tokens[argument][1]):
            names.add(argument)
            words.add(word)
    return times, names, words


def quantity(text: str, at: int) -> int:
    """``1m30s`` in ns, ``1.5KiB`` in bytes.

    >>> quantity("1.5s", 0), quantity("1m30s", 0), quantity("1KiB", 0)
    (1500000000, 90000000000, 1024)
    """
    total, kinds = Decimal(0), set()
    for piece in _PIECE.finditer(text):
        number, unit = piece[1], piece[2]
        table = UNITS if unit in UNITS else SIZES
        factor = table.get(unit if table is UNITS else unit.lower())
        if factor is None:
            where = at + piece.start(2)
            hint = "units are ns us ms s m h d, B kB MB KiB MiB ..."
            if unit.lower() == "xx":
                hint = f"a class of statuses: response.status / 100 == {number}"
            raise Wrong(where, f"no unit {unit}", hint)
        if len(number) > 32:
            raise Wrong(at, "this number is too large")
        total += Decimal(number) * factor
        kinds.add(table is UNITS)
    if len(kinds) != 1:
        raise Wrong(at, "a time and a size in one")
    if total != total.to_integral_value():
        raise Wrong(at, f"not a whole number of {'ns' if kinds == {True} else 'bytes'}")
    if total > LARGEST:
        raise Wrong(at, "this number is too large")
    return int(total)


def _slow(kind: str, piece: str, at: int) -> int:
    """The argument of slow in ns."""
    if kind == "string":
        piece, at = piece.strip("\"'"), at + 1
        kind = "quantity" if _PIECE.fullmatch(piece) else "plain"
    if kind == "plain" and re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,6})?", piece):
        return quantity(f"{piece}ms", at)
    if kind == "quantity" and _PIECE.search(piece):
        return quantity(piece, at)
    raise Wrong(at, _SLOW)
