"""The shortcuts of the plain dissector: taken where nothing is special, and never to be seen in what is found."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from http_kit import BUILDS, GET, OK, PURE, C, S, cut, fresh, lenient, plain, play
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kshark import limits

QUICK = BUILDS["quick"]
HOST = b"Host: a\r\nAccept: */*\r\n"
LONG = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 4000\r\n\r\n" + b"b" * 4_000
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"7d0\r\n%b\r\n" % (
    b"c" * 2_000
)
PLAIN = [
    (C, GET),
    (S, OK),
    (C, b"POST /p HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
    (S, b"HTTP/1.1 204 No Content\r\n\r\n"),
    *((C, piece) for piece in (b"PUT /p HTTP/1.1\r\ncontent-length: 6\r\n\r\nabc", b"d", b"ef")),
    (S, b"HTTP/1.0 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    (C, GET),
    *cut([(S, LONG)], 1_448),
    (C, GET),
    *cut([(S, CHUNKED + b"3\r\nabc\r\n0\r\n\r\n")], 1_448),
    (C, GET),
    (S, CHUNKED + b"0\r\n\r\n"),
    (C, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (S, b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n"),
    (C, GET),
    (C, b"HEAD /1 HTTP/1.1\r\n\r\n"),
    (C, b"HEAD /2 HTTP/1.1\r\n\r\n"),
    (C, GET),
    *cut([(S, LONG)], 1_448),
    (S, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (S, b"HTTP/1.0 404 No\r\n\r\n"),
    (S, OK),
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, of an import of its own, where taking the long way is an error."""
    module = fresh("quick", True)

    def long_way(*args: Any) -> None:
        raise AssertionError(f"the long way was taken for {args[1:]}")

    monkeypatch.setattr(module, "_feed", long_way)
    return module


def test_what_is_plain_takes_no_long_way(quick: ModuleType) -> None:
    assert plain(play(quick.QuickDissector, PLAIN)) == plain(play(PURE, PLAIN))


