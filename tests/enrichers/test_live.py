"""Real servers and clients: strawberry and aiohttp, httpx, json-rpc; what passed is recorded and read."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import pytest
import strawberry
from aiohttp import web
from enricher_kit import added, recorded
from jsonrpc import JSONRPCResponseManager, dispatcher
from jsonrpc.exceptions import JSONRPCDispatchException
from kit_proxy import Recorder
from strawberry.aiohttp.views import GraphQLView
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from kshark.api import Entry
from kshark.enrichers.graphql.details import GraphQL
from kshark.enrichers.jsonrpc import JsonRpc
from kshark.testing import rows


@strawberry.type
class Query:
    @strawberry.field
    def user(self, id: int) -> str:
        if id < 0:
            raise ValueError("no such user")
        return f"user {id}"


@strawberry.type
class Mutation:
    @strawberry.mutation
    def login(self, password: str) -> bool:
        return len(password) > 3


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(self, count: int) -> AsyncGenerator[int, None]:
        for number in range(count):
            yield number


@dispatcher.add_method  # type: ignore[untyped-decorator]
def add(a: int, b: int) -> int:
    return a + b


@dispatcher.add_method  # type: ignore[untyped-decorator]
def fail() -> None:
    raise JSONRPCDispatchException(7, "it failed")


async def rpc(request: web.Request) -> web.Response:
    found = JSONRPCResponseManager.handle(await request.text(), dispatcher)
    text = "" if found is None else found.json
    return web.Response(text=text, content_type="application/json")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """GraphQL at /graphql, JSON-RPC at /rpc."""
    schema = strawberry.Schema(Query, Mutation, Subscription)
    app = web.Application()
    app.router.add_route("*", "/graphql", GraphQLView(schema=schema))
    app.router.add_post("/rpc", rpc)
    sock = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(10)
    yield sock.getsockname()[1]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def entries_of(recorder: Recorder) -> list[Entry]:
    recorder.close()
    return [entry for talk in recorder.talks for entry in recorded(talk)]


def graphql(entry: Entry) -> GraphQL:
    found = added(entry, "graphql")
    assert isinstance(found, GraphQL)
    return found


def test_graphql(port: int) -> None:
    recorder = Recorder(port)
    url = f"http://127.0.0.1:{recorder.port}/graphql"
    with httpx.Client() as client:
        named = "query getUser($id: Int!) { user(id: $id) }"
        assert client.post(url, json={"query": named, "variables": {"id": 1}}).json()["data"]
        failed = client.post(url, json={"query": named, "variables": {"id": -1}})
        assert (failed.status_code, "errors" in failed.json()) == (200, True)
        client.post(url, json={"query": "mutation M($password: String!) { login(password: $password) }",
                               "variables": {"password": "hunter2"}})  # fmt: skip
        client.post(url, json={"query": "{ user(id: 1) nothing }"})
        client.post(url, json={"query": named, "variables": {"id": "hunter2"}})
        client.get(url, params={"query": "{ user(id: 5) }"})
    found = entries_of(recorder)
    assert rows(found) == [
        "POST /graphql query getUser -> 200 [ok]",
        "POST /graphql query getUser -> 200 no such user [error]",
        "POST /graphql mutation M -> 200 [ok]",
        "POST /graphql query { user, nothing } -> 200 Cannot query field 'nothing' on type 'Query'. [error]",
        "POST /graphql query getUser -> 200 "
        "Variable '$id' has invalid value: Int cannot represent non-integer value: REDACTED [error]",
        "GET /graphql query { user } -> 200 [ok]",
    ]
    assert graphql(found[2]).variables == '{"password":"REDACTED"}'


def test_subscriptions(port: int) -> None:
    recorder = Recorder(port)
    url = f"ws://127.0.0.1:{recorder.port}/graphql"
    with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as client:

        def told(**message: Any) -> None:
            client.send(json.dumps(message))

        told(type="connection_init")
        assert json.loads(client.recv())["type"] == "connection_ack"
        told(id="a", type="subscribe", payload={"query": "subscription onTick { ticks(count: 2) }"})
        while json.loads(client.recv())["type"] != "complete":
            pass
        told(id="b", type="subscribe", payload={"query": "subscription { nothing }"})
        assert json.loads(client.recv())["type"] == "error"
    found = [entry for entry in entries_of(recorder) if entry.protocol == "websocket"]
    assert rows(found)[:8] == [
        "text /graphql connection_init -> - [ok]",
        "text /graphql connection_ack -> - [ok]",
        "text /graphql subscribe a subscription onTick -> - [ok]",
        "text /graphql next a -> - [ok]",
        "text /graphql next a -> - [ok]",
        "text /graphql complete a -> - [ok]",
        "text /graphql subscribe b subscription { nothing } -> - [ok]",
        "text /graphql error b -> - [error]",
    ]


def test_jsonrpc(port: int) -> None:
    recorder = Recorder(port)
    url = f"http://127.0.0.1:{recorder.port}/rpc"

    def call(name: str, params: Any = None, ident: int | None = None) -> dict[str, Any]:
        made: dict[str, Any] = {"jsonrpc": "2.0", "method": name}
        return made | ({"params": params} if params else {}) | ({"id": ident} if ident else {})

    with httpx.Client() as client:
        assert client.post(url, json=call("add", [1, 2], 1)).json()["result"] == 3
        client.post(url, json=call("fail", None, 2))
        client.post(url, json=call("nothing", None, 3))
        client.post(url, json=[call("add", {"a": 1, "b": 2}, 4), call("fail", None, 5)])
        client.post(url, json=call("add", [1, 2]))
    found = entries_of(recorder)
    assert rows(found) == [
        "POST /rpc add -> 200 [ok]",
        "POST /rpc fail -> 200 7 it failed [error]",
        "POST /rpc nothing -> 200 -32601 Method not found [error]",
        "POST /rpc batch of 2: add, fail -> 200 7 it failed [error]",
        "POST /rpc add (notification) -> 200 [ok]",
    ]
    assert all(isinstance(added(entry, "jsonrpc"), JsonRpc) for entry in found)
