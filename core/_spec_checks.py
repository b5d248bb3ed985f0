"""What a plugin registers, checked: msgspec does not look at the types of what code passes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from keyword import iskeyword
from typing import Any, Final, get_args
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from kshark.api import (
    BackendSpec,
    Details,
    EnricherSpec,
    Options,
    ProtocolSpec,
    Redact,
    SinkSpec,
    never,
)
from kshark.entry_json import EntryJson

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
OWN: Final = frozenset({"auto", "tcp", "udp", "icmp", "opaque", "unknown"})
"""Names that kshark uses itself: for the choice of a backend, and for flows that nobody claims."""
ENTRY: Final = frozenset(field.name for field in fields(EntryJson))
"""Members of an entry's JSON: no other object may replace one."""
FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
TAKEN: Final = frozenset(
    {
        *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import"),
        *("in", "let", "loop", "package", "namespace", "null", "return", "true", "var", "void"),
        "while",
    }
)
"""Words that CEL reserves: no field can be called so."""
LEVELS: Final = 3
"""Structs within structs of a schema whose fields have names in filters."""
FANOUT_KEYS: Final = frozenset({"filter", "policy", "queue"})
"""Options that every sink has, from the fan-out."""


def check(spec: Any, expected: type[Any], *, names: bool = True) -> str:
    """ "" or what is wrong with a spec; `names`: those of its fields, too, which takes a millisecond."""
    if not isinstance(spec, expected):
        return f"{expected.__name__} expected, not {_shown(spec)}"
    if not isinstance(spec.name, str) or not NAME.match(spec.name):
        return f"{spec.name!r} is not a name (a-z, 0-9, - and _, from a letter, at most 40)"
    if spec.name in OWN:
        return f"the name {spec.name!r} is kshark's own"
    if not isinstance(spec.doc, str):
        return f"{spec.name}: doc must be a string"
    found = _CHECKS[expected](spec)
    if not found and names:
        found = list(_names(spec))
    return next((f"{spec.name}: {wrong}" for wrong in found), "")


def field_name(name: str) -> str:
    """ "" or why a filter could not say this name of a field, with one that it could.

    >>> field_name("function")
    "cannot be called so: 'function' is a reserved word of filters; call it 'function_'"
    """
    if FIELD.match(name) and name not in TAKEN and not iskeyword(name):
        return ""
    better = re.sub(r"\W", "_", name, flags=re.ASCII) or "field"
    better = f"field_{better}" if better[0].isdigit() else better
    if not FIELD.match(name):
        what = "is no name"
    elif name in TAKEN:
        what = "is a reserved word of filters"
    else:
        what = "is a word of Python"
    if better in TAKEN or iskeyword(better):
        better += "_"
    return f"cannot be called so: {name!r} {what}; call it {better!r}"


def _names(spec: Any) -> Iterator[str]:
    """What is wrong with the names of the fields that a spec declares."""
    for half in ("request", "response") if isinstance(spec, ProtocolSpec) else ():
        if (schema := getattr(spec, half)) is not None:
            yield from _fields(schema, half)
    for name, kind in spec.adds.items() if isinstance(spec, EnricherSpec) else ():
        yield from _fields(kind, name)


def _fields(schema: type[Struct], before: str, level: int = 1) -> Iterator[str]:
    """What is wrong with the names of a schema's fields."""
    try:
        found = fields(schema)
    except Exception as error:  # annotations are the plugin's own code
        yield f"the types of {before} cannot be read: {error}"
        return
    for one in found:
        if wrong := field_name(one.encode_name):
            yield f"the field {before}.{one.encode_name} {wrong}"
        for kind in within(one.type):
            if level < LEVELS:
                yield from _fields(kind, f"{before}.{one.encode_name}", level + 1)


