"""Corners of RFC 9113 that real peers turn: cancelled downloads, GOAWAY on the way, long frames of the connection."""

from __future__ import annotations

import pytest
from http2_kit import (
    ACK,
    GET,
    HELLO,
    POST,
    STATUS,
    C,
    S,
    answer,
    block,
    data,
    frame,
    get,
    goaway,
    literal,
    of,
    opened,
    pieces_of_block,
    promise,
    reset,
    settings,
    shown,
    trailers,
)

from kshark import limits
from kshark.api import Message, Side
from kshark.protocols.http2.dissector import Http2Dissector
from kshark.protocols.http2.faults import fault
from kshark.protocols.http2.frames import (
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PADDED,
    PUSH_PROMISE,
    SETTINGS,
)
from kshark.testing.play import hear

Talk = list[tuple[Side, bytes | int]]


def test_downloads_cancelled_within_a_frame() -> None:
    """What still comes of the frame is nobody's: it is not kept, and costs later streams nothing."""
    dissector = Http2Dissector()
    body = data(1, b"x" * 16_000)[9:]
    dissector.feed(C, HELLO)
    dissector.feed(S, settings())
    for number in range(1, 201, 2):
        head = frame(HEADERS, END_HEADERS, number, STATUS[200])
        dissector.feed(C, get(number, "/"))
        dissector.feed(S, head + data(number, body)[:100])
        dissector.feed(C, reset(number))
        assert dissector.feed(S, data(number, body)[100:]) == []
    assert dissector.server.kept == 0
    (asked,) = dissector.feed(C, get(203, "/next"))
    (answered,) = dissector.feed(S, answer(203, 200, b"whole"))
    assert isinstance(asked, Message)
    assert isinstance(answered, Message)
    assert (answered.body, answered.notes) == (b"whole", ())
    assert answered.size > 15_000  # the books balance: the rest of a frame counts for what follows


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (SETTINGS, b"\0\3\0\0\0\x64" * 11_000),
        (GOAWAY, b"\x7f\xff\xff\xff\0\0\0\0" + b"d" * limits.HEADER_BLOCK),
    ],
)
def test_a_long_frame_of_the_connection_is_no_header_block(kind: int, payload: bytes) -> None:
    assert of(
        [
            (C, settings((5, 1 << 20))),
            (S, ACK + frame(kind, 0, 0, payload)),
            (C, get(1, "/")),
            (S, answer(1, 200)),
        ]
    ) == ["> 1 GET /", "< 1 200"]


def test_a_request_that_crosses_a_goaway() -> None:
    """RFC 9113 6.8: what the client opened beyond the last stream, before it knew, is not processed."""
    assert of([(C, get(1, "/a")), (S, goaway(1) + answer(1, 200)), (C, get(3, "/b"))]) == [
        "> 1 GET /a",
        "< 1 200",
        "> 3 GET /b",
        "< 3 GOAWAY NO_ERROR not-processed",
    ]
    first_warning = goaway(2**31 - 1)
    assert of([(S, first_warning), (C, get(1, "/a")), (S, goaway(1) + answer(1, 200))]) == [
        "> 1 GET /a",
        "< 1 200",
    ]


def test_long_frames_where_settings_may_be_lost() -> None:
    """Bytes of the server are lost, perhaps its SETTINGS: the client's frames are as long as they may be."""
    start = frame(HEADERS, END_HEADERS, 1, POST + block((":path", "/")))
    talk: Talk = [(C, HELLO), (S, 40), (C, start + data(1, b"x" * 60_000, True))]
    heard = hear(Http2Dissector(), talk)
    assert heard.errors == []
    assert shown(m for _, m in heard.messages) == ["> 1 POST / +60000"]


def test_table_sizes_within_a_block() -> None:
    """RFC 7541 4.2: the smallest size on the way, then the last one; both count, and only at the beginning."""
    add = frame(HEADERS, 5, 1, GET + literal(":path", "/t", True))
    shrunk = frame(HEADERS, 5, 3, b"\x20\x3f\xe1\x1f" + GET + literal(":path", "/u", True))
    assert of([(C, add + shrunk + frame(HEADERS, 5, 5, GET + b"\xbe"))]) == [
        "> 1 GET /t",
        "> 3 GET /u",
        "> 5 GET /u",
    ]
    late = frame(HEADERS, 5, 3, GET + b"\x20")
    assert of([(C, add + late)])[1:] == ["> 3 bad-headers"]
    gone = frame(HEADERS, 5, 3, b"\x20" + GET + b"\xbe")
    assert of([(C, add + gone)])[1:] == ["> 3 bad-headers"]


def test_a_promise_over_several_frames_and_padded() -> None:
    whole = GET + block((":path", "/pushed.css"))
    first = b"\x02" + (2).to_bytes(4) + whole[:5] + b"\0\0"
    pushed = frame(PUSH_PROMISE, PADDED, 1, first) + frame(9, END_HEADERS, 1, whole[5:])
    talk = [(C, get(1, "/")), (S, pushed + answer(2, 200, b"s") + answer(1, 200))]
    assert of(talk) == ["> 1 GET /", "> 2 GET /pushed.css pushed", "< 2 200 +1", "< 1 200"]


def test_a_frame_within_a_promised_block_is_refused() -> None:
    half = promise(1, 2, "/x")
    half = half[:4] + b"\0" + half[5:]  # without END_HEADERS
    heard = hear(Http2Dissector(), opened([(C, get(1, "/")), (S, half + data(1, b"x"))]))
    assert len(heard.errors) == 1


def test_trailers_over_several_frames() -> None:
    tail = block(("grpc-status", "0"), ("x", "y" * 300))
    talk = [
        (C, get(1, "/")),
        (S, frame(HEADERS, END_HEADERS, 1, STATUS[200]) + data(1, b"b")),
        (S, pieces_of_block(1, 1, tail, 50)),
    ]
    assert of(talk) == ["> 1 GET /", "< 1 200 +1"]
    assert of([(C, get(1, "/") + trailers(3, ("late", "1"))), (S, answer(1, 200))]) == [
        "> 1 GET /",
        "< 1 200",
    ]


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ((0, 0, 0, 1), ""),
        ((4, 8, 0, 0), ""),
        ((3, 8, 0, 0), "3 bytes"),
        ((5, 2, 0, 1), ""),
        ((5, 2, 0, 0), "stream 0"),
        ((8, 6, 0, 1), "stream where there can be none"),
        ((7, 6, 0, 0), "7 bytes"),
        ((6, 4, 1, 0), "6 bytes"),
        ((7, 4, 0, 0), "7 bytes"),
        ((0, 1, 8, 1), "no room for its padding"),
        ((5, 1, 0x28, 1), "5 bytes"),
        ((6, 1, 0x28, 1), ""),
        ((4, 5, 8, 1), "no room for its padding"),
        ((1, 77, 255, 9), ""),
    ],
)
def test_faults(header: tuple[int, int, int, int], text: str) -> None:
    assert fault(*header) == text
