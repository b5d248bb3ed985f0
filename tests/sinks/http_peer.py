"""A server that answers as it is told: for what a real one cannot be made to do at will."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    """What was posted."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


class Answer(NamedTuple):
    """What is said to it; a status of 0 is a connection that is closed without a word."""

    status: int = 204
    text: str = ""
    headers: dict[str, str] = {}
    delay: float = 0.0


class Peer(ThreadingHTTPServer):
    """The server; `answer` decides by the request and by how many came before."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Request, int], Answer], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answer = answer
        self.requests: list[Request] = []
        self.taken: list[Request] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *args: Any) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Peer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, body, time.monotonic())
        said = self.server.answer(request, len(self.server.requests))
        self.server.requests.append(request)
        time.sleep(said.delay)
        if not said.status:
            self.close_connection = True
            return
        if 200 <= said.status < 300:
            self.server.taken.append(request)
        self.send_response(said.status)
        for name, value in said.headers.items():
            self.send_header(name, value)
        if said.status != 204:
            self.send_header("Content-Length", str(len(said.text.encode())))
        self.end_headers()
        if said.status != 204:
            self.wfile.write(said.text.encode())

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(
    answer: Callable[[Request, int], Answer] = lambda request, number: Answer(),
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Peer]:
    """A server in a thread of its own."""
    peer = Peer(answer, port)
    if tls is not None:
        peer.socket = tls.wrap_socket(peer.socket, server_side=True)
    thread = threading.Thread(target=peer.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield peer
    finally:
        peer.shutdown()
        thread.join()
        peer.server_close()
