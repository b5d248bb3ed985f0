"""JSON-RPC: calls, batches, notifications, errors with status 200, what is hidden."""

from __future__ import annotations

import json
from typing import Any

import pytest
from enricher_kit import added, answered, asked, exchange
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark.api import Endpoint, Entry, Flow, Kind, Message, Outcome
from kshark.enrichers.jsonrpc import Enricher, JsonRpc
from kshark.protocols import http, websocket
from kshark.protocols.websocket.lane import Rest
from kshark.render import Renderer
from kshark.testing import rows
from kshark.testing.context import context


def call(method: str, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, **more}


def result(ident: Any, value: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "result": value}


def failed(ident: Any, code: int = -32601, text: str = "Method not found") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": text}}


def spoken(question: Any, answer: Any = None, target: str = "/") -> Entry:
    tells = b"" if answer is None else json.dumps(answer).encode()
    return exchange(asked(json.dumps(question).encode(), target), answered(tells))


def jsonrpc(entry: Entry) -> JsonRpc:
    found = added(entry, "jsonrpc")
    assert isinstance(found, JsonRpc)
    return found


@pytest.mark.parametrize(
    ("question", "answer", "row"),
    [
        (call("eth_call", id=1, params=[]), result(1), "POST / eth_call -> 200 [ok]"),
        (call("eth_call", id=1), failed(1), "POST / eth_call -> 200 -32601 Method not found [error]"),
        (call("log", params={"a": 1}), None, "POST / log (notification) -> 200 [ok]"),
        (
            [call("a", id=1), call("b", id=2), call("c"), call("d", id=3)],
            [result(1), failed(2, -1, "no"), result(3)],
            "POST / batch of 4: a, b, c, … -> 200 -1 no [error]",
        ),
        (
            [call("a", id=1), {"foo": "boo"}, 1],
            [result(1), failed(None, -32600, "Invalid Request")],
            "POST / batch of 3: a -> 200 -32600 Invalid Request [error]",
        ),
        (call("a", id="x"), [], "POST / a -> 200 [ok]"),
        (call("a", id=None), failed(None), "POST / a -> 200 -32601 Method not found [error]"),
        (call("a", id=1), {"jsonrpc": "2.0", "id": 1, "error": {}}, "POST / a -> 200 [error]"),
        (call("a", id=1), {"jsonrpc": "2.0", "id": 1, "error": None}, "POST / a -> 200 [ok]"),
    ],
)  # fmt: skip
def test_rows(question: Any, answer: Any, row: str) -> None:
    assert rows([spoken(question, answer)]) == [row]


@pytest.mark.parametrize(
    "question",
    [
        {"method": "a", "id": 1},
        {"jsonrpc": "1.0", "method": "a"},
        call(""),
        {"jsonrpc": "2.0", "method": 5},
        {"jsonrpc": "2.0"},
        [],
        [5, "a"],
        "jsonrpc",
    ],
)
def test_others_are_left_alone(question: Any) -> None:
    assert spoken(question, result(1), "/jsonrpc").extra is None


def test_details() -> None:
    found = jsonrpc(spoken(call("sum", id=7, params=[1, 2]), failed(7)))
    assert found == JsonRpc(
        method="sum", id="7", params="[1,2]", errors=1, error_code=-32601, error="Method not found"
    )
    found = jsonrpc(spoken([call("a"), call("b")]))
    assert (found.batch, found.methods, found.notification) == (2, ["a", "b"], True)


def test_what_is_cut() -> None:
    long = "x" * 70_000
    found = jsonrpc(spoken(call("a", params=[long], id=1), result(1)))
    assert (found.method, found.params, found.notes) == ("a", "", ["request-cut"])
    assert not found.notification  # its id may have come
    found = jsonrpc(spoken(call("a", id=1), result(1, long)))
    assert (found.errors, found.notes) == (None, ["response-cut"])


@pytest.mark.parametrize(
    "question",
    [
        call("login", id=1, params={"user": "ann", "password": "hunter2"}),
        call("personal_unlockAccount", id=1, params=["0x1", "hunter2", 300]),
        [call("a", id=1), call("auth.login", id=2, params=["ann", "hunter2"])],
    ],
)
def test_secrets(question: Any) -> None:
    entry = spoken(question, result(1))
    assert b"hunter2" not in Renderer({"http": http.SPEC}).encode([entry], full=True)
    assert "jsonrpc" in (entry.extra or {})


def test_params_of_other_calls_are_shown() -> None:
    entry = spoken(call("eth_getBalance", id=1, params=["0xabc", "latest"]), result(1))
    shown = Renderer({"http": http.SPEC}).as_dict(entry, full=True)
    assert shown["jsonrpc"]["params"] == '["0xabc","latest"]'


@pytest.mark.parametrize(
    ("value", "target", "outcome"),
    [
        (call("eth_subscribe", id=1, params=["newHeads"]), "/ws eth_subscribe", Outcome.OK),
        (call("eth_subscription"), "/ws eth_subscription (notification)", Outcome.OK),
        (result(1), "/ws result 1", Outcome.OK),
        (failed(1), "/ws error 1 -32601 Method not found", Outcome.ERROR),
        ({"a": 1}, "/ws", Outcome.OK),
    ],
)
def test_websocket(value: Any, target: str, outcome: Outcome) -> None:
    data = json.dumps(value).encode()
    message = Message(Kind.ONEWAY, "text", "/ws", body=data)
    message.extra = Rest(1, len(data), False, False, "", "/ws")
    flow = Flow("f", "tcp", Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2))
    entry = Entry(flow, 0, "websocket", message, None, Outcome.OK)
    [found] = Enricher(None, context(websocket.SPEC)).enrich([entry])  # type: ignore[arg-type]
    assert found.request is not None
    assert (found.request.target, found.outcome) == (target, outcome)


VALUES = st.none() | st.integers() | st.text(max_size=4) | st.lists(st.none(), max_size=2)
CALLS = st.dictionaries(
    st.sampled_from(["jsonrpc", "method", "id", "params", "error", "result", "code", "message"]),
    VALUES | st.just("2.0") | st.dictionaries(st.sampled_from(["code", "message"]), VALUES),
)


@settings(max_examples=150, deadline=None)
@given(
    CALLS | st.lists(CALLS, max_size=3), CALLS | st.lists(CALLS, max_size=3), st.integers(5, 200)
)
def test_whatever_comes(question: Any, answer: Any, cut: int) -> None:
    asks, tells = json.dumps(question).encode(), json.dumps(answer).encode()
    entry = exchange(asked(asks[:cut], "/jsonrpc"), answered(tells[:cut]))
    Renderer({"http": http.SPEC}).encode([entry], full=True)
