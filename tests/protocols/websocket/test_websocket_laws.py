"""The laws of a dissector, on conversations of WebSocket."""

from __future__ import annotations

from msgspec.structs import replace
from websocket_kit import (
    BINARY,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    TEXT,
    C,
    S,
    Talk,
    closed,
    dissector,
    frame,
    packed,
    packer,
    text,
)

from kshark.protocols import websocket
from kshark.testing import assert_dissector, check_laws

AGAIN: Talk = [
    *((C, text(C, f'{{"type": "again", "number": {n}}}')) for n in range(5)),
    *((S, text(S, f'{{"type": "answer", "number": {n}}}')) for n in range(6)),
]
TALK: Talk = [
    (C, text(C, '{"type": "hello"}')),
    (S, text(S, "welcome, naïve one")),
    (C, frame(C, FIN | PING, b"1234")),
    (S, frame(S, FIN | PONG, b"1234")),
    (S, frame(S, FIN | BINARY, bytes(range(200)))),
    (C, frame(C, FIN | TEXT)),
    (C, frame(C, FIN | BINARY, b"\xfe\xff" * 40)),
]
ROWS = [
    "text -> - [ok]",
    "text -> - [ok]",
    "ping -> - [ok]",
    "pong -> - [ok]",
    "binary -> - [ok]",
    "text -> - [ok]",
    "binary -> - [ok]",
]


def test_a_conversation() -> None:
    """An upgrade tells what it is; without one, so short a talk does not."""
    assert_dissector(websocket.SPEC, TALK, ROWS, again=AGAIN, examples=15, recognised=False)


def test_fragments() -> None:
    """With a ping between them law 'gaps' would place the ping's bytes before those of the first fragment."""
    talk: Talk = [
        (C, frame(C, TEXT, b"a long ") + frame(C, FIN | PING, b"?") + frame(C, CONTINUATION, b"")),
        (S, frame(S, FIN | PONG, b"?")),
        (C, frame(C, CONTINUATION, b"message in ") + frame(C, FIN | CONTINUATION, b"fragments")),
        (S, text(S, "yes")),
    ]
    rows = ["ping -> - [ok]", "pong -> - [ok]", "text -> - [ok]", "text -> - [ok]"]
    check_laws(websocket.SPEC, talk, rows, again=AGAIN, examples=10, skip={"gaps"})
    plain: Talk = [
        (C, frame(C, TEXT, b"a long ") + frame(C, FIN | CONTINUATION, b"message")),
        (S, frame(S, BINARY, b"\1\2") + frame(S, FIN | CONTINUATION, b"\3")),
    ]
    check_laws(websocket.SPEC, plain, again=AGAIN, examples=10)


def test_a_close() -> None:
    """Nothing can follow it."""
    talk: Talk = [(C, text(C, "bye") + closed(C, 1000)), (S, closed(S, 1011, "no disk"))]
    rows = ["text -> - [ok]", "close -> - [ok]", "close 1011 internal-error -> - [error]"]
    check_laws(websocket.SPEC, talk, rows, recovers=False, examples=10)


def test_deflate() -> None:
    """With one window for all messages: after a loss none of the later ones need be readable."""
    ask, tell = packer(), packer()
    talk: Talk = [
        pair
        for n in range(4)
        for pair in (
            (C, frame(C, FIN | RSV1 | TEXT, packed(ask, b'{"type": "ask", "number": %d}' % n))),
            (S, frame(S, FIN | RSV1 | TEXT, packed(tell, b'{"type": "tell", "number": %d}' % n))),
        )
    ]
    check_laws(websocket.SPEC, talk, ["text -> - [ok]"] * 8, recovers=False, examples=10)


def test_deflate_without_takeover() -> None:
    words = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    spec = replace(websocket.SPEC, dissector=lambda: dissector(words))
    talk: Talk = [
        (side, frame(side, FIN | RSV1 | TEXT, packed(packer(), b"number %d " % n * 9)))
        for n in range(6)
        for side in (C, S)
    ]
    rows = ["text /chat -> - [ok]"] * 12
    check_laws(spec, talk, rows, examples=10, again=AGAIN)
