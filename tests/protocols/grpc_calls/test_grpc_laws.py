"""The laws of a dissector, on calls of gRPC that HTTP/2 carries."""

from __future__ import annotations

from grpc_kit import (
    HELLO,
    SETTINGS,
    SPEC,
    C,
    S,
    Talk,
    answers,
    asks,
    data,
    ends,
    frame,
    message,
    refused,
    reset,
    unary,
)

from kshark.testing import assert_dissector, converse
from kshark.testing import rows as shown_rows

START: Talk = [(C, HELLO), (S, frame(SETTINGS, 0, 0))]
AGAIN: Talk = unary(21, "/shop.Cart/Get", b"\x08\x07", b"\x12\x04milk") + unary(
    23, "/shop.Cart/Add", b"\x08\x08", b""
)
CALLS: Talk = [
    *START,
    *unary(1, "/shop.Cart/Get", b"\x08\x07", b"\x12\x04milk"),
    (C, asks(3, "/shop.Cart/Add") + data(3, message(b"\x08\x07"), True)),
    (S, refused(3, "5", "no such cart")),
]
ROWS = [
    "Get /shop.Cart/Get -> OK [ok]",
    "Add /shop.Cart/Add -> NOT_FOUND 5 NOT_FOUND: no such cart [error]",
]


def test_unary() -> None:
    assert_dissector(SPEC, CALLS, ROWS, again=AGAIN, examples=10)


STREAM: Talk = [
    *START,
    (C, asks(5, "/shop.Cart/Watch") + data(5, message(b"\x08\x07"))),
    (S, answers(5) + data(5, message(b"\x08\x01") + message(b"\x08\x02")[:3])),
    (S, data(5, message(b"\x08\x02")[3:])),
    (C, data(5, message(b"\x08\x09"), True)),
    (S, ends(5)),
]
STREAM_ROWS = [
    "message /shop.Cart/Watch -> - [ok]",
    "message /shop.Cart/Watch -> - [ok]",
    "message /shop.Cart/Watch -> - [ok]",
    "message /shop.Cart/Watch -> - [ok]",
    "Watch /shop.Cart/Watch -> OK [ok]",
]


def test_a_stream() -> None:
    assert_dissector(SPEC, STREAM, STREAM_ROWS, again=AGAIN, examples=10, fuzz=0)


def test_cancelled() -> None:
    talk = [*START, (C, asks(7, "/shop.Cart/Slow") + data(7, message(b""), True)), (C, reset(7))]
    talk += unary(9, "/shop.Cart/Get", b"\x08\x01", b"")
    rows = [
        "Slow /shop.Cart/Slow -> CANCELLED 1 CANCELLED: RST_STREAM CANCEL [error]",
        "Get /shop.Cart/Get -> OK [ok]",
    ]
    assert shown_rows(converse(SPEC, talk)) == rows
