"""Typed details from a `construct` struct: its named fields, their types and their docs.

Integers, flags, floats, strings, enumerations, bytes, nested structs and arrays of them have types. A field of
an `If` has the type of what is in it; a `Switch` over structs is one struct with the fields of all its branches.
What depends on the bytes otherwise (a Switch over different types, expressions) is anything. Names that begin
with ``_`` are left out.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from kshark._spec_checks import field_name
from kshark.api import Details, PluginError, Redact, doc
from kshark.grammar.parts import DEPTH, LISTS, STRUCTS, branches, fields, kind_of
from kshark.grammar.parts import bare as bare
from kshark.talk import legible

_NUMBERS: Final = frozenset({"FormatField", "BytesInteger", "BitsInteger", "VarInt", "ZigZag"})
_TEXT: Final = frozenset({"Bytes", "GreedyBytes", "StringEncoded", "Enum"})


def details_of(
    name: str,
    struct: Any,
    redact: Mapping[str, Redact] | None = None,
    path: str = "",
    module: str = __name__,
) -> type[Details]:
    """A `Details` for a struct; `redact` gives classes to fields by their dotted names."""
    return _Derived(redact or {}, module).details(name, [struct], path)


class _Derived:
    """Makes the types of one grammar's side."""

    def __init__(self, redact: Mapping[str, Redact], module: str) -> None:
        self.redact = redact
        self.module = module

    def details(self, name: str, structs: Sequence[Any], path: str) -> type[Details]:
        """A `Details` with the fields of all these structs."""
        made: list[tuple[str, Any, Any]] = []
        for own, subs in fields(structs, lists=False).items():
            where = f"{path}{own}"
            if wrong := field_name(own):
                raise PluginError(f"the field {where!r} {wrong}")
            kind = self.type(f"{name}_{own}", subs, f"{where}.")
            secret = self.redact.get(where, Redact.NONE)
            if kind is Any and any(one.startswith(f"{where}.") for one in self.redact):
                secret = Redact.VALUE  # which of the branches it is cannot be told: hide all of it
            said = (" ".join(str(getattr(sub, "docs", "") or "").split()) for sub in subs)
            text = next(filter(None, said), "")
            made.append((own, Annotated[kind | None, doc(text, redact=secret)], None))
        found: Any = msgspec.defstruct(
            name, made, bases=(Details,), kw_only=True, omit_defaults=True, module=self.module
        )
        details: type[Details] = found
        return details

    def type(self, name: str, subs: Sequence[Any], path: str) -> Any:
        """The Python type of a field's value, as `plain` gives it; `subs`: what it is in each branch."""
        inner = [one for sub in subs for one in branches(sub)]
        if inner and all(kind_of(one) in STRUCTS for one in inner) and path.count(".") < DEPTH:
            return self.details(name, inner, path)
        if inner and all(kind_of(one) in LISTS and hasattr(one, "subcon") for one in inner):
            return list[self.type(name, [one.subcon for one in inner], path)]  # type: ignore[misc]
        found = {simple(one) for one in inner}
        return found.pop() if len(found) == 1 else Any


def simple(sub: Any) -> Any:
    """The Python type of a value without parts."""
    kind = kind_of(sub)
    if kind in _NUMBERS:
        return float if kind == "FormatField" and sub.fmtstr[-1:] in "efd" else int
    if kind == "Flag":
        return bool
    if kind in _TEXT:
        return str
    if kind == "FlagsEnum":
        return dict[str, bool]
    return Any


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


# ---------------------------------------------------------------- values


def fill(
    details: type[Details], values: Mapping[str, Any], misfits: dict[str, str] | None = None
) -> Details:
    """`details` from plain values; names that it does not have are left out.

    A field whose value is not of its type is left out, too, for a typed schema never lies: `misfits` gets
    the name of it, with the reason.
    """
    found: dict[str, Any] = {}
    for name, kind in _types(details):
        if values.get(name) is not None:
            try:
                found[name] = _fitted(kind, values[name], misfits, f"{name}.")
            except msgspec.ValidationError as error:
                if misfits is not None:
                    misfits[name] = str(error)
    return details(**found)


@lru_cache(maxsize=512)
def _types(details: type[Details]) -> tuple[tuple[str, Any], ...]:
    """Names of the fields with their types, None taken away."""
    return tuple((one.name, certain(one.type)) for one in msgspec.structs.fields(details))


def certain(kind: Any) -> Any:
    """A type without its description and without None."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        rest = [one for one in get_args(kind) if one is not type(None)]
        if len(rest) == 1:
            return certain(rest[0])
    return kind


def is_details(kind: Any) -> bool:
    """Whether a type is a struct of details."""
    return isinstance(kind, type) and issubclass(kind, Details)


def _fitted(kind: Any, value: Any, misfits: dict[str, str] | None, path: str) -> Any:
    if kind is Any:
        return value
    if is_details(kind) and isinstance(value, Mapping):
        inner: dict[str, str] | None = None if misfits is None else {}
        made = fill(kind, value, inner)
        if misfits is not None and inner:
            misfits |= {path + name: why for name, why in inner.items()}
        return made
    if get_origin(kind) is list and isinstance(value, list):
        item = certain(get_args(kind)[0])
        return [_fitted(item, one, misfits, path) for one in value]
    if kind is str and type(value) is int:  # of an enumeration, without a name
        return str(value)
    return msgspec.convert(value, kind, strict=False)
