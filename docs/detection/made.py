"""Flows made by generators with a seed: whoever runs this gets the same ones, without any capture."""

from __future__ import annotations

import ssl
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

from captured import LEFT

from kshark.api import ProtocolSpec, Side
from kshark.engine import Engine, EngineSettings
from kshark.plugins import PluginOptions, load
from kshark.testing.play import PROTO, MadeFlow
from kshark.wire import END_FIN

sys.path.append(str(Path(__file__).parents[2] / "tests" / "protocols"))
from foreign import FOREIGN

SEED: Final = 4
FLOWS: Final = 300
"""Flows of each row."""
PORTS: Final = (53, 80, 443, 3306, 5353, 6379, 8080, 50051)
"""Half of the flows go to one of these, whatever they carry; the other half to any port."""
BUILT_IN: Final = tuple(load(options=PluginOptions(allow=["nobody"])).protocols.values())
C, S = Side.CLIENT, Side.SERVER
Talk = list[tuple[Side, bytes]]


def token(rng: Random, least: int = 1, most: int = 12) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-_"
    return "".join(rng.choice(letters) for _ in range(rng.randint(least, most)))


def random_bytes(rng: Random) -> Talk:
    return [(Side(at % 2), rng.randbytes(rng.randint(1, 600))) for at in range(rng.randint(1, 8))]


def random_text(rng: Random) -> Talk:
    """Lines of letters, digits and punctuation."""
    words = [" ".join(token(rng) for _ in range(rng.randint(1, 5))) for _ in range(8)]
    ends = [rng.choice(("\n", "\r\n", "", ": ", ";\r\n")) for _ in words]
    return [
        (Side(at % 2), (word + end).encode())
        for at, (word, end) in enumerate(zip(words, ends, strict=True))
    ]


def redis_like(rng: Random) -> Talk:
    """Another protocol of lines: NATS, memcached, SMTP and others, from a place where a message begins."""
    talk = FOREIGN[rng.choice(sorted(FOREIGN))]
    return [(side, piece) for side, piece in talk]


def http(rng: Random) -> Talk:
    talk: Talk = []
    for _ in range(rng.randint(1, 4)):
        verb = rng.choice(
            ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "PROPFIND", "QUERY")
        )
        body = rng.randbytes(rng.randint(0, 300)) if verb in ("POST", "PUT", "PATCH") else b""
        head = f"{verb} /{token(rng)}?{token(rng)}={token(rng)} HTTP/1.1\r\nHost: {token(rng)}\r\n"
        talk.append((C, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body))
        answer = b"" if verb == "HEAD" else rng.randbytes(rng.randint(0, 300))
        said = (
            f"HTTP/1.{rng.randint(0, 1)} {rng.choice((200, 204, 301, 404, 500))} {token(rng)}\r\n"
        )
        if " 204 " in said:
            answer = b""
        talk.append((S, f"{said}Content-Length: {len(answer)}\r\n\r\n".encode() + answer))
    return talk


def redis(rng: Random) -> Talk:
    talk: Talk = []
    for _ in range(rng.randint(1, 4)):
        words = [
            rng.choice(("GET", "SET", "HGETALL", "LPUSH", "XADD")),
            *(token(rng) for _ in range(rng.randint(1, 4))),
        ]
        parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        talk.append((C, f"*{len(words)}\r\n{parts}".encode()))
        talk.append((S, rng.choice((b"+OK\r\n", b"$-1\r\n", b":7\r\n", b"-ERR no\r\n", b"*0\r\n"))))
    return talk


def dns(rng: Random) -> Talk:
    """A query and its answer, as datagrams."""
    name = (
        b"".join(bytes((len(one),)) + one.encode() for one in (token(rng), token(rng), "example"))
        + b"\0"
    )
    ident, kind = rng.randrange(1 << 16), rng.choice((1, 28, 15, 16, 33, 65))
    question = name + struct.pack(">HH", kind, 1)
    record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + rng.randbytes(4)
    return [
        (C, struct.pack(">6H", ident, 0x0100, 1, 0, 0, 0) + question),
        (S, struct.pack(">6H", ident, 0x8180, 1, 1, 0, 0) + question + record),
    ]


