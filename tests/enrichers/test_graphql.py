"""GraphQL: what a request asks for, what its answer says, what a row shows, what is hidden."""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import quote

import pytest
from enricher_kit import C, S, added, answered, asked, enriched, exchange
from http2_kit import HELLO, answer, post
from http2_kit import settings as hello
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark.api import Entry, Kind, Message, Outcome
from kshark.enrichers._json import read
from kshark.enrichers.graphql.details import GraphQL
from kshark.enrichers.graphql.exchange import of_json, of_query, of_websocket
from kshark.filter import compile_filter
from kshark.protocols import http, http2, websocket
from kshark.protocols.websocket.details import details
from kshark.protocols.websocket.lane import Rest
from kshark.render import Renderer
from kshark.testing import converse, rows

HASH = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38"


def body(**members: Any) -> bytes:
    return json.dumps(members).encode()


def graphql(entry: Entry) -> GraphQL:
    found = added(entry, "graphql")
    assert isinstance(found, GraphQL)
    return found


GOOD = answered(body(data={"user": {"name": "ann"}}))


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("given_body", "row"),
    [
        (body(query="query getUser { user { name } }"), "query getUser"),
        (body(query="{ user { name } posts { id } }"), "query { user, posts }"),
        (body(query="mutation { a b c d }"), "mutation { a, b, c, … }"),
        (body(query="query A { a } query B { b }", operationName="B"), "query B"),
        (body(query="query A { a } query B { b }"), ""),
        (body(extensions={"persistedQuery": {"version": 1, "sha256Hash": HASH}}), "persisted ecf4edb46db4"),
        (
            body(operationName="getUser", extensions={"persistedQuery": {"sha256Hash": HASH}}),
            "persisted ecf4edb46db4 getUser",
        ),
        (
            json.dumps([{"query": "query A { a }"}, {"query": "mutation B { b }"}]).encode(),
            "batch of 2: query A, mutation B",
        ),
    ],
)  # fmt: skip
def test_what_a_row_shows(given_body: bytes, row: str) -> None:
    entry = exchange(asked(given_body), GOOD)
    assert rows([entry]) == [f"POST /graphql {row}".rstrip() + " -> 200 [ok]"]
    assert graphql(entry).errors == 0


def test_a_document_as_body() -> None:
    document = b"query getUser { user { name } }"
    entry = exchange(asked(document, "/api", "application/graphql"), GOOD)
    assert rows([entry]) == ["POST /api query getUser -> 200 [ok]"]


