"""Typed details from a `construct` struct: its named fields, their types and their docs.

Integers, flags, floats, strings, enumerations, bytes, nested structs and arrays of them have types; what depends on
the bytes (Switch, IfThenElse, expressions) is anything. Names that begin with ``_`` are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from kshark.api import Details, Redact, doc
from kshark.talk import legible

DEPTH: Final = 16
"""Nested structs that are followed."""
_WRAPPERS: Final = frozenset(
    {"Renamed", "Rebuild", "Default", "Const", "Padded", "Aligned", "FixedSized", "Prefixed"}
    | {"Transformed", "Restreamed", "NullTerminated", "NullStripped", "Peek"}
)
_NUMBERS: Final = frozenset({"FormatField", "BytesInteger", "BitsInteger", "VarInt", "ZigZag"})
_TEXT: Final = frozenset({"Bytes", "GreedyBytes", "StringEncoded", "Enum"})
_LISTS: Final = frozenset({"Array", "GreedyRange", "PrefixedArray", "RepeatUntil"})


def details_of(
    name: str, struct: Any, redact: Mapping[str, Redact] | None = None, path: str = ""
) -> type[Details]:
    """A `Details` for a struct; `redact` gives classes to fields by their dotted names."""
    fields: list[tuple[str, Any, Any]] = []
    for sub in getattr(bare(struct), "subcons", ()):
        if not sub.name or sub.name.startswith("_") or not sub.name.isidentifier():
            continue
        where = f"{path}{sub.name}"
        secret = (redact or {}).get(where, Redact.NONE)
        kind = type_of(f"{name}_{sub.name}", sub, redact, f"{where}.")
        text = " ".join(str(getattr(sub, "docs", "") or "").split()) or where.replace("_", " ")
        fields.append((sub.name, Annotated[kind | None, doc(text, redact=secret)], None))
    made: Any = msgspec.defstruct(
        name, fields, bases=(Details,), kw_only=True, omit_defaults=True, module=__name__
    )
    found: type[Details] = made
    return found


def type_of(name: str, sub: Any, redact: Mapping[str, Redact] | None, path: str) -> Any:
    """The Python type of a field's value, as `plain` gives it."""
    sub = unnamed(sub)
    kind = type(sub).__name__
    if kind in _NUMBERS:
        return float if kind == "FormatField" and sub.fmtstr[-1:] in "efd" else int
    if kind == "Flag":
        return bool
    if kind in _TEXT:
        return str
    if kind == "FlagsEnum":
        return dict[str, bool]
    if kind == "Struct" and path.count(".") < DEPTH:
        return details_of(name, sub, redact, path)
    if kind in _LISTS and hasattr(sub, "subcon"):
        return list[type_of(name, sub.subcon, redact, path)]  # type: ignore[misc]
    return Any


def unnamed(sub: Any) -> Any:
    """Without its name and what does not change the value."""
    for _ in range(DEPTH):
        if type(sub).__name__ not in _WRAPPERS or not hasattr(sub, "subcon"):
            break
        sub = sub.subcon
    return sub


def bare(struct: Any) -> Any:
    """The struct inside wrappers, a compiled one included."""
    return unnamed(getattr(struct, "defersubcon", None) or struct)


def plain(value: Any, depth: int = 0) -> Any:
    """What construct parsed, as plain values: dicts, lists, numbers, text.

    Bytes become text where they are legible, else hex digits.
    """
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):  # an enumeration's value without a name, too
        return int(value)
    if isinstance(value, bytes | bytearray):
        return shown(bytes(value))
    if depth > DEPTH:
        return "..."
    if isinstance(value, Mapping):
        items = value.items()
        return {str(k): plain(v, depth + 1) for k, v in items if not str(k).startswith("_")}
    if isinstance(value, Sequence):
        return [plain(item, depth + 1) for item in value]
    return repr(value)


def shown(data: bytes) -> str:
    """Bytes for a reader: UTF-8 where that is legible, else hex digits."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data.hex(" ")
    if text.isprintable() or legible(data):
        return text
    return data.hex(" ")


def fill(details: type[Details], values: Mapping[str, Any]) -> Details:
    """`details` from plain values; names that it does not have are left out.

    A field whose value is not of its type is left out, too: a typed schema never lies.
    """
    found: dict[str, Any] = {}
    for info in msgspec.structs.fields(details):
        if info.name in values:
            try:
                found[info.name] = msgspec.convert(values[info.name], info.type, strict=False)
            except msgspec.ValidationError:
                continue
    return details(**found)
