"""The laws of a dissector, on conversations of HTTP/2."""

from __future__ import annotations

from http2_kit import (
    HELLO,
    C,
    S,
    Talk,
    answer,
    data,
    frame,
    get,
    literal,
    post,
    promise,
    reset,
    settings,
    trailers,
)

from kshark.protocols import http2
from kshark.protocols.http2.frames import END_HEADERS, END_STREAM, HEADERS
from kshark.testing import assert_dissector

TABLE_ASKS = frame(
    HEADERS,
    END_HEADERS | END_STREAM,
    3,
    b"\x82\x86" + literal(":path", "/table", True) + literal("x-a", "1", True) + b"\xbe\xbf",
)
"""A request whose block adds to the table and refers to what it added."""
AGAIN: Talk = [
    (C, get(9, "/again", ("user-agent", "kit"))),
    (S, answer(9, 200, b"again")),
    (C, post(11, "/more", b"content", ("content-type", "text/plain"))),
    (S, answer(11, 404, b"no")),
]
TALK: Talk = [
    (C, HELLO + get(1, "/one?q=1", ("cookie", "secret"))),
    (S, settings((3, 100)) + answer(1, 200, b"first", ("server", "kit"))),
    (C, TABLE_ASKS),
    (
        S,
        frame(HEADERS, END_HEADERS, 3, b"\x88")
        + data(3, b"a")
        + data(3, b"b")
        + trailers(3, ("t", "x")),
    ),
    (C, post(5, "/five", b"x" * 50)),
    (S, answer(5, 500)),
]
ROWS = [
    "GET /one?q=1 -> 200 [ok]",
    "GET /table -> 200 [ok]",
    "POST /five -> 500 [error]",
]


def test_a_conversation() -> None:
    assert_dissector(http2.SPEC, TALK, ROWS, again=AGAIN, examples=15)


PUSHED: Talk = [
    (C, HELLO + get(1, "/")),
    (S, settings() + promise(1, 2, "/style.css") + answer(1, 200, b"page")),
    (S, answer(2, 200, b"style")),
]
RESET: Talk = [
    (C, HELLO + get(3, "/slow")),
    (S, frame(HEADERS, END_HEADERS, 3, b"\x88") + data(3, b"par") + reset(3, 2)),
    (C, get(5, "/other")),
    (S, answer(5, 200, b"done")),
]


def test_reset() -> None:
    rows = ["GET /slow -> RST_STREAM 200 INTERNAL_ERROR [error]", "GET /other -> 200 [ok]"]
    assert_dissector(http2.SPEC, RESET, rows, again=AGAIN, examples=10)


def test_push() -> None:
    rows = ["GET / -> 200 [ok]", "GET /style.css -> 200 [ok]"]
    assert_dissector(http2.SPEC, PUSHED, rows, again=AGAIN, examples=10)


TURNS: Talk = [
    (C, HELLO + get(1, "/a") + get(3, "/b")),
    (S, settings() + frame(HEADERS, END_HEADERS, 3, b"\x88") + data(3, b"b1")),
    (S, frame(HEADERS, END_HEADERS, 1, b"\x88") + data(1, b"a1") + data(3, b"b2")),
    (S, data(1, b"a2", True)),
    (S, trailers(3, ("grpc-status", "0"))),
]


def test_streams_in_turns() -> None:
    rows = ["GET /a -> 200 [ok]", "GET /b -> 200 [ok]"]
    assert_dissector(http2.SPEC, TURNS, rows, again=AGAIN, examples=10)
