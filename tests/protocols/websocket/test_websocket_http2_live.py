"""WebSocket over HTTP/2 of real ends: h2 and wsproto on both sides, and a browser, which wants TLS for it.

The server is the oracle: what it and the client heard must be what is shown.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, ResponseReceived, StreamEnded
from h2.settings import SettingCodes, Settings
from kit_proxy import Chunk, Recorder
from websocket_kit import entries_of
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from kshark.api import Entry, Side
from kshark.protocols import http2
from kshark.protocols.websocket.details import WebSocketMessage, details
from kshark.testing import rows

LONG = "words, and words again; " * 900
PAGE = b"<!doctype html><title>kshark</title>"


class Served:
    """One connection of an HTTP/2 server whose WebSockets echo; `talk` is what passed, in clear."""

    def __init__(self, sock: socket.socket, deflate: bool) -> None:
        self.sock = sock
        self.deflate = deflate
        self.talk: list[Chunk] = []
        self.sockets: dict[int, Connection] = {}
        self.http = H2Connection(H2Configuration(client_side=False))
        extended = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
        self.http.local_settings = Settings(client=False, initial_values=extended)

    def run(self) -> None:
        self.http.initiate_connection()
        with suppress(OSError), self.sock:
            self.send()
            while data := self.sock.recv(16_384):
                self.talk.append((Side.CLIENT, data))
                for event in self.http.receive_data(data):
                    self.handle(event)
                self.send()

    def send(self) -> None:
        if data := self.http.data_to_send():
            self.talk.append((Side.SERVER, data))
            self.sock.sendall(data)

    def handle(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self.asked(event.stream_id, dict(event.headers or []))
        elif isinstance(event, DataReceived) and event.stream_id in self.sockets:
            if event.flow_controlled_length:
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.echo(event.stream_id, event.data or b"")
        elif isinstance(event, StreamEnded) and event.stream_id in self.sockets:
            with suppress(Exception):  # it has ended its own side already
                self.http.end_stream(event.stream_id)

    def asked(self, stream: int, headers: dict[bytes, bytes]) -> None:
        if headers.get(b":protocol") != b"websocket":
            self.http.send_headers(stream, [(":status", "200"), ("content-type", "text/html")])
            self.http.send_data(stream, PAGE, end_stream=True)
            return
        answer = [(":status", "200")]
        extensions = []
        offer = headers.get(b"sec-websocket-extensions", b"").decode()
        if self.deflate and offer.startswith("permessage-deflate"):
            extension = PerMessageDeflate()
            agreed = extension.accept(offer.split(",")[0])
            extensions = [extension]
            answer.append(
                ("sec-websocket-extensions", f"permessage-deflate; {agreed}".rstrip("; "))
            )
        if offered := headers.get(b"sec-websocket-protocol"):
            answer.append(("sec-websocket-protocol", offered.decode().split(",")[0]))
        self.sockets[stream] = Connection(ConnectionType.SERVER, list(extensions))
        self.http.send_headers(stream, answer)

    def echo(self, stream: int, data: bytes) -> None:
        if not data:  # the end
            return
        web = self.sockets[stream]
        web.receive_data(data)
        for event in web.events():
            if isinstance(event, CloseConnection):
                self.http.send_data(stream, web.send(event.response()), end_stream=True)
            elif isinstance(event, Ping):
                self.http.send_data(stream, web.send(event.response()))
            elif isinstance(event, Message):
                for at in range(0, len(sent := web.send(event)), 16_000):
                    self.http.send_data(stream, sent[at : at + 16_000])


@contextmanager
def server(deflate: bool, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[Served]]]:
    """A server on a port of its own: the port, and its connections."""
    served: list[Served] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def start(sock: socket.socket) -> None:
            with suppress(OSError):
                one = Served(tls.wrap_socket(sock, server_side=True) if tls else sock, deflate)
                served.append(one)
                one.run()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    threading.Thread(target=start, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], served


def said_by(entries: list[Entry], stream: int, client: bool) -> list[WebSocketMessage]:
    """The messages of one side of a stream."""
    return [
        details(entry.request)
        for entry in entries
        if entry.protocol == "websocket"
        and entry.swapped != client
        and entry.request is not None
        and entry.request.key == stream
    ]


class Asker:
    """A client with several WebSockets on one connection."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.settimeout(60)
        self.http = H2Connection(H2Configuration(client_side=True))
        self.http.initiate_connection()
        self.sockets: dict[int, Connection] = {}
        self.heard: dict[int, list[str | bytes]] = {}
        self.flush()
        while not self.http.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL):
            self.receive()

    def flush(self) -> None:
        self.sock.sendall(self.http.data_to_send())

    def receive(self) -> list[Event]:
        data = self.sock.recv(16_384)
        assert data, "the server closed the connection"
        events = self.http.receive_data(data)
        for event in events:
            if isinstance(event, DataReceived):
                assert event.stream_id is not None
                self.http.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id
                )
                web = self.sockets[event.stream_id]
                web.receive_data(event.data or b"")
                for found in web.events():
                    if isinstance(found, (TextMessage, BytesMessage)) and found.message_finished:
                        self.heard[event.stream_id].append(bytes_or_text(found))
        self.flush()
        return events

    def open(self, path: str, deflate: bool) -> int:
        stream: int = self.http.get_next_available_stream_id()
        extension = PerMessageDeflate()
        head = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", path),
        ]
        head += [
            (":authority", "127.0.0.1"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat"),
        ]
        if deflate:
            head.append(
                (
                    "sec-websocket-extensions",
                    f"permessage-deflate; {extension.offer()}".rstrip("; "),
                )
            )
        self.http.send_headers(stream, head)
        self.flush()
        answer: dict[bytes, bytes] = {}
        while not answer:
            for event in self.receive():
                if isinstance(event, ResponseReceived) and event.stream_id == stream:
                    answer = dict(event.headers or [])
        assert answer[b":status"] == b"200"
        if agreed := answer.get(b"sec-websocket-extensions"):
            extension.finalize(agreed.decode())
        self.sockets[stream] = Connection(ConnectionType.CLIENT, [extension] if agreed else [])
        self.heard[stream] = []
        return stream

    def send(self, stream: int, event: Message[Any] | Ping | CloseConnection) -> None:
        sent = self.sockets[stream].send(event)
        for at in range(0, len(sent), 16_000):
            self.http.send_data(stream, sent[at : at + 16_000])
        self.flush()

    def say(self, stream: int, message: str | bytes) -> None:
        """Send, and wait for the echo."""
        event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
        count = len(self.heard[stream])
        self.send(stream, event)
        while len(self.heard[stream]) == count:
            self.receive()

    def close(self, stream: int, code: int) -> None:
        self.send(stream, CloseConnection(code, "done"))
        ended = False
        while not ended:
            ended = any(
                isinstance(e, StreamEnded) and e.stream_id == stream for e in self.receive()
            )
        self.http.end_stream(stream)
        self.flush()


def bytes_or_text(event: TextMessage | BytesMessage) -> str | bytes:
    return event.data if isinstance(event, TextMessage) else bytes(event.data)


@pytest.mark.parametrize("deflate", [True, False])
def test_two_ends_with_several_on_one_connection(deflate: bool) -> None:
    """Each says some, by turns; what each heard is what is shown."""
    sent: list[str | bytes] = ["hello, naïve", b"\0\1\2" * 50, "", '{"type": "hello"}', "hello"]
    with server(deflate) as (port, _):
        recorder = Recorder(port)
        asker = Asker(recorder.port)
        streams = [asker.open(f"/chat?room={room}&token=abc", deflate) for room in range(3)]
        for message in sent:
            for stream in streams:
                asker.say(stream, f"{stream}: {message}" if isinstance(message, str) else message)
        if deflate:
            asker.say(streams[0], LONG)
        asker.send(streams[1], Ping(b"are you there"))
        for stream in streams:
            asker.close(stream, 1000)
        asker.sock.close()
        recorder.close()
    [talk] = recorder.talks
    found = entries_of(http2.SPEC, talk)
    assert rows(found)[0] == "CONNECT /chat?room=0&token=abc -> 200 [ok]"
    for stream in streams:
        mine, theirs = said_by(found, stream, True), said_by(found, stream, False)
        texts = [one.body for one in mine if one.type == "text"]
        heard = [one for one in asker.heard[stream] if isinstance(one, str)]
        assert texts == heard
        assert [one.body for one in theirs if one.type == "text"] == heard
        assert {one.type for one in mine} >= {"text", "binary", "close"}
        assert mine[-1].close_code == theirs[-1].close_code == 1000
        assert {(one.subprotocol, one.stream) for one in mine + theirs} == {("chat", stream)}
        assert any(one.compressed for one in mine) == deflate
    assert [one.type for one in said_by(found, streams[1], True)].count("ping") == 1
    assert [one.type for one in said_by(found, streams[1], False)].count("pong") == 1


SCRIPT = """
const speak = (number) => new Promise((resolve, reject) => {
  const socket = new WebSocket("wss://127.0.0.1:PORT/live/" + number, ["chat", "other"]);
  socket.binaryType = "arraybuffer";
  let heard = 0;
  socket.onerror = () => reject("no connection");
  socket.onopen = () => {
    socket.send("from a browser, naïvely " + number);
    socket.send(new Uint8Array([0, 1, 2, 255]));
    socket.send(JSON.stringify({token: "very secret", list: Array(200).fill("item")}));
  };
  socket.onmessage = () => { if (++heard == 3) socket.close(4000, "done here"); };
  socket.onclose = () => resolve(heard);
});
return Promise.all([speak(1), speak(2)]);
"""


def certificate(folder: Path) -> ssl.SSLContext:
    """For loopback, of today."""
    openssl = shutil.which("openssl")
    if openssl is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("openssl is not installed")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    return context


@pytest.mark.parametrize("deflate", [True, False])
def test_a_browser(tmp_path: Path, deflate: bool) -> None:
    """It has one connection for the page and for its WebSockets."""
    chromium = shutil.which("chromium")
    if chromium is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "chromium is not installed"
        )
    from playwright.sync_api import sync_playwright

    with server(deflate, certificate(tmp_path)) as (port, served), sync_playwright() as tools:
        flags = ["--no-sandbox", "--disable-background-networking", "--ignore-certificate-errors"]
        browser = tools.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(ignore_https_errors=True)
        page.goto(f"https://127.0.0.1:{port}/")
        script = SCRIPT.replace("PORT", str(port))
        assert page.evaluate(f"() => {{ {script} }}") == [3, 3]
        browser.close()
    [talk] = [one.talk for one in served if one.sockets]
    found = entries_of(http2.SPEC, talk)
    streams = [e.request.key for e in found if e.request and e.request.verb == "CONNECT"]
    assert len(streams) == 2
    for stream in streams:
        mine, theirs = said_by(found, stream, True), said_by(found, stream, False)
        assert [one.type for one in mine] == ["text", "binary", "text", "close"]
        assert mine[0].body.startswith("from a browser, naïvely ")
        assert (mine[0].subprotocol, mine[0].path) == ("chat", f"/live/{mine[0].body[-1]}")
        assert (mine[1].body, mine[1].body_encoding) == ("AAEC/w==", "base64")
        assert json.loads(mine[2].body)["token"] == "very secret"
        assert (mine[3].close_code, mine[3].close_reason) == (4000, "done here")
        assert all(one.compressed == deflate for one in mine if one.type == "text")
        assert [one.body for one in theirs[:3]] == [one.body for one in mine[:3]]
