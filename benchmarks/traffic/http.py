"""A mix of HTTP/1.1 keep-alive traffic: browsers, scripts and services that talk to a JSON API.

The number of a transaction stands in its path (``/t000000042``) and comes back in the response's
``X-Request-Id``, so that completeness and right pairing can be proven from the output.
"""

from __future__ import annotations

import gzip
import json
from random import Random

from .tcp import ACK, Connection, Faults

BROWSER = (
    b"Host: shop.example.com\r\nConnection: keep-alive\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: application/json, text/plain, */*\r\nAccept-Language: en-US,en;q=0.7,de;q=0.3\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://shop.example.com/basket\r\n"
    b"Cookie: session=6f1d0c7a5b7e4c3b9a8f7e6d5c4b3a29; theme=dark; consent=1\r\n"
    b"Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n"
)
GO = (
    b"Host: orders.shop.svc.cluster.local\r\nUser-Agent: Go-http-client/1.1\r\n"
    b"Accept-Encoding: gzip\r\nContent-Type: application/json\r\n"
    b"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
    b"X-Forwarded-For: 203.0.113.7\r\nX-Envoy-Attempt-Count: 1\r\n"
)
PYTHON = (
    b"Host: catalog:8080\r\nUser-Agent: python-requests/2.32.3\r\nConnection: keep-alive\r\n"
    b"Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJiZW5jaCJ9.\r\n"
)
CURL = (
    b"Host: 10.2.0.1\r\nUser-Agent: curl/8.9.1\r\nAccept: application/json\r\n"
    b"X-Tenant: blue\r\nX-Debug: 0\r\nCache-Control: no-cache\r\n"
)
AGENTS = (BROWSER, BROWSER, GO, GO, PYTHON, CURL)
PATHS = (b"orders", b"users", b"basket/items", b"catalog/products", b"v1/sessions", b"search")
SERVER = (
    b"Server: nginx/1.27.1\r\nDate: Fri, 02 Jan 2026 03:04:05 GMT\r\nX-Request-Id: t%09d\r\n"
    b"Content-Type: application/json; charset=utf-8\r\nCache-Control: no-store\r\n"
)
PLAIN = b"HTTP/1.1 %b\r\n" + SERVER + b"Vary: Accept-Encoding\r\nContent-Length: %d\r\n\r\n"
ZIPPED = PLAIN[:-2] + b"Content-Encoding: gzip\r\n\r\n"
CHUNKED = b"HTTP/1.1 %b\r\n" + SERVER + b"Transfer-Encoding: chunked\r\n\r\n%b"
NOTHING = b'HTTP/1.1 %b\r\nServer: nginx/1.27.1\r\nX-Request-Id: t%09d\r\nETag: W/"5f3-18f"\r\n\r\n'
ERROR = b'{"error":{"code":%d,"message":"%b","hint":"see https://shop.example.com/errors"}}'

WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "indigo", "kelp")


class Http:
    """Makes the exchanges of one capture."""

    ports = (80, 80, 80, 8080)

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        sizes = [min(9_000, int(rng.lognormvariate(7.03, 0.9))) for _ in range(256)]
        self.bodies = [document(rng, size) for size in sizes]
        self.zipped = [gzip.compress(body, mtime=0) for body in self.bodies[:64]]
        self.chunks = [chunked(rng, body) for body in self.bodies[64:128]]

    def exchange(self, connection: Connection, number: int, faults: Faults) -> list[bytes]:
        """The frames of one transaction: question, ACK, answer, ACK."""
        request, response = self.messages(number)
        frames = faults.burst(connection, connection.send(0, request))
        if self.rng.random() < 0.6:
            frames.append(connection.frame(1, ACK))
        answer = connection.send(1, response)
        frames += faults.burst(connection, answer)
        frames += [connection.frame(0, ACK) for _ in range((len(answer) + 1) // 2)]
        return frames

    def messages(self, number: int) -> tuple[bytes, bytes]:
        """The bytes of request and response."""
        rng = self.rng
        draw = rng.random()
        agent, path = rng.choice(AGENTS), rng.choice(PATHS)
        if draw < 0.16:
            return self.post(number, agent, path, draw)
        if draw < 0.18:
            head = b"DELETE /api/%b/t%09d HTTP/1.1\r\n%b\r\n" % (path, number, agent)
            return head, NOTHING % (b"204 No Content", number)
        if draw < 0.21:
            head = b"HEAD /api/%b/t%09d HTTP/1.1\r\n%b\r\n" % (path, number, agent)
            return head, PLAIN % (b"200 OK", number, len(rng.choice(self.bodies)))
        head = b"GET /api/%b/t%09d?page=%d&limit=50 HTTP/1.1\r\n%b" % (
            path,
            number,
            number % 9,
            agent,
        )
        if draw < 0.26:
            condition = b'If-None-Match: W/"5f3-18f"\r\n\r\n'
            return head + condition, NOTHING % (b"304 Not Modified", number)
        return head + b"\r\n", self.answer(number, draw)

    def post(self, number: int, agent: bytes, path: bytes, draw: float) -> tuple[bytes, bytes]:
        verb, status = (b"POST", b"201 Created") if draw < 0.12 else (b"PUT", b"200 OK")
        body, answer = self.rng.choice(self.bodies)[:4_000], b'{"id":"t%09d","ok":true}' % number
        head = b"%b /api/%b/t%09d HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (
            verb,
            path,
            number,
            agent,
            len(body),
        )
        return head + body, PLAIN % (status, number, len(answer)) + answer

    def answer(self, number: int, draw: float) -> bytes:
        """What a GET gives, by lot."""
        if draw < 0.30:
            body = ERROR % (404, b"no such thing")
            return PLAIN % (b"404 Not Found", number, len(body)) + body
        if draw < 0.31:
            body = ERROR % (500, b"the database is away")
            return PLAIN % (b"500 Internal Server Error", number, len(body)) + body
        if draw < 0.46:
            return CHUNKED % (b"200 OK", number, self.rng.choice(self.chunks))
        if draw < 0.56:
            body = self.rng.choice(self.zipped)
            return ZIPPED % (b"200 OK", number, len(body)) + body
        body = self.rng.choice(self.bodies)
        return PLAIN % (b"200 OK", number, len(body)) + body


def document(rng: Random, size: int) -> bytes:
    """A JSON document of about `size` bytes."""
    items: list[dict[str, object]] = []
    have = 40
    while have < size:
        name = " ".join(rng.choices(WORDS, k=3))
        item = {"id": rng.randrange(1 << 31), "name": name, "price": rng.randrange(99_999) / 100}
        items.append(item)
        have += len(json.dumps(item)) + 2
    return json.dumps({"items": items, "total": len(items), "next": None}).encode()


def chunked(rng: Random, body: bytes) -> bytes:
    """`body` in chunks of uneven sizes."""
    out, at = [], 0
    while at < len(body):
        piece = body[at : at + rng.randrange(100, 2_000)]
        out.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        at += len(piece)
    return b"".join(out) + b"0\r\n\r\n"
