"""Real servers and clients: Python's websockets, and a browser; through a recording proxy."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from kit_proxy import Chunk, Recorder
from websocket_kit import entries_of
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from kshark.api import Entry
from kshark.engine import Engine, EngineSettings
from kshark.protocols import http, websocket
from kshark.protocols.websocket.details import WebSocketMessage, details
from kshark.testing import rows
from kshark.testing.play import MadeFlow

LONG = "words, and words again; " * 5_000
COMPRESSION = pytest.mark.parametrize("compression", ["deflate", None])
Handler = Callable[[ServerConnection], None]


def echo(connection: ServerConnection) -> None:
    for message in connection:
        if message == "fail":
            connection.close(1011, "no disk")
            return
        connection.send(message)


def chosen(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The first that a client offers, if any."""
    return offered[0] if offered else None


@contextmanager
def server(handler: Handler = echo, compression: str | None = "deflate") -> Iterator[Recorder]:
    """A server on a port of its own, behind a proxy that records."""
    options = {"compression": compression, "select_subprotocol": chosen}
    with serve(handler, "127.0.0.1", 0, **options) as running:  # type: ignore[arg-type]
        threading.Thread(target=running.serve_forever, daemon=True).start()
        recorder = Recorder(running.socket.getsockname()[1])
        try:
            yield recorder
        finally:
            recorder.close()
            running.shutdown()


def said_by(entries: list[Entry], client: bool) -> list[WebSocketMessage]:
    """The messages of one side."""
    return [
        details(entry.request)
        for entry in entries
        if entry.protocol == "websocket" and entry.swapped != client and entry.request is not None
    ]


@COMPRESSION
def test_websockets(compression: str | None) -> None:
    """Text, binary, an empty one, a long one, fragments, a ping; then a close."""
    sent: list[str | bytes] = [
        "hello, naïve",
        b"\0\1\2" * 50,
        "",
        LONG,
        '{"type": "hello"}',
        "hello",
    ]
    with server(compression=compression) as recorder:
        url = f"ws://127.0.0.1:{recorder.port}/chat?room=1"
        with connect(url, compression=compression) as client:
            for message in sent:
                client.send(message)
                assert client.recv() == message
            client.send(["in ", "three ", "fragments"])
            client.recv()
            assert client.ping(b"are you there").wait(5)
    [talk] = recorder.talks
    found = entries_of(http.SPEC, talk)
    assert rows(found)[0] == "GET /chat?room=1 -> 101 [ok]"
    mine, theirs = said_by(found, True), said_by(found, False)
    texts = [one for one in mine if one.type == "text"]
    assert [one.body for one in texts[:2]] == ["hello, naïve", ""]
    assert texts[2].body == LONG[:65_536]
    assert [one.body for one in texts[3:]] == ['{"type": "hello"}', "hello", "in three fragments"]
    assert texts[-1].frames >= 3
    assert [one.type for one in mine if one.type not in ("text", "binary")] == ["ping", "close"]
    assert [one.type for one in theirs if one.type not in ("text", "binary")] == ["pong", "close"]
    assert all(one.path == "/chat?room=1" for one in mine + theirs)
    assert any(one.compressed for one in mine) == (compression is not None)
    assert [one.body for one in theirs if one.type == "text"] == [one.body for one in texts]
    assert mine[-1].close_code == 1000


def test_a_close_with_an_error() -> None:
    with server() as recorder, connect(f"ws://127.0.0.1:{recorder.port}/") as client:
        client.send("fail")
        with pytest.raises(Exception, match="1011"):
            client.recv()
    found = entries_of(http.SPEC, recorder.talks[0])
    closes = [entry for entry in found if entry.request and entry.request.verb == "close"]
    assert rows(closes[:1]) == ["close / 1011 internal-error -> - [error]"]
    shown = said_by(found, False)[-1]
    assert (shown.close_code, shown.close_name, shown.close_reason) == (
        1011, "internal-error", "no disk",
    )  # fmt: skip


