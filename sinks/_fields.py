"""Facts of an entry as short texts, by the names that filters use: for labels and metadata.

An object that an enricher adds is reached by its name: ``tenant.name``. What an entry does not have is "".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kshark.api import Endpoint, Entry, PluginError

Read = Callable[[Entry], str]


def _end(side: str, name: str) -> Read:
    def read(entry: Entry) -> str:
        end: Endpoint = entry.src if side == "src" else entry.dst
        value = getattr(end, name)
        return "" if value is None else str(value)

    return read


def _latency(entry: Entry) -> str:
    latency = entry.latency_ns
    return "" if latency is None else str(latency)


FACTS: Final[Mapping[str, Read]] = {
    "id": lambda e: e.id,
    "protocol": lambda e: e.protocol,
    "transport": lambda e: e.flow.transport,
    "outcome": lambda e: e.outcome.value,
    "backend": lambda e: e.flow.backend,
    "request.verb": lambda e: e.request.verb if e.request else "",
    "request.target": lambda e: e.request.target if e.request else "",
    "request.size": lambda e: str(+e.request.size) if e.request else "",
    "response.status": lambda e: (
        str(+e.response.status) if e.response and e.response.status else ""
    ),
    "response.class": lambda e: status_class(e),
    "response.size": lambda e: str(+e.response.size) if e.response else "",
    "response.error": lambda e: e.response.target if e.response and not e.response.ok else "",
    "latency_ns": _latency,
    **{f"{side}.{n}": _end(side, n) for side in ("src", "dst") for n in Endpoint.__struct_fields__},
}
"""How each fact is read."""


def status_class(entry: Entry) -> str:
    """``5xx`` of a status of three digits; where there is none, "".

    Few protocols have statuses of three digits, and those that have mean the same by the first.
    """
    status = entry.response.status if entry.response else 0
    return f"{status // 100}xx" if 100 <= status <= 999 else ""


def reader(name: str, origin: str) -> Read:
    """How the fact `name` is read; `PluginError` names `origin` where there is none of that name."""
    if name in FACTS:
        return FACTS[name]
    owner, dot, path = name.partition(".")
    if not dot or not path or owner in {"src", "dst", "request", "response"}:
        raise PluginError(f"{origin}: no field {name!r}; there is {', '.join(FACTS)}")
    return _added(owner, path.split("."))


def _added(owner: str, path: list[str]) -> Read:
    def read(entry: Entry) -> str:
        value: object = (entry.extra or {}).get(owner)
        for part in path:
            value = getattr(value, part, None)
        return "" if value is None else str(value)

    return read


def label_name(name: str) -> str:
    """A name as label names are written: ``response.status`` -> ``response_status``."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)


def readers(names: Iterable[str], origin: str) -> dict[str, Read]:
    """The reader of each name, by its label name."""
    return {label_name(name): reader(name, origin) for name in names}
