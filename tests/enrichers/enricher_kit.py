"""Exchanges for enrichers: built by hand, or recorded; what rows and objects come of them."""

from __future__ import annotations

from kshark.api import Details, Entry, Side
from kshark.engine import Engine, EngineSettings
from kshark.enrichers import graphql, jsonrpc
from kshark.protocols import http, http2, websocket
from kshark.testing import converse
from kshark.testing.context import context
from kshark.testing.play import play
from kshark.wanted import wanted_by

C, S = Side.CLIENT, Side.SERVER
Talk = list[tuple[Side, bytes]]
SPECS = (http.SPEC, http2.SPEC, websocket.SPEC)
ENRICHERS = (*graphql.register_enrichers(), *jsonrpc.register_enrichers())


def head(first: str, body: bytes, kind: str, *more: str) -> bytes:
    lines = [
        first,
        "Host: a",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        *more,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def asked(
    body: bytes, target: str = "/graphql", kind: str = "application/json", *more: str
) -> bytes:
    return head(f"POST {target} HTTP/1.1", body, kind, *more) + body


def answered(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    return head(f"HTTP/1.1 {status}", body, "application/json", *more) + body


def enriched(entries: list[Entry]) -> list[Entry]:
    """As a run does it: each enricher is given what it wants."""
    for spec in ENRICHERS:
        wanted = wanted_by(spec)
        assert wanted is not None
        chosen = wanted.find(entries)
        result = spec.make(None, context(*SPECS)).enrich(chosen)
        assert list(map(id, result)) == list(map(id, chosen))
    return entries


def exchange(request: bytes, response: bytes = b"") -> Entry:
    """One exchange of HTTP/1, enriched."""
    talk: Talk = [(C, request), *([(S, response)] if response else [])]
    [entry] = enriched(converse(http.SPEC, talk))
    return entry


def recorded(talk: list[tuple[Side, bytes]]) -> list[Entry]:
    """What passed between real programs, enriched."""
    said: list[str] = []
    entries = play(Engine(list(SPECS), EngineSettings(), said.append), http.SPEC, talk)
    assert said == []
    return enriched(entries)


def added(entry: Entry, name: str) -> Details | None:
    return (entry.extra or {}).get(name)
