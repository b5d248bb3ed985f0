"""Damage: the same messages however the bytes are cut, and never a wrong pair, whatever is lost of all streams."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import hypothesis
from hpack import Encoder
from http2_kit import (
    ACK,
    C,
    S,
    Talk,
    block,
    data,
    frame,
    opened,
    reset,
    settings,
)
from hypothesis import given
from hypothesis import strategies as st

from kshark import limits
from kshark.api import Entry, Message, Side
from kshark.protocols import http2
from kshark.protocols.http2.details import Http2Request, Http2Response, details
from kshark.protocols.http2.dissector import Http2Dissector
from kshark.protocols.http2.frames import END_HEADERS, END_STREAM, HEADERS
from kshark.protocols.http2.hpack import Decoder
from kshark.protocols.http2.resync import CHAINS, Search
from kshark.testing import converse
from kshark.testing.play import Piece, hear

# ---------------------------------------------------------------- interleaved streams


class Encoders:
    """The tables of both sides: fields are written out or referred to, as real encoders do."""

    def __init__(self) -> None:
        self.sides = (Encoder(), Encoder())

    def head(self, side: Side, number: int, flags: int, *fields: tuple[str, str]) -> bytes:
        return frame(HEADERS, END_HEADERS | flags, number, self.sides[side].encode(fields))


Step = Callable[[Encoders], bytes]
"""A frame; a header block is made when it is sent."""


def plain(piece: bytes, encoders: Encoders) -> bytes:
    return piece


def half(random: Random, side: Side, number: int) -> list[Step]:
    """The frames of a request or of an answer, each of which says whose it is."""
    one = ("x-id", str(number))
    if side == C:
        fields = [(":method", "POST"), (":path", f"/{number}"), one, ("x-agent", "kit")]
    else:
        fields = [(":status", random.choice(("200", "404"))), one, ("x-server", "kit")]
    count = random.randrange(4)
    trailers = random.random() < 0.3
    first = 0 if count or trailers else END_STREAM
    steps: list[Step] = [lambda e: e.head(side, number, first, *fields)]
    for left in range(count, 0, -1):
        body = data(number, b"%d." % number * random.randint(1, 40), left == 1 and not trailers)
        steps.append(partial(plain, body))
    if trailers:
        steps.append(lambda e: e.head(side, number, END_STREAM, one))
    if side == S and random.random() < 0.1:
        steps = [steps[0], partial(plain, reset(number))]
    return steps


def interleaved(random: Random, streams: int) -> list[tuple[Side, bytes]]:
    """Frames of so many exchanges, each in its order, all in turns by chance."""
    rows = [
        [(side, step) for side in (C, S) for step in half(random, side, number)]
        for number in range(1, 2 * streams, 2)
    ]
    encoders = Encoders()
    out: list[tuple[Side, bytes]] = []
    while rows:
        side, step = random.choice(rows[:4]).pop(0)
        out.append((side, step(encoders)))
        rows = [one for one in rows if one]
        if random.random() < 0.1:
            out.append((random.choice((C, S)), frame(8, 0, 0, b"\0\0\1\0")))
    return out


def spoiled(random: Random, talk: list[tuple[Side, bytes]], holes: int) -> list[Piece]:
    """The conversation without bytes here and there."""
    pieces: list[Piece] = list(talk)
    for _ in range(holes):
        at = random.randrange(len(pieces))
        side, piece = pieces[at]
        if isinstance(piece, int):
            continue
        start = random.randrange(len(piece))
        stop = min(len(piece), start + random.choice((1, 3, 9, 20, 1000)))
        parts: list[Piece] = [(side, piece[:start]), (side, stop - start), (side, piece[stop:])]
        pieces[at : at + 1] = [part for part in parts if part[1]]
    return pieces


def identity(message: Message) -> set[str]:
    """Whose it says that it is: by its own header, path and content."""
    shape = details(message)
    assert isinstance(shape, Http2Request | Http2Response)
    found = {value for name, value in [*shape.headers, *shape.trailers] if name == "x-id"}
    if isinstance(shape, Http2Request) and shape.path:
        found.add(shape.path[1:])
    return found | {one for one in shape.body.split(".")[1:-1] if one}


def check_pair(entry: Entry) -> None:
    assert entry.request is not None
    assert entry.response is not None
    said = identity(entry.request) | identity(entry.response)
    assert said <= {str(entry.request.key)}, entry


@hypothesis.settings(deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12), st.integers(0, 6))
def test_holes_in_interleaved_streams_never_pair_wrongly(
    random: Random, streams: int, holes: int
) -> None:
    talk = opened(interleaved(random, streams))
    entries = converse(http2.SPEC, spoiled(random, talk, holes))
    paired = [one for one in entries if one.request is not None and one.response is not None]
    for entry in paired:
        check_pair(entry)
    if not holes:
        assert len(paired) == len(entries) == streams


# ---------------------------------------------------------------- cuts


def damaged(random: Random, talk: list[Piece]) -> list[Piece]:
    """Bytes changed, put in, taken out, and what comes between."""
    pieces = list(talk)
    for _ in range(random.randrange(4)):
        at = random.randrange(len(pieces))
        side, piece = pieces[at]
        if isinstance(piece, int):
            continue
        start = random.randrange(len(piece) + 1)
        put = random.choice((b"", random.randbytes(random.choice((1, 9, 60))), bytes(20), piece))
        pieces[at] = (side, piece[:start] + put + piece[start + random.choice((0, 1, 5)) :])
    return pieces[random.choice((0, 0, 1, 4)) :]


def cut(random: Random, pieces: list[Piece]) -> list[Piece]:
    found: list[Piece] = []
    for side, piece in pieces:
        if isinstance(piece, int):
            found.append((side, piece))
            continue
        size = random.choice((1, 2, 9, 10, 50, len(piece) + 1))
        found += [(side, piece[at : at + size]) for at in range(0, len(piece), size)]
    return found


def joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one side in one piece."""
    found: list[Piece] = []
    for side, piece in pieces:
        if isinstance(piece, bytes) and found and found[-1][0] == side:
            before = found[-1][1]
            if isinstance(before, bytes):
                found[-1] = (side, before + piece)
                continue
        found.append((side, piece))
    return found


