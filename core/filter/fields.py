"""The names that a filter may use: those of the JSON of an entry, and how each is read.

Names, types and doc lines come from `kshark.entry_json` and from the protocols' schemas; nothing is
declared twice but the piece of Python that reads a fact of the row. That code speaks of the locals
that `kshark.filter.emit` makes: ``e`` (the entry), ``req``, ``res``, ``flow``, ``src``, ``dst``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import inspect

from kshark._spec_checks import FIELD, LEVELS, TAKEN, field_name
from kshark.api import Details, Outcome, ProtocolSpec
from kshark.entry_json import EntryJson


@dataclass(frozen=True, slots=True)
class Field:
    """A name of the language. `needs` are the conditions without which there is no such fact."""

    name: str
    type: str  # bool, int, double, string, bytes, dyn, list(T), map(string, T)
    doc: str
    code: str  # a Python expression
    needs: tuple[str, ...] = ()
    protocol: str = ""  # whose schema declares it
    risky: bool = False  # reading it may raise, which means that it is not there
    headers: bool = False  # a map of header names, which are lower-case
    values: frozenset[str] = frozenset()  # all that it can be, where that is known


_REQ: Final = ("req is not None",)
_RES: Final = ("res is not None",)
_BOTH: Final = _REQ + _RES

ROW: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "id": ('f"{flow.id}-{e.seq}"', ()),
    "time": ("time_text((res if req is None else req).first_ns)", ()),
    "protocol": ("e.protocol", ()),
    "transport": ("flow.transport", ()),
    "request.verb": ("req.verb", _REQ),
    "request.target": ("req.target", _REQ),
    "request.size": ("req.size", _REQ),
    "request.time": ("time_text(req.first_ns)", _REQ),
    "response.status": ("res.status", (*_RES, "res.status != 0")),
    "response.ok": ("res.ok", _RES),
    "response.size": ("res.size", _RES),
    "response.time": ("time_text(res.first_ns)", _RES),
    "response.error": ("res.target", (*_RES, 'res.target != "" and not res.ok')),
    "latency_ns": ("(res.first_ns - req.first_ns)", _BOTH),
    "duration_ns": ("(res.last_ns - req.first_ns)", _BOTH),
    "outcome": ("e.outcome", ()),
    "gap_bytes": ("e.gap_bytes", ()),
    "midstream": ("e.midstream", ()),
    "truncated": ("e.truncated", ()),
    "backend": ("flow.backend", ()),
    "notes": ("notes_of(req, res)", ()),
    **{
        f"{end}.{name}": (f"{end}.{name}", (f"{end}.{name} is not None",) if optional else ())
        for end in ("src", "dst")
        for name, optional in {
            "ip": False,
            "port": False,
            "name": True,
            "dns": True,
            "pid": True,
            "comm": True,
            "tid": True,
            "cgroup": True,
            "netns": True,
        }.items()
    },
}
"""How each fact of a row is read, and what it needs. `EntryJson` has its type and doc line."""

HALVES: Final[Mapping[str, tuple[str, ...]]] = {"request": _REQ, "response": _RES}
"""What ``has(request)`` means."""

_SHORT: Final = (
    Field("error", "bool", 'The outcome is "error"', '(e.outcome == "error")'),
    Field("latency", "int", "latency_ns, in ns; compare with 100ms", *ROW["latency_ns"]),
    Field("duration", "int", "duration_ns, in ns; compare with 1.5s", *ROW["duration_ns"]),
)


def known_fields(
    protocols: Mapping[str, ProtocolSpec], adds: Mapping[str, type[Details]] | None = None
) -> dict[str, Field]:
    """Every field by name: of the row, the short forms, of each protocol, and of what enrichers add.

    A hyphen in the name of a protocol or of an added object is written _.
    """
    found = {field.name: field for field in (*_row(EntryJson, "", 0), *_SHORT)}
    for spec in protocols.values():
        if (name := _free(spec.name, found)) is not None:
            found |= {field.name: field for field in _of(name, spec)}
    found["protocol"] = replace(found["protocol"], values=frozenset(protocols))
    found["outcome"] = replace(found["outcome"], values=frozenset(Outcome))
    for own, kind in (adds or {}).items():
        if (name := _free(own, found)) is not None:
            found |= {field.name: field for field in _added(name, own, kind)}
    return found


def _free(name: str, found: Mapping[str, Field]) -> str | None:
    """The name as filters write it, where they can and it is free."""
    name = name.replace("-", "_")
    return name if FIELD.match(name) and name not in TAKEN and name not in found else None


def _row(kind: type, before: str, level: int) -> Iterator[Field]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for one in info.fields:
        bare, text = _bare(one.type)
        name = f"{before}{one.encode_name}"
        if isinstance(bare, inspect.StructType):
            yield from _row(bare.cls, f"{name}.", level + 1)
        else:
            code, needs = ROW[name]
            yield Field(name, _type(bare), text, code, needs)


def _of(name: str, spec: ProtocolSpec) -> Iterator[Field]:
    """The fields of a protocol: its name as a yes or no, and those of its schema."""
    this = f"(e.protocol == {spec.name!r})"  # FIELD has looked at it
    yield Field(name, "bool", spec.doc, this, protocol=spec.name)
    if spec.details is None:
        return
    for half, kind in (("request", spec.request), ("response", spec.response)):
        if kind is not None:
            read = "asked(e)" if half == "request" else "answered(e)"
            needs = (this, *HALVES[half])
            yield from _schema(spec.name, f"{name}.{half}", kind, read, needs, 1)


def _added(name: str, own: str, kind: type[Details]) -> Iterator[Field]:
    """The fields of an object that an enricher adds: its name as a yes or no, and those of its schema."""
    this = f"(e.extra is not None and {own!r} in e.extra)"  # FIELD has looked at it
    first = (kind.__doc__ or "").partition("\n")[0]
    yield Field(name, "bool", first or f"An enricher has added {own}", this)
    yield from _schema("", name, kind, f"added(e, {own!r})", (this,), 1)


def _schema(
    protocol: str, before: str, kind: type, read: str, needs: tuple[str, ...], level: int
) -> Iterator[Field]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for one in info.fields:
        if field_name(one.encode_name) or field_name(one.name):
            continue  # refused when it was registered
        name, code = f"{before}.{one.encode_name}", f"need({read}.{one.name})"
        bare, text = _bare(one.type)
        if isinstance(bare, inspect.StructType) and level < LEVELS:
            yield from _schema(protocol, name, bare.cls, code, needs, level + 1)
            continue
        headers, shape = _pairs(bare), _type(bare)
        if headers:
            code, shape = f"headers({code})", "map(string, string)"
        elif shape == "dyn":
            code = f"plain({code})"
        yield Field(name, shape, text, code, needs, protocol, risky=True, headers=headers)


def _bare(kind: Any) -> tuple[Any, str]:
    """A type without its descriptions and without None, and the description."""
    text = ""
    while True:
        if isinstance(kind, inspect.Metadata):
            text = text or (kind.extra_json_schema or {}).get("description", "")
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            some = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
            if len(some) != 1:
                return kind, text
            kind = some[0]
        else:
            return kind, text


_SCALARS: Final[Mapping[type, str]] = {
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "double",
    inspect.StrType: "string",
    inspect.BytesType: "bytes",
}


def _type(kind: Any) -> str:
    """The type in the language: what is not listed here is dynamic, as its JSON has it."""
    scalar = _SCALARS.get(type(kind))
    if scalar is not None:
        return scalar
    if isinstance(kind, inspect.ListType):
        inner = _SCALARS.get(type(_bare(kind.item_type)[0]))
        return f"list({inner})" if inner else "dyn"
    if isinstance(kind, inspect.DictType) and isinstance(kind.key_type, inspect.StrType):
        inner = _SCALARS.get(type(_bare(kind.value_type)[0]))
        return f"map(string, {inner})" if inner else "dyn"
    return "dyn"


def _pairs(kind: Any) -> bool:
    """Whether this is a list of (name, value): headers."""
    if not isinstance(kind, inspect.ListType):
        return False
    item = kind.item_type
    return (
        isinstance(item, inspect.TupleType)
        and len(item.item_types) == 2
        and all(isinstance(one, inspect.StrType) for one in item.item_types)
    )