def within(kind: Any) -> Iterator[type[Struct]]:
    """The structs in a type."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
    for inner in get_args(kind):
        yield from within(inner)


def _shown(spec: Any) -> str:
    name = getattr(spec, "__name__", "")
    return f"the class {name}" if name else type(spec).__name__


def _callable(spec: Any, *names: str) -> list[str]:
    return [f"{n} must be callable" for n in names if not callable(getattr(spec, n))]


def _optional(spec: Any, *names: str) -> list[str]:
    return _callable(spec, *(n for n in names if getattr(spec, n) is not None))


def _options(spec: Any) -> list[str]:
    if not (isinstance(spec.options, type) and issubclass(spec.options, Options)):
        return ["options must be a subclass of kshark.api.Options"]
    return []


def _protocol(spec: ProtocolSpec) -> list[str]:
    found = _callable(spec, "dissector") + _optional(spec, "probe", "details", "layer")
    if spec.transport not in ("tcp", "udp"):
        found.append(f"transport must be tcp or udp, not {spec.transport!r}")
    for field in ("magic", "replies"):
        value: object = getattr(spec, field)
        if not isinstance(value, tuple) or not all(isinstance(m, bytes) and m for m in value):
            found.append(f"{field} must be a tuple of bytes, none of them empty")
    ports: object = spec.ports
    if not isinstance(ports, tuple) or not all(isinstance(p, int) and 0 < p < 65536 for p in ports):
        found.append("ports must be a tuple of port numbers")
    for field in ("request", "response"):
        schema = getattr(spec, field)
        if schema is not None and not (isinstance(schema, type) and issubclass(schema, Details)):
            found.append(f"{field} must be a subclass of kshark.api.Details")
    if not isinstance(spec.target_redact, Redact):
        found.append("target_redact must be a kshark.api.Redact")
    return found + _over(spec) + _also(spec)


def _over(spec: ProtocolSpec) -> list[str]:
    """What comes in other protocols."""
    found = []
    for field in ("over", "types"):
        value: object = getattr(spec, field)
        if not isinstance(value, tuple) or not all(
            isinstance(name, str) and name for name in value
        ):
            found.append(f"{field} must be a tuple of names, none of them empty")
    if spec.layer is not None and not (spec.over and spec.types):
        found.append("a layer needs over (its carriers) and types (of content)")
    if spec.dissector is never and spec.layer is None and spec.name not in OWN:
        found.append("it has neither a dissector nor a layer")
    return found


SHARED: Final = ("name", "request", "response", "details", "target_redact")
"""What a protocol has once, whatever its transport."""


def _also(spec: ProtocolSpec) -> list[str]:
    """The same protocol on other transports."""
    others: object = spec.also
    if not isinstance(others, tuple) or not all(isinstance(o, ProtocolSpec) for o in others):
        return ["also must be a tuple of ProtocolSpec"]
    found = []
    transports = [spec.transport, *(other.transport for other in spec.also)]
    if len(set(transports)) < len(transports):
        found.append(f"also must be of other transports, not {', '.join(map(repr, transports))}")
    for other in spec.also:
        differ = [name for name in SHARED if getattr(other, name) is not getattr(spec, name)]
        differ = [n for n in differ if getattr(other, n) != getattr(spec, n)]
        if differ:
            found.append(f"also must have the same {differ[0]}")
        if other.also:
            found.append("also must have no also of its own")
        found += _protocol(other) if not other.also else []
    return found


def _backend(spec: BackendSpec) -> list[str]:
    found = _callable(spec, "make") + _optional(spec, "available") + _options(spec)
    if not isinstance(spec.rank, int):
        found.append("rank must be a number")
    return found


def _sink(spec: SinkSpec) -> list[str]:
    found = _callable(spec, "make") + _options(spec)
    if not found and (taken := FANOUT_KEYS & set(spec.options.__struct_encode_fields__)):
        found.append(f"the option {min(taken)!r} is one that kshark gives every sink")
    return found


def _enricher(spec: EnricherSpec) -> list[str]:
    found = _callable(spec, "make") + _options(spec)
    if not isinstance(spec.adds, Mapping):
        return [*found, "adds must be a mapping of names to types"]
    for name, kind in spec.adds.items():
        if not isinstance(name, str) or not NAME.match(name) or name in ENTRY:
            found.append(f"adds {name!r}, which is no name for an object of an entry")
        elif not (isinstance(kind, type) and issubclass(kind, Details)):
            found.append(f"adds {name}, which must be a subclass of kshark.api.Details")
    return found


PLAIN: Final = (bytes, bytearray, memoryview, datetime, date, time, timedelta, UUID, Decimal)
"""Values that JSON has no type for: as they are, they fit a field of their own type alone."""


def misfit(details: Details) -> str:
    """ "" or which field of typed details is not what its declaration says: Python does not look."""
    try:
        msgspec.convert(
            msgspec.to_builtins(details, builtin_types=PLAIN), type(details), builtin_types=PLAIN
        )
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        what, _, where = str(error).partition(" - at ")
        field = where.strip("`").removeprefix("$.") or "a field"
        kind = type(getattr(details, field, None)).__name__
        return f"{type(details).__name__}.{field} is {kind}: {what[:1].lower()}{what[1:]}"
    return ""


_CHECKS: Final[Mapping[type[Any], Callable[[Any], list[str]]]] = {
    ProtocolSpec: _protocol,
    BackendSpec: _backend,
    SinkSpec: _sink,
    EnricherSpec: _enricher,
}