@COMPRESSION
def test_joined_in_mid_stream(compression: str | None) -> None:
    """Without its upgrade a connection is known by a chain of frames; compressed ones say less, and need more."""
    said = [json.dumps({"type": "tick", "number": number}) for number in range(16)]

    def ticks(connection: ServerConnection) -> None:
        for text in said:
            connection.send(text)
            assert connection.recv() == text

    with server(ticks, compression) as recorder:
        url = f"ws://127.0.0.1:{recorder.port}/ticks"
        with connect(url, compression=compression) as client:
            answer(client)
    talk = after_the_upgrade(recorder.talks[0])
    found = joined(talk)
    assert {entry.protocol for entry in found} == {"websocket"}
    assert all(entry.midstream for entry in found)
    if compression is None:
        assert {one.body for one in said_by(found, True) if one.type == "text"} == set(said)
    else:  # the window began with the connection: what is not in it is never guessed
        for one in said_by(found, True) + said_by(found, False):
            assert one.body in said or "context-lost" in one.notes or one.type == "close"


def joined(talk: list[Chunk]) -> list[Entry]:
    """What the engine makes of a connection whose beginning it did not see."""
    engine = Engine([http.SPEC, websocket.SPEC], EngineSettings())
    flow = MadeFlow(midstream=True)
    consumer = engine.open(flow)
    for side, piece in talk:
        flow.last_ns += 1_000_000
        flow.seen[side] += 1
        consumer.chunk(side, piece, flow.last_ns)
    consumer.end(1, flow.last_ns)
    return engine.take()


def answer(client: ClientConnection) -> None:
    for message in client:
        client.send(message)


def after_the_upgrade(talk: list[Chunk]) -> list[Chunk]:
    """The connection from its first frame on."""
    rest: list[Chunk] = []
    seen = {0: False, 1: False}
    for side, piece in talk:
        if not seen[side]:
            _, end, piece = piece.partition(b"\r\n\r\n")
            seen[side] = bool(end)
        if piece:
            rest.append((side, piece))
    return rest


# ---------------------------------------------------------------- a browser

PAGE = """
const socket = new WebSocket("ws://127.0.0.1:PORT/live", ["chat", "other"]);
socket.binaryType = "arraybuffer";
const heard = [];
socket.onopen = () => {
  socket.send("from a browser, naïvely");
  socket.send(new Uint8Array([0, 1, 2, 255]));
  socket.send(JSON.stringify({token: "very secret", list: Array(200).fill("item")}));
};
socket.onmessage = (event) => { heard.push(event.data); if (heard.length == 3) socket.close(4000, "done here"); };
socket.onclose = () => resolve(heard.length);
"""


@COMPRESSION
def test_a_browser(compression: str | None) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "chromium is not installed"
        )
    from playwright.sync_api import sync_playwright

    with server(compression=compression) as recorder, sync_playwright() as tools:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        browser = tools.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page()
        script = PAGE.replace("PORT", str(recorder.port))
        assert page.evaluate(f"() => new Promise((resolve) => {{ {script} }})") == 3
        browser.close()
    [talk] = recorder.talks
    found = entries_of(http.SPEC, talk)
    mine, theirs = said_by(found, True), said_by(found, False)
    assert [one.type for one in mine] == ["text", "binary", "text", "close"]
    assert mine[0].body == "from a browser, naïvely"
    assert mine[0].subprotocol == "chat"
    assert (mine[1].body, mine[1].body_encoding) == ("AAEC/w==", "base64")
    assert json.loads(mine[2].body)["token"] == "very secret"
    assert (mine[3].close_code, mine[3].close_reason) == (4000, "done here")
    assert all(one.compressed == (compression is not None) for one in mine if one.type == "text")
    assert [one.body for one in theirs[:3]] == [one.body for one in mine[:3]]