def test_get() -> None:
    document, variables = quote("query getUser { user }"), quote('{"password": "x"}')
    target = f"/graphql?query={document}&variables={variables}"
    entry = exchange(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), GOOD)
    assert rows([entry]) == ["GET /graphql query getUser -> 200 [ok]"]
    assert graphql(entry).variables == '{"password":"x"}'  # redacted by whoever shows it
    persisted = quote(json.dumps({"persistedQuery": {"sha256Hash": HASH}}))
    entry = exchange(
        f"GET /graphql?extensions={persisted} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), GOOD
    )
    assert rows([entry]) == ["GET /graphql persisted ecf4edb46db4 -> 200 [ok]"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        asked(body(query={"match": {"title": "x"}}), "/_search"),
        asked(body(query="SELECT 1"), "/sql"),
        asked(body(query="how to query a thing"), "/ask"),
        asked(body(query='{app="shop"} |= "error"'), "/loki"),
        asked(body(query=""), "/graphql"),
        asked(b"[]", "/graphql"),
        asked(b'[{"query": "{ a }"}, 5]', "/graphql"),
        asked(b'"query"', "/graphql"),
        asked(b"\0\1", "/graphql", "application/octet-stream"),
        b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/v1/query?query=sum(rate(x%5B1m%5D)) HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /loki/api/v1/query?query=%7Bapp%3D%22shop%22%7D HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /graphql HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /search?query= HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_others_are_left_alone(request_bytes: bytes) -> None:
    [plain] = converse(http.SPEC, [(C, request_bytes), (S, GOOD)])
    entry = exchange(request_bytes, GOOD)
    assert entry.extra is None
    assert rows([entry]) == rows([plain])


def test_gzip_both_ways() -> None:
    packed = gzip.compress(body(query="query getUser { user }"))
    failed = gzip.compress(body(errors=[{"message": "no"}], data=None))
    request = asked(packed, "/api", "application/json", "Content-Encoding: gzip")
    entry = exchange(request, answered(failed, "200 OK", "Content-Encoding: gzip"))
    assert rows([entry]) == ["POST /api query getUser -> 200 no [error]"]


def test_http2() -> None:
    question = post(
        1, "/graphql", body(query="query getUser { user }"), ("content-type", "application/json")
    )
    failed = answer(1, 200, body(errors=[{"message": "no"}]), ("content-type", "application/json"))
    talk = [(C, HELLO + question), (S, hello() + failed)]
    [entry] = enriched(converse(http2.SPEC, talk))
    assert rows([entry]) == ["POST /graphql query getUser -> 200 no [error]"]
    shown = Renderer({"http2": http2.SPEC}).as_dict(entry, full=True)
    assert shown["http2"]["request"]["path"] == "/graphql"
    assert shown["graphql"]["name"] == "getUser"


# ---------------------------------------------------------------- answers


def test_errors_with_status_200() -> None:
    failed = body(
        errors=[
            {"message": "no such user", "extensions": {"code": "NOT_FOUND"}},
            {"message": "again", "extensions": {"code": "NOT_FOUND"}},
        ],
        data={"user": None, "posts": []},
    )
    entry = exchange(asked(body(query="{ user posts }")), answered(failed))
    assert entry.outcome is Outcome.ERROR
    assert rows([entry]) == ["POST /graphql query { user, posts } -> 200 no such user [error]"]
    found = graphql(entry)
    assert (found.errors, found.error, found.codes, found.partial) == (
        2, "no such user", ["NOT_FOUND"], True,
    )  # fmt: skip


def test_an_error_of_a_batch() -> None:
    batch = json.dumps([{"query": "{ a }"}, {"query": "{ b }"}]).encode()
    failed = json.dumps([{"data": {"a": 1}}, {"errors": [{"message": "b is broken"}]}]).encode()
    entry = exchange(asked(batch), answered(failed))
    assert rows([entry])[0].endswith("-> 200 b is broken [error]")


@pytest.mark.parametrize(
    ("answer", "errors", "outcome"),
    [
        (body(data={}), 0, Outcome.OK),
        (body(errors=[], data={}), 0, Outcome.OK),
        (body(errors="no list"), 0, Outcome.OK),
        (b"<html>", None, Outcome.OK),
        (body(errors=["text"]), 1, Outcome.ERROR),
        (body(errors=[{}]), 1, Outcome.ERROR),
        (body(errors=[5]), 1, Outcome.ERROR),
    ],
)
def test_strange_answers(answer: bytes, errors: int | None, outcome: Outcome) -> None:
    entry = exchange(asked(body(query="{ a }")), answered(answer))
    assert (graphql(entry).errors, entry.outcome) == (errors, outcome)


@pytest.mark.parametrize("query", ["{ a", "query {", "SELECT 1"])
def test_a_query_that_is_none(query: str) -> None:
    """The commonest mistake of all: the server says what is wrong, with status 200."""
    said = answered(body(errors=[{"message": "Syntax Error"}]))
    entry = exchange(asked(body(query=query)), said)
    assert rows([entry]) == ["POST /graphql -> 200 Syntax Error [error]"]
    assert graphql(entry).notes == ["no-document"]
    assert exchange(asked(body(query=query), "/search?graphql=1"), said).extra is None


def test_nothing_came_back() -> None:
    entry = exchange(asked(body(query="{ a }")))
    assert (entry.outcome, graphql(entry).errors) == (Outcome.UNANSWERED, None)


# ---------------------------------------------------------------- what is not whole


def test_a_request_that_is_cut() -> None:
    """Its whole members are read; what is missing is not guessed."""
    long = "x" * 70_000
    request = asked(
        body(operationName="getUser", query="query getUser { user }", variables={"a": long})
    )
    found = graphql(exchange(request, GOOD))
    assert (found.type, found.name, found.variables, found.notes) == (
        "query", "getUser", "", ["request-cut"],
    )  # fmt: skip
    entry = exchange(asked(body(query="query getUser { " + "user " * 20_000 + "}")), GOOD)
    assert entry.extra is None
    assert entry.truncated


def test_a_response_that_is_cut() -> None:
    big = "x" * 70_000
    first = answered(body(errors=[{"message": "no"}], data={"a": big}))
    last = answered(body(data={"a": big}, errors=[{"message": "no"}]))
    entry = exchange(asked(body(query="{ a }")), first)
    assert (graphql(entry).errors, entry.outcome, graphql(entry).notes) == (
        1, Outcome.ERROR, ["response-cut"],
    )  # fmt: skip
    entry = exchange(asked(body(query="{ a }")), last)
    assert (graphql(entry).errors, entry.outcome, graphql(entry).notes) == (
        None, Outcome.OK, ["response-cut"],
    )  # fmt: skip


# ---------------------------------------------------------------- secrets


def test_secrets_are_shown_nowhere() -> None:
    """Of variables, of literals in the document, of what a server quotes of them."""
    document = (
        'mutation login($password: String) { login(password: $password, token: "hunter2") { id } }'
    )
    failed = body(
        errors=[
            {
                "message": 'Variable "$password" got invalid value "hunter2"; '
                'String cannot represent a non string value: "hunter2"'
            }
        ]
    )
    request = asked(body(query=document, variables={"password": "hunter2", "id": 5}))
    entry = exchange(request, answered(failed))
    shown = Renderer({"http": http.SPEC}).encode([entry], full=True)
    assert b"hunter2" not in shown
    found = json.loads(shown)
    assert found["graphql"]["variables"] == '{"password":"REDACTED","id":5}'
    assert found["request"]["target"] == "/graphql mutation login"


def test_secrets_in_a_get() -> None:
    target = "/graphql?query=" + quote("query q($p: P) { a(p: $p) }") + "&variables="
    target += quote('{"password": "hunter2"}')
    entry = exchange(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), GOOD)
    assert b"hunter2" not in Renderer({"http": http.SPEC}).encode([entry], full=True)


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("graphql", 2),
        ('graphql.type == "mutation"', 1),
        ('graphql.name == "getUser"', 1),
        ('graphql.errors > 0 && graphql.codes.exists(c, c == "DENIED")', 1),
        ('request.target.startsWith("/graphql")', 2),
        ('request.verb == "POST"', 3),
        ('http.request.path == "/graphql"', 2),
        ("error", 1),
    ],
)
def test_filters(text: str, count: int) -> None:
    denied = answered(body(errors=[{"message": "no", "extensions": {"code": "DENIED"}}]))
    entries = [
        exchange(asked(body(query="query getUser { user }")), GOOD),
        exchange(asked(body(query="mutation { delete }")), denied),
        exchange(asked(b"{}", "/orders"), GOOD),
    ]
    wanted = compile_filter(text, {"http": http.SPEC}, adds={"graphql": GraphQL})
    assert len(wanted.select(entries)) == count


