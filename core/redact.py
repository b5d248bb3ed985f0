"""Secrets are hidden here, before an entry reaches any sink.

What is secret is declared: a protocol gives each schema field a redaction class
(`kshark.api.Redact`), and its spec one for the target of a row. What the classes hide is said by
`kshark.secret_names` (names, URLs, headers) and `kshark.secret_bodies`. What cannot be redacted is not shown
at all: a field whose value has an unexpected type fails closed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from kshark import _pure
from kshark.api import Details, Entry, ProtocolSpec, Redact
from kshark.secret_bodies import body, parameters
from kshark.secret_names import REDACTED, header, secret_parameter, url
from kshark.secret_texts import text as said

NAMES_KEPT: Final = 4096
"""Parameter names known to be public that are kept, so that most targets cost one look."""

_NAMES = re.compile(
    "[?&;#\n]([^?&;#=/\n]+)="
)  # at least the same, in a text without escaped delimiters

T = TypeVar("T")
Hide = Callable[[Any], Any]


# ---------------------------------------------------------------- by redaction class


def _hide_value(value: Any) -> Any:
    """Hide all of a value and keep its type, so that the result fits the schema."""
    if value is None or value in ("", b""):
        return value
    if isinstance(value, str):
        return REDACTED
    if isinstance(value, bytes):
        return REDACTED.encode()
    if isinstance(value, list | tuple):
        return type(value)(_hide_value(item) for item in value)
    if isinstance(value, dict):
        return {name: _hide_value(item) for name, item in value.items()}
    return type(value)()


def _hide_url(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        return parameters(url(value))
    if isinstance(value, list | tuple):
        return type(value)(_hide_url(item) for item in value)
    return _hide_value(value)


def _hide_body(value: Any) -> Any:
    if isinstance(value, str):
        return body(value)
    return _hide_value(value)


def _hide_headers(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {name: _hide_header(name, item) for name, item in value.items()}
    return type(value)(
        type(pair)((pair[0], _hide_header(pair[0], pair[1]), *pair[2:])) for pair in value
    )


def _hide_header(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(header(name, item) for item in value)
    return header(name, value)


CLASSES: Final[Mapping[str, Hide]] = {
    Redact.VALUE.value: _hide_value,
    Redact.URL.value: _hide_url,
    Redact.HEADERS.value: _hide_headers,
    Redact.BODY.value: _hide_body,
}


class Redactor:
    """Applies the redaction classes of typed schemas; a schema is read once, by its first use."""

    def __init__(self) -> None:
        self._fields: dict[type, tuple[tuple[str, Hide], ...]] = {}

    def apply(self, details: Details) -> Details:
        """A copy with secrets hidden, or the same object where its schema declares none."""
        return self._struct(details)

    def _struct(self, value: T) -> T:
        kind = type(value)
        fields = self._fields.get(kind)
        if fields is None:
            fields = self._prepare(kind)
        if not fields:
            return value
        changed = {name: hide(getattr(value, name)) for name, hide in fields}
        return msgspec.structs.replace(value, **changed)  # type: ignore[type-var]

    def _prepare(self, kind: type) -> tuple[tuple[str, Hide], ...]:
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        found = ((field.name, self._hide(field.type)) for field in info.fields)
        self._fields[kind] = fields = tuple((name, hide) for name, hide in found if hide)
        return fields

    def _hide(self, kind: inspect.Type) -> Hide | None:
        """How values of a type are redacted; None = nothing in them is secret."""
        if isinstance(kind, inspect.Metadata):
            name = (kind.extra or {}).get("redact", "")
            return CLASSES[name] if name else self._hide(kind.type)
        if isinstance(kind, inspect.StructType):
            return self._struct  # prepared when met, so a type may hold itself
        if isinstance(kind, inspect.UnionType):
            return self._union(kind)
        if isinstance(kind, inspect.DictType):
            return _each_value(self._hide(kind.value_type))
        if isinstance(kind, inspect.TupleType):
            return _each_place([self._hide(item) for item in kind.item_types])
        if isinstance(kind, inspect.CollectionType):
            return _each_item(self._hide(kind.item_type))
        return None

    def _union(self, kind: inspect.UnionType) -> Hide | None:
        hides = [hide for hide in map(self._hide, kind.types) if hide is not None]
        if not hides:
            return None
        if len(hides) > 1 and any(hide != self._struct for hide in hides):
            return _hide_value  # which of them it is cannot be told: hide all of it
        hide = hides[0]
        if hide != self._struct:
            return lambda value: None if value is None else hide(value)
        return lambda value: hide(value) if isinstance(value, msgspec.Struct) else value


def _each_item(hide: Hide | None) -> Hide | None:
    return hide and (lambda value: type(value)(hide(item) for item in value))


def _each_value(hide: Hide | None) -> Hide | None:
    return hide and (lambda value: {name: hide(item) for name, item in value.items()})


def _each_place(hides: list[Hide | None]) -> Hide | None:
    if not any(hides):
        return None
    return lambda value: tuple(
        hide(item) if hide else item for hide, item in zip(hides, value, strict=True)
    )


# ---------------------------------------------------------------- targets of rows


class Suspects:
    """Finds the entries whose targets may hold a secret; plain twin of that in ``_rows.pyx``."""

    def __init__(self, secret: Callable[[str], bool]) -> None:
        """`secret` tells of a parameter's name; those of which it says no are kept."""
        self._secret = secret
        self._public: set[str] = set()

    def find(self, batch: list[Entry], protocols: frozenset[str]) -> list[Entry]:
        """Entries of these protocols with a target that `url` might change, or the text of an error."""
        found = []
        public, names = self._public.issuperset, _NAMES.findall
        for entry in batch:
            if entry.protocol not in protocols:
                continue
            request, response = entry.request, entry.response
            if request is not None:
                target = request.target
                if "%" in target or "@" in target:
                    hides = self._odd(target)
                else:
                    hides = "=" in target and not public(names(target)) and self._meets(target)
                if hides:
                    found.append(entry)
                    continue
            if response is not None and response.target:  # what an error says; few have one
                found.append(entry)
        return found

    def _odd(self, target: str) -> bool:
        """Whether a target with "%" or "@" may hold a secret: a user's name, or a parameter that is escaped."""
        return "=" in target or "@" in target or "%3" in target or "%4" in target

    def _meets(self, target: str) -> bool:
        """Whether a parameter is secret; the others are known from now on, within NAMES_KEPT."""
        for name in _NAMES.findall(target):
            if self._secret(name):
                return True
            if len(self._public) < NAMES_KEPT and len(name) <= 64:
                self._public.add(name)
        return False


