"""An exchange of GraphQL, read from what HTTP or WebSocket carries: texts and plain values in, `GraphQL` out."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl

from kshark.enrichers._json import Read, dump, read
from kshark.enrichers.graphql.details import GraphQL
from kshark.enrichers.graphql.document import NotGraphQL, Operation, operations

SHOWN: Final = 3
"""Fields, or operations of a batch, that a row names."""
HASH: Final = 12
"""Characters of a persisted query's hash that a row shows."""
LISTED: Final = 64
"""Operations of a batch that are listed."""
CODES: Final = 16
NAME: Final = 128
"""Characters of a name, a code or an id."""
STARTS: Final = frozenset({"subscribe", "start"})
RESULTS: Final = frozenset({"next", "data"})
OTHERS: Final = frozenset(
    {"error", "complete", "stop", "ping", "pong", "ka", "connection_init", "connection_ack",
     "connection_error", "connection_terminate", "connection_keep_alive"}
)  # fmt: skip
"""Further messages of graphql-transport-ws, and of the older graphql-ws."""
SUBPROTOCOLS: Final = frozenset({"graphql-transport-ws", "graphql-ws"})


def of_document(text: str, name: str | None = None) -> GraphQL | None:
    """Of a document; None where it is no GraphQL."""
    try:
        known = operations(text)
    except NotGraphQL:
        return None
    found = GraphQL()
    chosen = known[0] if len(known) == 1 else _named(known, name)
    if chosen is None:
        found.name = name
        found.notes = ["ambiguous"]
        return found
    found.type, found.name, found.fields = chosen.type, chosen.name[:NAME] or None, chosen.fields
    return found


def _named(known: list[Operation], name: str | None) -> Operation | None:
    return next((one for one in known if name and one.name == name), None)


def of_parameters(value: Any, sure: bool = False) -> GraphQL | None:
    """Of ``{"query": ..., "operationName": ..., "variables": ..., "extensions": ...}``.

    `sure`: it was sent to GraphQL, so that a query which cannot be read is a mistake, and nothing else.
    """
    if not isinstance(value, dict):
        return None
    text, name = value.get("query"), value.get("operationName")
    name = name[:NAME] if isinstance(name, str) and name else None
    digest = persisted(value.get("extensions"))
    if isinstance(text, str) and text.strip():
        found = of_document(text, name)
        if found is None and sure:
            found = GraphQL(name=name, notes=["no-document"])
    elif digest:
        found = GraphQL(name=name)
    else:
        return None
    if found is not None:
        found.persisted = digest
        variables = value.get("variables")
        if isinstance(variables, dict) and variables:
            found.variables = dump(variables)
    return found


def persisted(extensions: Any) -> str | None:
    """The hash of a persisted query."""
    query = extensions.get("persistedQuery") if isinstance(extensions, dict) else None
    digest = query.get("sha256Hash") if isinstance(query, dict) else None
    return digest[:NAME] if isinstance(digest, str) and digest else None


def of_json(given: Read, sure: bool = False) -> GraphQL | None:
    """Of a request's body: one operation, or a batch of them."""
    if not isinstance(given.value, list):
        found = of_parameters(given.value, sure)
    else:
        batch = [of_parameters(one, sure) for one in given.value[:LISTED]]
        known = [one for one in batch if one is not None]
        if not known or len(known) < len(batch):
            return None
        found = known[0]
        found.batch = len(given.value)
        found.operations = [label(one) for one in known]
    if found is not None and not given.whole:
        found.notes.append("request-cut")
    return found


def of_query(query: str) -> GraphQL | None:
    """Of a GET: the same as parameters of its URL."""
    try:
        given: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    except ValueError:
        return None
    for name in ("variables", "extensions"):
        if name in given:
            given[name] = read(given[name]).value
    return of_parameters(given)


def of_websocket(value: Any, spoken: bool) -> GraphQL | None:
    """Of a message of graphql-transport-ws or graphql-ws. `spoken`: the upgrade says that it is one."""
    if not isinstance(value, dict) or not isinstance(kind := value.get("type"), str):
        return None
    payload = value.get("payload")
    found: GraphQL | None = None
    if kind in STARTS:
        found = of_parameters(payload, spoken)
    elif kind in RESULTS:
        result = isinstance(payload, dict) and ("data" in payload or "errors" in payload)
        if spoken or result:
            found = GraphQL()
            add_errors(found, [payload])
    elif spoken and kind in OTHERS:
        found = GraphQL()
        if kind in ("error", "connection_error"):
            errors = payload if isinstance(payload, list) else [payload]
            add_errors(found, [{"errors": errors}])
    if found is not None:
        one = value.get("id")
        found.message = kind
        found.id = str(one)[:NAME] if isinstance(one, str | int) else None
    return found


def add_answer(found: GraphQL, given: Read, cut: bool) -> None:
    """What a response says of errors."""
    results = given.value if isinstance(given.value, list) else [given.value]
    known = [one for one in results if isinstance(one, dict)]
    if known and (given.whole or any("errors" in one for one in known)):
        add_errors(found, known)
    if cut or (known and not given.whole):
        found.notes.append("response-cut")


def add_errors(found: GraphQL, results: list[Any]) -> None:
    """Errors of results, and whether there are data beside them."""
    errors: list[Any] = []
    for result in results:
        listed = result.get("errors") if isinstance(result, dict) else None
        if isinstance(listed, list) and listed:
            errors += listed
            found.partial = found.partial or _has_data(result.get("data"))
    found.errors = len(errors)
    for error in errors[:LISTED]:
        said = error.get("message") if isinstance(error, dict) else error
        if found.error is None:
            found.error = said if isinstance(said, str) else "an error without a message"
        code = _code(error)
        if code and code not in found.codes and len(found.codes) < CODES:
            found.codes = [*found.codes, code]


def _has_data(data: Any) -> bool:
    """Whether some field of the result is not null."""
    return isinstance(data, dict) and any(value is not None for value in data.values())


def _code(error: Any) -> str:
    extensions = error.get("extensions") if isinstance(error, dict) else None
    code = extensions.get("code") if isinstance(extensions, dict) else None
    return code[:NAME] if isinstance(code, str) else ""


# ---------------------------------------------------------------- what a row says


def label(found: GraphQL) -> str:
    """One operation in a few words: ``query getUser``, ``query { user, posts }``."""
    parts = [found.type] if found.type else []
    if found.name:
        parts.append(found.name)
    elif found.fields:
        more = ", …" if len(found.fields) > SHOWN else ""
        parts.append(f"{{ {', '.join(found.fields[:SHOWN])}{more} }}")
    if found.persisted and not found.type:
        parts.insert(0, f"persisted {found.persisted[:HASH]}")
    return " ".join(parts)


def summary(found: GraphQL) -> str:
    """What a row shows beside the path."""
    if found.batch > 1:
        more = ", …" if found.batch > SHOWN else ""
        return f"batch of {found.batch}: {', '.join(found.operations[:SHOWN])}{more}"
    return " ".join(filter(None, (found.message, found.id, label(found))))
