"""A page for each built-in protocol, from its schema, with an example that was run; and their index."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from generated.examples import example
from generated.markdown import SCHEMA, builtins, code, schema_rows, sentence, table
from kshark import api

SCHEMA_TEXT = """\
The protocol's own object of an [entry](../entry.md), there with `full`, and its fields in [filters](../../filter.md).
What is marked as redacted is hidden before any sink sees it: `value` all of it, `url` user names and secret parameters,
`headers` and `body` the values of [secret names](../secrets.md).
"""


def known() -> list[api.ProtocolSpec]:
    """Every built-in protocol, those that only say what nobody dissects last."""
    found = builtins().protocols
    return [found[name] for name in sorted(found, key=lambda name: (nobodys(found[name]), name))]


def nobodys(spec: api.ProtocolSpec) -> bool:
    """Whether this is what a flow is called that no dissector takes."""
    return getattr(spec.dissector, "__name__", "") == "never"


def pages() -> dict[str, Callable[[], Iterable[str]]]:
    """The pages of all protocols by name."""
    found = {f"protocols/{spec.name}": partial(protocol_page, spec) for spec in known()}
    added = {f"protocols/{name}": partial(added_page, name, *rest) for name, *rest in additions()}
    return {**found, **added}


def additions() -> Iterable[tuple[str, type[api.Details], api.EnricherSpec]]:
    """The objects that built-in enrichers add to entries, by name."""
    for spec in builtins().enrichers.values():
        yield from ((name, schema, spec) for name, schema in spec.adds.items())


def index_page() -> Iterable[str]:
    """Every built-in protocol in a few lines."""
    yield "# Protocols\n"
    yield "The same on a terminal: `kshark protocols`. Each has a page with its schema and an example. How well they"
    yield "are told from each other: [What is taken for what](../detection.md).\n"
    for spec in known():
        yield f"## {spec.name}\n"
        yield f"{sentence(spec.doc)} [Schema and example](protocols/{spec.name}.md).\n"
        yield from facts(spec)
    for name, _, enricher in additions():
        yield f"## {name}\n"
        yield f"{added(enricher)} [Schema](protocols/{name}.md).\n"


def added(spec: api.EnricherSpec) -> str:
    """Who adds an object, and to what."""
    entries = ", ".join(getattr(spec, "protocols", ())) or "any protocol"
    return f"{sentence(spec.doc)} Added by the enricher `{spec.name}` to entries of {entries}."


def added_page(name: str, schema: type[api.Details], spec: api.EnricherSpec) -> Iterable[str]:
    """All of an object that a built-in enricher adds."""
    yield f"# {name}\n"
    yield f"{added(spec)}\n"
    yield from example(name)
    yield "## Schema\n"
    yield from table(SCHEMA, schema_rows(schema))
    yield from notes_table(name)


def protocol_page(spec: api.ProtocolSpec) -> Iterable[str]:
    """All of one protocol."""
    yield f"# {spec.name}\n"
    yield f"{sentence(spec.doc)}\n"
    yield from facts(spec)
    yield from example(spec.name)
    yield "## Schema\n"
    yield SCHEMA_TEXT
    same = spec.request is spec.response
    halves = {"Request and response" if same else "Request": spec.request}
    halves |= {} if same else {"Response": spec.response}
    for half, schema in halves.items():
        if schema is not None:
            yield f"{half}:\n"
            yield from table(SCHEMA, schema_rows(schema))
    yield from notes_table(spec.name)


def notes_table(name: str) -> Iterable[str]:
    if notes := notes_of(name):
        yield "Its `notes`:\n"
        yield from table(("note", "meaning"), ([code(n), t] for n, t in notes.items()))


def facts(spec: api.ProtocolSpec) -> Iterable[str]:
    """How it is recognised."""
    also = [other.transport.upper() for other in spec.also]
    found = {
        "Over": ", ".join([spec.transport.upper(), *also]) if also else "",
        "Carried by": ", ".join(spec.over),
        "Content types": ", ".join(map(code, spec.types)),
        "Client begins with": " ".join(map(prefix, spec.magic)),
        "Server begins with": " ".join(map(prefix, spec.replies)),
        "Also recognised by": "a look at the first bytes of either side" if spec.probe else "",
        "Ports that break ties": ", ".join(map(str, spec.ports)),
    }
    yield from (f"- {name}: {text}" for name, text in found.items() if text)
    yield ""


def notes_of(name: str) -> dict[str, str]:
    """What its messages' notes mean: the tables called NOTES of its modules."""
    found: dict[str, str] = {}
    for room in ("protocols", "enrichers"):
        for module in modules(f"kshark.{room}.{name}"):
            notes: Any = getattr(module, "NOTES", {})
            found |= notes if isinstance(notes, dict) else {}
    return found


def modules(name: str) -> Iterable[ModuleType]:
    """A package with its modules, as far as they can be imported: not the plain twin of what is compiled."""
    try:
        package = import_module(name)
    except ModuleNotFoundError:
        return
    yield package
    for one in pkgutil.iter_modules(getattr(package, "__path__", ())):
        with suppress(ImportError):
            yield import_module(f"{name}.{one.name}")


def prefix(data: bytes) -> str:
    """Bytes as code."""
    return code(repr(data)[2:-1].replace(" ", "␣"))