def redact_targets(batch: list[Entry], specs: Mapping[str, ProtocolSpec]) -> list[Entry]:
    """Hide secrets in the targets of a batch, in place, as each protocol's spec says."""
    classes = {name: spec.target_redact for name, spec in specs.items() if spec.target_redact}
    wholly = frozenset(name for name, redact in classes.items() if redact is Redact.VALUE)
    for entry in _SUSPECTS.find(batch, frozenset(classes) - wholly):
        _change(entry, url, _hide_said)
    if wholly:
        for entry in batch:
            if entry.protocol in wholly:
                _change(entry, _hide_value, _hide_value)
    return batch


def _change(entry: Entry, hide: Hide, hide_said: Hide) -> None:
    """In a request is whom it is for, in a response what the server says of an error."""
    if entry.request is not None:
        entry.request.target = hide(entry.request.target)
    if entry.response is not None:
        entry.response.target = hide_said(entry.response.target)


def _hide_said(value: str) -> str:
    return said(url(value))


def _suspects() -> type[Suspects]:
    """The compiled twin, or the plain one."""
    if not _pure.pure("kshark._rows"):
        with suppress(ImportError):
            from kshark._rows import Suspects as Compiled

            return Compiled  # type: ignore[return-value]
    return Suspects


_SUSPECTS: Final = _suspects()(secret_parameter)
