"""Entries as JSON and as typed details: what every sink asks the application for.

Rows come from `kshark._rows` (compiled) or `kshark.rows` (its plain twin), equal byte for byte. The
protocol's own object is asked for only with ``full``; it is redacted unless the user says
otherwise, and a plugin's mistake there costs that object and not the entry. An entry that cannot be shown
costs that entry alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from kshark import _pure
from kshark.api import Details, Entry, Message, ProtocolSpec
from kshark.breaker import Charge, Post
from kshark.entry_json import EntryJson
from kshark.faults import Faults, Raised, others, shown
from kshark.given import Rubbish
from kshark.limits import OBJECT
from kshark.redact import Redactor
from kshark.rows import scrub

if TYPE_CHECKING or _pure.pure("kshark._rows"):
    from kshark.rows import Rows
else:
    try:
        from kshark._rows import Rows
    except ImportError:
        from kshark.rows import Rows

RESERVED: Final = frozenset(field.name for field in msgspec.structs.fields(EntryJson))
"""Names that no protocol may have: its object would replace a fact of the row."""

T = TypeVar("T")
Unshown = Callable[[Entry, Exception], None]

ADDED: Final = "what enrichers added"
_OBJECT_DOC: Final = "The protocol's own view, with full: its typed details"


class Renderer:
    """Renders entries for sinks by the schemas of the protocols at hand.

    >>> Renderer({}).encode([])
    b''
    """

    def __init__(
        self,
        protocols: Mapping[str, ProtocolSpec],
        redact: bool = True,
        adds: Mapping[str, type[Details]] | None = None,
    ) -> None:
        self.protocols = protocols
        self.adds = adds or {}  # of enrichers, for the schema
        self._redactor = Redactor() if redact else None
        self._rows = Rows()
        self._post, self._faults = Post(), Faults()
        self._charges: dict[str, Charge] = {}

    def report_to(self, post: Post, faults: Faults) -> None:
        """Whose breaker watches over details(), and who hears of its mistakes."""
        self._post, self._faults = post, faults

    def encode(
        self, batch: Sequence[Entry], *, full: bool = False, unshown: Unshown | None = None
    ) -> bytes:
        """The entries as JSON, one object a line; with `full`, each with its protocol's object.

        `unshown` is told of each entry for which that fails, and the others are shown; without it, it raises.
        """
        try:
            return self._encode(batch, full)
        except Exception:
            if unshown is None:
                raise
        lines = []
        for entry in batch:
            try:
                lines.append(self._encode([entry], full))
            except Exception as error:
                unshown(entry, error)
        return b"".join(lines)

    def _encode(self, batch: Sequence[Entry], full: bool) -> bytes:
        if not full or not batch:
            return self._rows.encode(batch)
        return self._rows.encode(batch, [self._members(entry) for entry in batch])

    def as_dict(self, entry: Entry, full: bool = False) -> dict[str, Any]:
        """The same as a dict of plain values."""
        row: dict[str, Any] = msgspec.json.decode(self.encode([entry], full=full))
        return row

    def details(self, message: Message, protocol: str) -> Details | None:
        """The typed details of a message, redacted; None where the protocol has no schema.

        Raises what the plugin raises, and `TypeError` where it returns something else.
        """
        spec = self.protocols.get(protocol)
        if spec is None or spec.details is None:
            return None
        return self._charged(protocol, self._details, spec, message)

    def shown(self, details: Details) -> Details:
        """Details as sinks see them: redacted by their own schema."""
        return self._charged(ADDED, self._redacted, details)

    def _details(self, spec: ProtocolSpec, message: Message) -> Details:
        assert spec.details is not None
        found = spec.details(message)
        if not isinstance(found, Details):
            raise Rubbish(f"details() gave {type(found).__name__}, not Details")
        return self._redacted(found)

    def _redacted(self, details: Details) -> Details:
        if not isinstance(details, Details):
            raise Rubbish(f"an object is {type(details).__name__}, not Details")
        return details if self._redactor is None else self._redactor.apply(details)

    def _charged(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call a plugin's code, or what meets its objects; of what it raises, Exceptions alone come out."""
        charge = self._charges.get(name)
        if charge is None:
            what = ADDED if name == ADDED else f"details() of {name}"
            charge = self._charges[name] = Charge(what)
        if charge.tripped:
            raise Raised(charge.tripped)
        try:
            return self._post.call(charge, function, *arguments)
        except BaseException as error:
            if others(error, charge):
                raise
            self._faults.blame(name, "details()", error, "entries go on without them")
            if isinstance(error, Exception):
                raise
            raise Raised(shown(error)) from error

    def schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of a line, with the object of every protocol."""
        specs = [spec for spec in self.protocols.values() if spec.details is not None]
        kinds = [kind for spec in specs for kind in (spec.request, spec.response) if kind]
        wanted = list(dict.fromkeys([EntryJson, *kinds, *self.adds.values()]))
        found, components = msgspec.json.schema_components(wanted, ref_template="#/$defs/{name}")
        refs = dict(zip(wanted, found, strict=True))
        for part in components.values():  # until Python 3.13 a docstring keeps its indentation
            part["description"] = cleandoc(part.get("description", ""))
        entry = components["EntryJson"]
        for spec in specs:
            entry["properties"][spec.name] = _object_schema(spec, refs)
        for name, kind in self.adds.items():
            entry["properties"].setdefault(name, refs[kind])
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "kshark entry",
            **refs[EntryJson],
            "$defs": components,
        }

    def _has_details(self, protocol: str) -> bool:
        spec = self.protocols.get(protocol)
        return spec is not None and spec.details is not None and protocol not in RESERVED

    def _members(self, entry: Entry) -> bytes:
        """The objects that follow a row: the protocol's, and what enrichers added."""
        if not entry.extra:
            return self._member(entry)
        taken = {entry.protocol, *RESERVED}
        added = (self._added(n, d) for n, d in entry.extra.items() if n not in taken)
        return b"".join((self._member(entry), *added))

    def _added(self, name: str, details: Details) -> bytes:
        """``,"genai":{...}``, redacted by its own schema."""
        try:
            found = self._charged(ADDED, self._object_of, details)
        except Exception as error:  # a plugin's object; its text may quote what is secret
            found = _json({"error": f"{name} cannot be shown: {shown(error)}"})
        return b"," + _json(name) + b":" + found

    def _object_of(self, details: Details) -> bytes:
        return _bounded(_json(self._redacted(details)))

    def _member(self, entry: Entry) -> bytes:
        """``,"http":{...}``, or nothing for a protocol without details."""
        name = entry.protocol
        if not self._has_details(name):
            return b""
        try:
            found = self._charged(name, self._object, self.protocols[name], entry)
        except Exception as error:  # its text may quote what redaction would have hidden
            found = _json({"error": f"details() failed: {shown(error)}"})
        return b"," + _json(name) + b":" + found

    def _object(self, spec: ProtocolSpec, entry: Entry) -> bytes:
        request, response = entry.request, entry.response
        return _bounded(
            _json(
                {
                    "request": None if request is None else self._details(spec, request),
                    "response": None if response is None else self._details(spec, response),
                }
            )
        )


def _bounded(found: bytes) -> bytes:
    if len(found) > OBJECT:
        raise Rubbish(f"an object of more than {OBJECT:,} bytes")
    return found


def _json(value: Any) -> bytes:
    """JSON, whatever the strings hold."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_scrubbed(msgspec.to_builtins(value)))


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, list | tuple):
        return [_scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {_scrubbed(name): _scrubbed(item) for name, item in value.items()}
    return value


def _object_schema(spec: ProtocolSpec, refs: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    """The schema of ``"<protocol>": {"request": ..., "response": ...}``, or its error."""
    halves = {"request": spec.request, "response": spec.response}
    properties: dict[str, Any] = {
        name: {"anyOf": [refs[kind], {"type": "null"}]} if kind else {}
        for name, kind in halves.items()
    }
    properties["error"] = {"type": "string", "description": "Why there are no details"}
    return {"type": "object", "description": _OBJECT_DOC, "properties": properties}
