"""GraphQL over HTTP/1, HTTP/2 and WebSocket: which operation, and whether it failed though the status is 200."""

from __future__ import annotations

import re
from typing import Any

from kshark.api import Context, EnricherSpec, Entry, Message, Options, hookimpl
from kshark.enrichers._failed import fail
from kshark.enrichers._json import read, shorter
from kshark.enrichers.graphql.details import GraphQL
from kshark.enrichers.graphql.exchange import (
    SUBPROTOCOLS,
    add_answer,
    of_document,
    of_json,
    of_query,
    of_websocket,
    summary,
)

_PROMISING = re.compile(rb'"query"\s*:\s*"|"persistedQuery"\s*:')
_DOCUMENT = "application/graphql"
GZIP = b"\x1f\x8b"


class Enricher:
    """Adds `GraphQL` to entries, names the operation in their rows, and makes errors of what failed."""

    def __init__(self, options: Options, context: Context) -> None:
        self.context = context

    def enrich(self, batch: list[Entry]) -> list[Entry]:
        for entry in batch:
            if entry.request is not None:
                self.look(entry, entry.request)
        return batch

    def look(self, entry: Entry, asked: Message) -> None:
        """One entry."""
        if entry.protocol == "websocket":
            found = self.message(asked)
        else:
            found = self.question(entry, asked)
            if found is not None and entry.response is not None:
                self.answer(found, entry, entry.response)
        if found is not None:
            path = asked.target.partition("?")[0]
            asked.target = f"{path} {shorter(summary(found))}".rstrip()
            if found.errors:
                fail(entry, found.error or "")
            entry.extra = {**(entry.extra or {}), "graphql": found}

    def details(self, message: Message, protocol: str) -> Any:
        """The typed details, None where there are none to be had."""
        try:
            return self.context.details(message, protocol)
        except Exception:  # said and counted by whom it came from
            return None

    def question(self, entry: Entry, asked: Message) -> GraphQL | None:
        """What a request asks for."""
        if not asked.body:
            return of_query(asked.target.partition("?")[2]) if "?" in asked.target else None
        if not (
            _PROMISING.search(asked.body)
            or asked.body.startswith((GZIP, b"query", b"mutation", b"subscription"))
            or "graphql" in asked.target
        ):
            return None
        details = self.details(asked, entry.protocol)
        if details is None or details.body_encoding:
            return None
        if (details.content_type or "").lower().startswith(_DOCUMENT):
            return of_document(details.body)
        return of_json(read(details.body), "graphql" in asked.target.partition("?")[0])

    def answer(self, found: GraphQL, entry: Entry, answered: Message) -> None:
        """What its response says."""
        details = self.details(answered, entry.protocol)
        if details is not None and not details.body_encoding:
            add_answer(found, read(details.body), answered.truncated)

    def message(self, sent: Message) -> GraphQL | None:
        """What a message of WebSocket is."""
        if sent.verb != "text":
            return None
        details = self.details(sent, "websocket")
        if details is None:
            return None
        return of_websocket(read(details.body).value, details.subprotocol in SUBPROTOCOLS)


@hookimpl
def register_enrichers() -> list[EnricherSpec]:
    return [
        EnricherSpec(
            name="graphql",
            make=Enricher,
            doc="GraphQL over HTTP and WebSocket: operation, errors",
            adds={"graphql": GraphQL},
            protocols=("http", "http2", "websocket"),
            marks=(b'"query"', b'"persistedQuery"'),
            begins=(b"query", b"mutation", b"subscription", GZIP),
            targets=("graphql", "query="),
        )
    ]
