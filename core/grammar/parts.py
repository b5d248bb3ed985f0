"""What a `construct` struct is made of: its named fields, through wrappers, lists, `If` and `Switch`.

A field of a `Switch` or an `If` is there in some messages only; for names, types, docs and redaction it is
there all the same. What is not looked into (expressions, adapters, unions) has no parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Final

DEPTH: Final = 16
"""Nested structs that are followed."""
NAMES: Final = 1_000
"""Dotted names of a struct that are gathered, for a suggestion."""
_WRAPPERS: Final = frozenset(
    {"Renamed", "Rebuild", "Default", "Const", "Padded", "Aligned", "FixedSized", "Prefixed"}
    | {"Transformed", "Restreamed", "NullTerminated", "NullStripped", "Peek", "Hex", "HexDump"}
    | {"ExprValidator", "ProcessXor", "ProcessRotateLeft"}
)
LISTS: Final = frozenset({"Array", "GreedyRange", "PrefixedArray", "RepeatUntil"})
STRUCTS: Final = frozenset({"Struct", "LazyStruct"})
_NONE: Final = frozenset({"Pass", "Error"})


def unnamed(sub: Any) -> Any:
    """Without its name and what does not change the value."""
    for _ in range(2 * DEPTH):
        if type(sub).__name__ not in _WRAPPERS or not hasattr(sub, "subcon"):
            break
        sub = sub.subcon
    return sub


def bare(struct: Any) -> Any:
    """The struct inside wrappers, a compiled one included."""
    return unnamed(getattr(struct, "defersubcon", None) or struct)


def kind_of(sub: Any) -> str:
    """construct's name for it."""
    return type(sub).__name__


def branches(sub: Any, depth: int = 0) -> list[Any]:
    """What a field may be: the cases of a `Switch`, both sides of an `If`, each once; else itself.

    `Pass` and `Error` are no value, and so no branch.
    """
    sub = bare(sub)
    kind = kind_of(sub)
    if kind == "Switch":
        inner = [*sub.cases.values(), sub.default]
    elif kind == "IfThenElse":
        inner = [sub.thensubcon, sub.elsesubcon]
    elif kind == "Select":
        inner = list(sub.subcons)
    else:
        return [] if kind in _NONE else [sub]
    if depth > DEPTH:
        return []
    found = {id(part): part for one in inner for part in branches(one, depth + 1)}
    return list(found.values())


def optional(sub: Any) -> bool:
    """Whether a field may be absent: one of an `If` without an else, or in an `Optional`."""
    sub = bare(sub)
    if kind_of(sub) == "IfThenElse":
        return "Pass" in (kind_of(bare(sub.thensubcon)), kind_of(bare(sub.elsesubcon)))
    return kind_of(sub) == "Select" and any(kind_of(bare(one)) == "Pass" for one in sub.subcons)


def shown(sub: Any) -> bool:
    """Whether a part has a name that does not begin with ``_``."""
    return bool(sub.name) and not str(sub.name).startswith("_")


def fields(subs: Iterable[Any], *, lists: bool = True) -> dict[str, list[Any]]:
    """The named fields of structs by name: more than one where several branches have it.

    `lists`: those of a list are the fields of its items.
    """
    found: dict[str, list[Any]] = {}
    for sub in subs:
        for one in branches(sub):
            if kind_of(one) in STRUCTS:
                for part in one.subcons:
                    if shown(part):
                        found.setdefault(str(part.name), []).append(part)
            elif lists and kind_of(one) in LISTS and hasattr(one, "subcon"):
                for name, parts in fields([one.subcon]).items():
                    found.setdefault(name, []).extend(parts)
    return found


def resolve(struct: Any, path: str, *, lists: bool = True) -> list[Any]:
    """What a dotted name stands for: a part for each branch that has it, none where it is no field."""
    subs = [struct]
    for name in path.split("."):
        subs = fields(subs, lists=lists).get(name, [])
    return subs


def names(struct: Any, *, lists: bool = True) -> list[str]:
    """Dotted names of all fields, outer ones first."""
    return list(_names([struct], "", lists, NAMES))


def _names(subs: Iterable[Any], before: str, lists: bool, left: int) -> Iterator[str]:
    if before.count(".") > DEPTH:
        return
    inner = fields(subs, lists=lists)
    for name in inner:
        left -= 1
        if left < 0:
            return
        yield before + name
    for name, parts in inner.items():
        yield from _names(parts, f"{before}{name}.", lists, left)


def meant(path: str, known: Iterable[str]) -> str:
    """``; did you mean body.password?``, or the names that there are."""
    known = list(dict.fromkeys(known))
    last = path.rpartition(".")[2]
    close = [one for one in known if one.rpartition(".")[2] == last]
    close = close or get_close_matches(path, known, n=2, cutoff=0.8)
    close = close or get_close_matches(path, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close[:3])}?"
    listed = ", ".join(known[:12])
    return f"; there is {listed}{' ...' if len(known) > 12 else ''}" if listed else ""