def dns_stream(rng: Random) -> Talk:
    return [(side, struct.pack(">H", len(data)) + data) for side, data in dns(rng)]


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def http2(rng: Random) -> Talk:
    """The preface, settings, a GET of "/" on some streams, 200."""
    talk: Talk = [
        (C, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)),
        (S, frame(4, 0, 0) + frame(4, 1, 0)),
    ]
    for number in range(rng.randint(1, 4)):
        stream = 2 * number + 1
        talk.append((C, frame(1, 5, stream, b"\x82\x86\x84\x41\x01a")))
        body = rng.randbytes(rng.randint(0, 200))
        talk.append((S, frame(1, 4, stream, b"\x88") + frame(0, 1, stream, body)))
    return talk


def tls(rng: Random) -> Talk:
    """A ClientHello of OpenSSL, a ServerHello, and records that nobody can read."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(
        incoming, outgoing, server_hostname=f"{token(rng)}.example"
    )
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()
    session = hello[44 : 44 + hello[43]]
    extensions = b"\0\x2b\0\2\3\4" + b"\0\x33\0\x24\0\x1d\0\x20" + rng.randbytes(32)
    body = b"\3\3" + rng.randbytes(32) + bytes((len(session),)) + session + b"\x13\1\0"
    body += struct.pack(">H", len(extensions)) + extensions
    answer = b"\2" + struct.pack(">I", len(body))[1:] + body
    talk = [(C, hello), (S, b"\x16\3\3" + struct.pack(">H", len(answer)) + answer)]
    for side in (S, C, C, S):
        secret = rng.randbytes(rng.randint(30, 500))
        talk.append((side, b"\x17\3\3" + struct.pack(">H", len(secret)) + secret))
    return talk


class Row:
    """A kind of flows. `what` is the protocol, "" for none."""

    def __init__(
        self,
        title: str,
        what: str,
        talk: Callable[[Random], Talk],
        over: str = "tcp",
        joined: bool = False,
    ):
        self.title = title
        self.what = what
        self.talk = talk
        self.over = over
        self.joined = joined  # in mid-stream: cut at any byte, and either side first


ROWS: Final = (
    Row("random bytes", "", random_bytes),
    Row("random bytes, joined in mid-stream", "", random_bytes, joined=True),
    Row("random datagrams", "", random_bytes, "udp"),
    Row("random lines of text", "", random_text),
    Row("NATS, memcached, SMTP and other lines like those of Redis", "", redis_like),
    Row("TLS", "tls", tls),
    Row("HTTP/1 on any port", "http", http),
    Row("HTTP/2 on any port", "http2", http2),
    Row("Redis on any port", "redis", redis),
    Row("DNS datagrams on any port", "dns", dns, "udp"),
    Row("DNS over TCP on any port", "dns", dns_stream),
)


def taken(row: Row, only: frozenset[str] = frozenset()) -> Iterator[str]:
    """What kshark takes each flow of a row for."""
    rng = Random(f"{SEED} {row.title}")
    specs: list[ProtocolSpec] = list(BUILT_IN)
    engine = Engine(specs, EngineSettings(only=only))
    for number in range(FLOWS):
        port = rng.choice(PORTS) if number % 2 else rng.randrange(1, 32_768)
        flow = MadeFlow(
            PROTO[row.over], client_port=40_000 + number, server_port=port, midstream=row.joined
        )
        yield one(engine, flow, list(pieces(row, rng)))


def pieces(row: Row, rng: Random) -> Iterator[tuple[Side, bytes]]:
    """A conversation, each piece sent whole or in two, if it is a stream."""
    talk = row.talk(rng)
    if row.joined:
        talk = talk[rng.randrange(len(talk)) :]
        talk[0] = (talk[0][0], talk[0][1][rng.randrange(len(talk[0][1])) :])
        talk = [(Side(side ^ (rng.random() < 0.5)), data) for side, data in talk]
    for side, data in talk:
        cut = rng.randrange(len(data)) if row.over == "tcp" and rng.random() < 0.5 and data else 0
        yield from ((side, piece) for piece in (data[:cut], data[cut:]) if piece)


def one(engine: Engine, flow: MadeFlow, talk: Talk) -> str:
    consumer = engine.open(flow)
    for side, piece in talk:
        flow.last_ns += 1_000_000
        flow.seen[side] += 1
        flow.size[side] += len(piece)
        if consumer.chunk(side, piece, flow.last_ns):
            break
    consumer.end(END_FIN, flow.last_ns)
    found = {entry.protocol for entry in engine.take()} - set(PROTO)
    return " ".join(sorted(found)) or LEFT