# ---------------------------------------------------------------- WebSocket


def sent(value: Any, subprotocol: str = "graphql-transport-ws", path: str = "/live") -> Entry:
    from kshark.api import Endpoint, Flow

    data = json.dumps(value).encode()
    flow = Flow("f", "tcp", Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2))
    message = Message(Kind.ONEWAY, "text", path, body=data)
    message.extra = Rest(1, len(data), False, False, subprotocol, path)
    entry = Entry(flow, 0, "websocket", message, None, Outcome.OK)
    from kshark.enrichers.graphql import Enricher
    from kshark.testing.context import context

    [found] = Enricher(None, context(websocket.SPEC)).enrich([entry])  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("value", "target", "outcome"),
    [
        ({"type": "connection_init"}, "/live connection_init", "ok"),
        (
            {"id": "1", "type": "subscribe", "payload": {"query": "subscription onTick { tick }"}},
            "/live subscribe 1 subscription onTick", "ok",
        ),
        ({"id": "1", "type": "next", "payload": {"data": {"tick": 1}}}, "/live next 1", "ok"),
        ({"id": "1", "type": "next", "payload": {"errors": [{"message": "no"}]}}, "/live next 1", "error"),
        ({"id": "1", "type": "error", "payload": [{"message": "no"}]}, "/live error 1", "error"),
        ({"id": "1", "type": "complete"}, "/live complete 1", "ok"),
        ({"id": "1", "type": "own"}, "/live", "ok"),
        ([], "/live", "ok"),
    ],
)  # fmt: skip
def test_subscriptions(value: Any, target: str, outcome: str) -> None:
    entry = sent(value)
    assert entry.request is not None
    assert (entry.request.target, entry.outcome) == (target, outcome)
    shown = details(entry.request)
    assert shown.path == "/live"


def test_without_the_subprotocol_little_is_believed() -> None:
    assert sent({"type": "ping"}, "").extra is None
    assert sent({"type": "next", "payload": {"a": 1}}, "").extra is None
    assert sent({"type": "next", "payload": {"data": {}}}, "").extra is not None


# ---------------------------------------------------------------- whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from(["{ a }", "query"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["query", "operationName", "variables", "extensions", "persistedQuery", "sha256Hash", "id",
             "type", "payload", "errors", "data", "message", "code", "jsonrpc", "method", "error"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(JSON, JSON, st.integers(0, 300))
def test_any_json(question: Any, answer: Any, cut: int) -> None:
    asks, tells = json.dumps(question).encode(), json.dumps(answer).encode()
    entry = exchange(asked(asks[:cut]), answered(tells[: 2 * cut]))
    Renderer({"http": http.SPEC}).encode([entry], full=True)
    of_websocket(question, True)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.binary(max_size=200))
def test_any_text(text: str, data: bytes) -> None:
    of_json(read(text))
    of_query(text)
    exchange(asked(data))
    exchange(asked(b"query" + data, "/x", "application/graphql"))