def said(pieces: list[Piece]) -> tuple[list[tuple[Side, Message]], list[str]]:
    heard = hear(Http2Dissector(), pieces)
    return heard.messages, heard.errors


@hypothesis.settings(deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 8), st.integers(0, 4))
def test_damage_is_understood_alike_however_it_is_cut(
    random: Random, streams: int, holes: int
) -> None:
    talk = joined(damaged(random, spoiled(random, opened(interleaved(random, streams)), holes)))
    assert said(talk) == said(cut(random, talk))


@hypothesis.settings(deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_a_search_does_not_depend_on_cuts(random: Random, noise: int) -> None:
    """Long content, zeros and frames of all sizes: found at the same place, or not at all."""
    parts = [bytes(random.randrange(2000)), random.randbytes(random.randrange(2000))]
    parts += [frame(0, 0, 1, bytes(random.choice((1, 16_384, 70_000)))) for _ in range(noise)]
    parts += [frame(0, 0, random.randrange(1, 9), b"x" * random.randrange(300)) for _ in range(9)]
    random.shuffle(parts)
    whole = b"".join(parts)[random.randrange(20) :]
    assert sought(whole, [len(whole)]) == sought(whole, [random.choice((1, 9, 700, 1400, 5000))])


def sought(whole: bytes, sizes: list[int]) -> int:
    """Where frames begin in `whole`, fed in pieces; -1 where it is not known."""
    search, at = Search(True, Decoder()), 0
    while at < len(whole):
        piece = whole[at : at + sizes[0]]
        at += len(piece)
        frames = search.take(piece)
        if frames:
            return at - len(frames)
    return -1


# ---------------------------------------------------------------- the search


def test_one_request_is_enough() -> None:
    """A client that is joined in mid-stream asks once, and waits: the request is not held until the next one."""
    ask = frame(HEADERS, END_HEADERS | END_STREAM, 7, b"\x82\x86" + block((":path", "/one")))
    assert len(Http2Dissector().feed(C, ask)) == 1  # type: ignore[arg-type]
    answer = frame(HEADERS, END_HEADERS | END_STREAM, 7, b"\x88")
    dissector = Http2Dissector()
    assert dissector.feed(C, answer) == []  # a client does not answer
    assert len(dissector.feed(S, answer)) == 1  # type: ignore[arg-type]


def test_large_frames_are_found_by_their_headers() -> None:
    """Their content is longer than what is held: the search goes on behind."""
    big = data(1, b"x" * 300_000)
    talk: Talk = [(S, b"".join([b"content"] + [big] * 4 + [data(1, b"end", True)]))]
    (message,) = [m for _, m in hear(Http2Dissector(), talk).messages]
    assert details(message).body_size == 300_000 * 2 + 3


def test_chains_that_are_followed_are_bounded() -> None:
    """Content that looks like frames at every turn: of many chains the longest promises are given up."""
    search = Search(True, Decoder())
    promises = b"".join(bytes([0, 64, n]) + b"\0\0\x7f\xff\xff\xff" for n in range(200))
    assert search.take(promises) == b""
    assert len(search.chains) == CHAINS
    assert search.chains == sorted(search.chains)


def test_what_a_search_holds_is_bounded() -> None:
    dissector = Http2Dissector()
    for _ in range(100):
        assert dissector.feed(S, b"\x00\x40\x00\x00\x00\x00\x00\x00\x01" + b"\xff" * 5000) == []
    assert dissector.slim() <= limits.UNDISSECTED


def test_an_error_is_raised_where_it_is_met() -> None:
    """What came before counts, what comes after it is looked at when a new start is asked for."""
    wrong = frame(3, 0, 1, b"\0\0\0")
    ask = [frame(HEADERS, 5, n, b"\x82\x86" + block((":path", f"/{n}"))) for n in (1, 3)]
    talk = [*opened([]), (C, ask[0] + wrong + ask[1]), (S, settings() + ACK)]
    messages, errors = said(list(talk))
    assert errors == ["a frame of type 3 with 3 bytes"]
    assert [m.target for _, m in messages] == ["/1", "/3"]