@pytest.mark.parametrize(
    "piece",
    [
        (C, b"HEAD / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        (C, b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n"),
        (C, b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (C, b"GET / HTTP/1.1\r\nContent-Length : 1\r\n\r\n"),
        (C, b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
        (C, b"GET / HTTP/1.1\r\nA: b\n\r\n"),
        (C, b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
        (C, b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
        (C, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        (C, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (C, b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (C, b"GET /\n HTTP/1.1\r\nHost: a\r\n\r\n"),
        (C, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (C, b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * limits.TARGET)),
        (S, b"HTTP/1.1 100 Continue\r\n\r\n"),
        (S, b"HTTP/1.1 200 OK\r\n\r\n"),
        (S, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (S, b"HTTP/1.0 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (S, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
    ],
)
def test_what_is_odd_does(quick: ModuleType, piece: tuple[int, bytes]) -> None:
    with pytest.raises(AssertionError, match="the long way"):
        play(quick.QuickDissector, [(C, GET), (C, GET), (S, OK), piece])


@pytest.mark.parametrize(
    "target", [b"/x", b"/a b", b"/a\tb", b"/\0", b"/\n", b"/\r", b"/\x0c", b""]
)
@pytest.mark.parametrize(
    "verb", [b"GET", b"HEAD", b"CONNECT", b"BREW", b"get", b"", b"\0", b"GET "]
)
def test_known_headers_after_another_start(verb: bytes, target: bytes) -> None:
    """The start line is looked at each time, whatever follows it."""
    pieces = [(C, GET), (S, OK), (C, verb + b" " + target + GET[5:]), (S, OK), (C, GET), (S, OK)]
    assert plain(lenient(QUICK, pieces)) == plain(lenient(PURE, pieces))


def test_the_headers_that_are_known_are_bounded(quick: ModuleType) -> None:
    """In number and in size, and a client that never repeats itself is not remembered for long."""
    tails = quick._tails
    for number in range(limits.KNOWN_HEADS + 10):
        play(quick.QuickDissector, [(C, b"GET / HTTP/1.1\r\nX: %d\r\n\r\n" % number)])
        assert 0 < len(tails) <= limits.KNOWN_HEADS
    tails.clear()
    long = b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"x" * limits.KNOWN_HEAD)
    play(quick.QuickDissector, [(C, long)])
    assert not tails
    one = quick.QuickDissector()
    for number in range(100):
        one.feed(C, b"GET / HTTP/1.1\r\nX: %d\r\n\r\n" % number)
    assert len(tails) == quick.STRANGE


@st.composite
def asked(draw: st.DrawFn) -> bytes:
    verb = draw(st.sampled_from([b"GET", b"GET", b"POST", b"HEAD", b"BREW"]))
    target = draw(st.sampled_from([b"/", b"/a?b=c", b"/\xe4", b"/a b", b"/\x01", b"/x HTTP/1.1"]))
    body = draw(st.binary(max_size=20)) if verb == b"POST" else b""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    odd = draw(
        st.sampled_from([b"", b"", b"", b"X: \0\r\n", b"Upgrade: h2c\r\n", b"X:\ty\r\n", b"Y\r\n"])
    )
    return verb + b" " + target + b" HTTP/1.1\r\n" + HOST + odd + length + b"\r\n" + body


@st.composite
def answered(draw: st.DrawFn) -> bytes:
    status = draw(st.sampled_from([200, 200, 200, 204, 304, 404, 100]))
    head = b"HTTP/1.%d %d X\r\nServer: s\r\n" % (draw(st.sampled_from([1, 1, 1, 0])), status)
    body = draw(st.binary(max_size=60))
    form = draw(st.integers(0, 4))
    if form == 0:
        return head + b"\r\n"
    if form < 3:
        name = draw(
            st.sampled_from([b"Content-Length: ", b"content-length:", b"Content-length:  "])
        )
        return head + name + b"%d\r\n\r\n" % len(body) + body * (status not in (204, 304))
    at, wire = 0, b""
    while at < len(body):
        piece = body[at : at + draw(st.integers(1, 30))]
        wire += draw(
            st.sampled_from([b"%x\r\n%b\r\n", b"%X\r\n%b\r\n", b"%x;a\r\n%b\r\n", b"%x\n%b\r\n"])
        ) % (
            len(piece),
            piece,
        )
        at += len(piece)
    end = draw(
        st.sampled_from([b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"00\r\n\r\n", b"z\r\n"])
    )
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + wire + end


TALK = st.lists(st.tuples(asked(), answered()), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(TALK, st.data())
def test_exchanges_in_segments(talk: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """One after another, as a client that waits does it; in segments of any size, with a hole or without."""
    pieces: list[tuple[int, bytes | int]] = []
    for pair in talk:
        for side, message in zip((C, S), pair, strict=True):
            size = data.draw(st.sampled_from([7, 30, 64, 1_448]))
            pieces += cut([(side, message)], size)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(pieces) - 1))
        lost = pieces[at]
        pieces[at] = (lost[0], len(lost[1]))  # type: ignore[arg-type]
    assert plain(lenient(QUICK, pieces)) == plain(lenient(PURE, pieces))


@settings(max_examples=300, deadline=None)
@given(TALK, st.data())
def test_exchanges_whole(talk: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """Whole messages in turns or ahead of their answers, HEAD among them, one of them torn or lost."""
    ahead = data.draw(st.integers(1, 3))
    pieces: list[tuple[int, bytes | int]] = []
    for at in range(0, len(talk), ahead):
        pieces += [(C, question) for question, _ in talk[at : at + ahead]]
        pieces += [(S, answer) for _, answer in talk[at : at + ahead]]
    at = data.draw(st.integers(0, len(pieces) - 1))
    side, piece = pieces[at]
    assert isinstance(piece, bytes)
    fate = data.draw(st.sampled_from(["torn", "lost", "headless", ""]))
    if fate == "lost":
        pieces[at] = (side, len(piece))
    elif fate == "torn" and len(piece) > 1:
        cut_at = data.draw(st.integers(1, len(piece) - 1))
        pieces[at : at + 1] = [(side, piece[:cut_at]), (side, piece[cut_at:])]
    elif fate == "headless":
        pieces[at] = (side, piece[: piece.index(b"\r\n\r\n") + 4])
    assert plain(lenient(QUICK, pieces)) == plain(lenient(PURE, pieces))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5_000), st.integers(1, 200_000))
@example(1, 70_000)
@example(1_448, limits.BODY_KEPT)
def test_long_bodies(segment: int, length: int) -> None:
    """No more is kept than the state machine keeps, in no more pieces."""
    segment = max(segment, length // 2_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks += b"%x\r\n%b\r\n" % (length, b"c" * length) + b"1\r\nx\r\n" * 400 + b"0\r\n\r\n"
    pieces = [
        (C, GET),
        *cut([(S, head + b"b" * length)], segment),
        (C, GET),
        *cut([(S, chunks)], segment),
    ]
    assert plain(play(QUICK, pieces)) == plain(play(PURE, pieces))
