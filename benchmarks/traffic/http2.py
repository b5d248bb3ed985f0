"""HTTP/2 in clear as proxies speak it to services: connections that last, several streams at once, header fields
that the dynamic tables hold after the first request, and a few of each request's own that they do not.

The number of a transaction stands in its path (``/t000000042``), and comes back in ``x-request-id``.
"""

from __future__ import annotations

from random import Random

from .h2 import DATA, END_STREAM, Fields, Talk, Talks, frame, headers
from .http import PATHS, document
from .tcp import Connection, Faults

AGENTS = ("envoy/1.34", "Go-http-client/2.0", "curl/8.9.1")
STATUSES = ("200",) * 17 + ("404", "503", "204")


class Http2:
    """Makes the exchanges of one capture."""

    ports = (8_080, 80)

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.talks = Talks(rng, self.request, self.response)
        sizes = [min(9_000, int(rng.lognormvariate(6.3, 0.9))) for _ in range(256)]
        self.bodies = [document(rng, size) for size in sizes]

    def exchange(self, connection: Connection, number: int, faults: Faults) -> list[bytes]:
        return self.talks.exchanges(connection, number, 1, faults)

    def pipeline(
        self, connection: Connection, number: int, count: int, faults: Faults
    ) -> list[bytes]:
        return self.talks.exchanges(connection, number, count, faults)

    def request(self, talk: Talk, stream: int, number: int) -> bytes:
        """GET, or POST with a document."""
        rng = self.rng
        posts = rng.random() < 0.3
        path = f"/api/{rng.choice(PATHS).decode()}/t{number:09d}"
        fields: Fields = [
            (":method", "POST" if posts else "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "orders.shop.svc.cluster.local"),
            ("user-agent", rng.choice(AGENTS)),
            ("accept", "application/json"),
            ("x-forwarded-proto", "https"),
            ("traceparent", f"00-{rng.randrange(1 << 127):032x}-{rng.randrange(1 << 63):016x}-01"),
        ]
        if not posts:
            return headers(talk.client, stream, fields, END_STREAM)
        body = rng.choice(self.bodies)[:2_000]
        fields += [("content-type", "application/json"), ("content-length", str(len(body)))]
        return headers(talk.client, stream, fields, 0) + frame(DATA, END_STREAM, stream, body)

    def response(self, talk: Talk, stream: int, number: int) -> bytes:
        """A document, or nothing but headers."""
        status = self.rng.choice(STATUSES)
        fields: Fields = [
            (":status", status),
            ("server", "envoy"),
            ("x-request-id", f"t{number:09d}"),
        ]
        if status == "204":
            return headers(talk.server, stream, fields, END_STREAM)
        body = self.rng.choice(self.bodies)
        fields += [("content-type", "application/json"), ("content-length", str(len(body)))]
        return headers(talk.server, stream, fields, 0) + frame(DATA, END_STREAM, stream, body)
