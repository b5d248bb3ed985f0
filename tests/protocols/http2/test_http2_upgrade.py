"""An upgrade from HTTP/1: stream 1 answers the request that asked for it."""

from __future__ import annotations

from hpack import Encoder
from http2_kit import ACK, HELLO, C, S, answer, frame, get, reset, settings

from kshark import limits
from kshark.api import Entry, Side
from kshark.engine import Engine, EngineSettings
from kshark.protocols import http, http2
from kshark.protocols.http2.details import Http2Request, details
from kshark.protocols.http2.frames import END_HEADERS, END_STREAM, HEADERS
from kshark.testing import rows
from kshark.testing.play import play

UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: %s\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


def upgrade(ask: bytes, *after: tuple[Side, bytes], only: tuple[str, ...] = ()) -> list[Entry]:
    """The entries of an upgrade, which both dissectors hear."""
    specs = [spec for spec in (http.SPEC, http2.SPEC) if not only or spec.name in only]
    engine = Engine(specs, EngineSettings())
    entries = play(engine, http.SPEC, [(C, ask), (S, AGREED), *after])
    assert engine.tally.reserved == 0
    return entries


def test_an_upgrade() -> None:
    ask = b"GET /r HTTP/1.1\r\nHost: a\r\n" + UPGRADE % b"" + b"\r\n"
    answers = settings() + answer(1, 200, b"r")
    entries = upgrade(ask, (S, answers), (C, HELLO + ACK + get(3, "/s")), (S, ACK + answer(3, 404)))
    assert rows(entries) == ["GET /r -> 200 [ok]", "GET /s -> 404 [error]"]
    assert {entry.protocol for entry in entries} == {"http2"}
    asked, answered = entries[0].request, entries[0].response
    assert asked is not None
    assert answered is not None
    assert (asked.notes, answered.notes) == (("interim-101",), ("upgraded",))
    assert (asked.size, asked.first_ns < answered.first_ns) == (len(ask), True)
    shown = details(asked)
    assert isinstance(shown, Http2Request)
    assert (shown.method, shown.path, shown.scheme, shown.host) == ("GET", "/r", "http", "a")


def test_an_upgrade_with_a_body_and_settings() -> None:
    """The client's table is of 8,192 bytes from the first answer on, and its request had 70,000 of content."""
    told = UPGRADE % b"AAEAACAA"  # HEADER_TABLE_SIZE = 8192, in base64url
    ask = (
        b"POST /up?token=t HTTP/1.1\r\nHost: h\r\nCookie: c\r\nContent-Length: 70000\r\n"
        + told
        + b"\r\n"
    )
    fields = [(f"x-{n}", "v" * 200) for n in range(25)]
    encoder = Encoder()
    encoder.header_table.maxsize = 8192  # without a word in the block
    block = [encoder.encode([(":status", "200"), *fields]) for _ in range(2)]
    replies = [
        frame(HEADERS, END_HEADERS | END_STREAM, n, b) for n, b in zip((1, 3), block, strict=True)
    ]
    entries = upgrade(
        ask + b"x" * 70_000,
        (S, settings() + replies[0]),
        (C, HELLO + get(3, "/s")),
        (S, replies[1]),
    )
    assert rows(entries) == ["POST /up?token=t -> 200 [ok]", "GET /s -> 200 [ok]"]
    asked = entries[0].request
    assert asked is not None
    shown = details(asked)
    assert isinstance(shown, Http2Request)
    assert (shown.body_size, len(shown.body), asked.truncated) == (70_000, limits.BODY_KEPT, True)
    assert ("cookie", "c") in shown.headers
    for entry in entries:
        assert entry.response is not None
        assert details(entry.response).unknown_headers == 0
        assert details(entry.response).headers == fields


def test_an_upgrade_that_ends_otherwise() -> None:
    ask = b"GET / HTTP/1.1\r\n" + UPGRADE % b"*" + b"\r\n"
    assert rows(upgrade(ask, (S, settings()), (C, HELLO + reset(1)))) == [
        "GET / -> RST_STREAM CANCEL [error]"
    ]
    assert rows(upgrade(ask, (S, settings()), (C, HELLO))) == ["GET / -> - [unanswered]"]
    assert rows(upgrade(ask, (S, b"no HTTP/2, " * 99))) == ["GET / -> - [cut]"]
    assert (
        rows(upgrade(ask, (S, settings() + answer(1, 200)), only=("http",)))[0]
        == "GET / -> - [cut]"
    )
