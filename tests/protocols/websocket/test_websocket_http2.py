"""WebSocket in streams of HTTP/2 (RFC 8441): what is shown, what ends it, what a loss costs, and the bounds."""

from __future__ import annotations

import pytest
from websocket_http2_kit import (
    BEGIN,
    SPEC,
    answers,
    asks,
    data,
    ends,
    exchange,
    of_http2,
    reset,
)
from websocket_kit import FIN, RSV1, TEXT, C, S, Talk, closed, frame, packed, packer, text

from kshark import limits
from kshark.api import Entry, Side
from kshark.engine import Engine, EngineSettings
from kshark.protocols import http, http2, websocket
from kshark.protocols.http2.details import Http2Request
from kshark.protocols.http2.details import details as of_exchange
from kshark.protocols.websocket.details import details
from kshark.testing import assert_dissector, rows
from kshark.testing.play import play

Pieces = list[tuple[Side, bytes | int]]
DEFLATE = ("sec-websocket-extensions", "permessage-deflate")
TALK: Talk = [
    *BEGIN,
    (C, asks(1, "/chat?room=1&token=abc")),
    (S, answers(1, ("sec-websocket-protocol", "chat"))),
    (C, data(1, text(C, "hello"))),
    (S, data(1, text(S, "and ") + text(S, "back")[:3])),
    (S, data(1, text(S, "back")[3:])),
    (C, data(1, closed(C, 1000, "bye"), True)),
    (S, data(1, closed(S, 1011, "no disk"), True)),
]
ROWS = [
    "CONNECT /chat?room=1&token=abc -> 200 [ok]",
    "text /chat?room=1&token=abc -> - [ok]",
    "text /chat?room=1&token=abc -> - [ok]",
    "text /chat?room=1&token=abc -> - [ok]",
    "close /chat?room=1&token=abc -> - [ok]",
    "close /chat 1011 internal-error -> - [error]",
]


def heard(talk: Talk | Pieces, *, only: tuple[str, ...] = ()) -> tuple[Engine, list[Entry]]:
    """The entries of a connection after its beginning, by an engine with all that it needs."""
    specs = [one for one in (http.SPEC, http2.SPEC, websocket.SPEC) if not only or one.name in only]
    engine = Engine(specs, EngineSettings())
    entries = play(engine, http2.SPEC, [*BEGIN, *talk])
    assert engine.tally.reserved == 0
    return engine, entries


def bodies(entries: list[Entry], stream: int) -> list[str]:
    """What the messages of a stream say."""
    return [
        details(entry.request).body
        for entry in entries
        if entry.protocol == "websocket" and entry.request and entry.request.key == stream
    ]


def test_the_laws() -> None:
    again: Talk = [
        (C, asks(21, "/again")),
        (S, answers(21)),
        (C, data(21, text(C, "once more"), True)),
        (S, data(21, text(S, "yes"), True)),
    ]
    # Without its request nobody can tell a tunnel: then what it carries is shown as the bodies of an ordinary exchange,
    # which "gaps" and "pairs" take for messages that nobody sent. Other holes are below.
    assert_dissector(SPEC, TALK, ROWS, again=again, examples=10, skip=("gaps", "pairs"))


def test_what_is_shown() -> None:
    _, entries = heard(TALK[2:])
    assert rows(entries) == ROWS
    assert [entry.protocol for entry in entries] == ["http2"] + ["websocket"] * 5
    assert [entry.swapped for entry in entries[1:]] == [False, True, True, False, True]
    asked = entries[0].request
    assert asked is not None
    shown = of_exchange(asked)
    assert isinstance(shown, Http2Request)
    assert (shown.protocol, shown.path, shown.stream) == ("websocket", "/chat", 1)
    first = entries[1].request
    assert first is not None
    said = details(first)
    assert (said.path, said.subprotocol, said.stream, said.body) == (
        "/chat?room=1&token=abc", "chat", 1, "hello",
    )  # fmt: skip
    assert entries[0].response is not None
    assert asked.first_ns < entries[0].response.first_ns < first.first_ns == first.last_ns
    cut = entries[3].request  # came in two frames
    assert cut is not None
    assert cut.first_ns < cut.last_ns
    sizes = sum(part.size for e in entries for part in (e.request, e.response) if part)
    fed = sum(len(piece) for _, piece in [*BEGIN, *TALK[2:]])
    assert sizes == fed


def test_permessage_deflate_with_a_window_each() -> None:
    """Two streams whose windows must not mix, and each message refers to those before."""
    engines = {1: packer(), 3: packer()}
    said = {n: [f"the same words, stream {n}, turn {turn}" for turn in range(5)] for n in engines}
    talk: Talk = []
    for n in engines:
        talk += [(C, asks(n, f"/{n}")), (S, answers(n, DEFLATE))]
    for turn in range(5):
        for n, engine in engines.items():
            payload = packed(engine, said[n][turn].encode())
            talk.append((C, data(n, frame(C, FIN | RSV1 | TEXT, payload))))
    _, entries = heard(talk)
    assert bodies(entries, 1) == said[1]
    assert bodies(entries, 3) == said[3]


def test_many_at_once() -> None:
    count = 100
    numbers = range(1, 2 * count, 2)
    talk: Talk = []
    for n in numbers:
        talk += [(C, asks(n, f"/{n}")), (S, answers(n))]
    whole = {n: text(S, f"said on {n}") for n in numbers}
    talk += [(S, b"".join(data(n, whole[n][:4]) for n in numbers))]
    talk += [(S, b"".join(data(n, whole[n][4:]) for n in reversed(numbers)))]
    talk += [(S, b"".join(ends(n) for n in numbers)), (C, b"".join(ends(n) for n in numbers))]
    engine, entries = heard(talk)
    assert all(bodies(entries, n) == [f"said on {n}"] for n in numbers)
    assert len(entries) == 2 * count
    assert engine.ledger.errors == {}


def test_too_many_streams() -> None:
    """The oldest one is given up, and what was under way in it is cut."""
    talk: Talk = [(C, asks(1, "/1")), (S, answers(1)), (C, data(1, text(C, "never whole")[:9]))]
    for n in range(3, 2 * limits.STREAMS + 3, 2):
        talk.append((C, asks(n, f"/{n}")))
    _, entries = heard(talk)
    cut = [entry.request for entry in entries if entry.protocol == "websocket"]
    assert [(one.target, one.cut, one.truncated) for one in cut if one] == [("/1", True, True)]


@pytest.mark.parametrize("who", [C, S])
def test_a_reset_ends_both_sides(who: Side) -> None:
    begun: Talk = [
        (C, asks(1, "/r")),
        (S, answers(1)),
        (C, data(1, text(C, "half a message")[:8])),
        (S, data(1, text(S, "another")[:4])),
    ]
    other = S if who == C else C
    late: Talk = [(other, data(1, text(other, "late")))]
    _, entries = heard([*begun, (who, reset(1)), *late, *exchange(3, "/on")])
    assert rows(entries) == [
        "CONNECT /r -> 200 [ok]",
        "text /r -> - [cut]",
        "text /r -> - [cut]",
        "GET /on -> 200 [ok]",
    ]
    sizes = sum(part.size for e in entries for part in (e.request, e.response) if part)
    assert (
        sizes == sum(len(piece) for _, piece in [*BEGIN, *begun, *late, *exchange(3, "/on")]) + 13
    )


def test_each_side_ends_by_itself() -> None:
    talk: Talk = [
        (C, asks(1, "/e")),
        (S, answers(1)),
        (S, data(1, text(S, "last") + b"\x81", True)),
        (C, data(1, text(C, "still here"))),
        (C, ends(1)),
    ]
    _, entries = heard(talk)
    assert bodies(entries, 1) == ["last", "still here"]
    _, entries = heard(talk[:3])
    assert bodies(entries, 1) == ["last"]


def test_refused() -> None:
    talk: Talk = [
        (C, asks(1, "/no")),
        (S, answers(1, ("content-type", "text/plain"), status="403") + data(1, b"go away", True)),
        (C, data(1, text(C, "not heard"), True)),
    ]
    _, entries = heard([*talk, *exchange(3, "/on")])
    assert rows(entries) == ["CONNECT /no -> 403 [error]", "GET /on -> 200 [ok]"]
    assert entries[0].response is not None
    assert entries[0].response.body == b"go away"


def test_reset_before_an_answer() -> None:
    _, entries = heard([(C, asks(1, "/gone")), (S, reset(1, 7))])
    assert rows(entries) == ["CONNECT /gone -> RST_STREAM REFUSED_STREAM [error]"]


def test_not_answered() -> None:
    _, entries = heard([(C, asks(1, "/w")), (C, data(1, text(C, "early")))])
    assert rows(entries) == ["CONNECT /w -> - [unanswered]"]


def test_early_bytes_wait_for_the_answer() -> None:
    early = data(1, text(C, "too soon"))
    _, entries = heard([(C, asks(1, "/w") + early), (S, answers(1)), (C, data(1, text(C, "b")))])
    assert bodies(entries, 1) == ["too soon", "b"]
    _, entries = heard([(C, asks(1, "/w") + early), (S, answers(1)), (C, ends(1)), (S, ends(1))])
    assert bodies(entries, 1) == ["too soon"]


def test_early_bytes_are_bounded() -> None:
    """Over the bound nothing of them is kept, and frames are searched for again."""
    long = text(C, "x" * 16_000)
    talk: Talk = [(C, asks(1, "/w"))]
    talk += [(C, data(1, long)) for _ in range(limits.BODY_KEPT // len(long) + 1)]
    talk += [(S, answers(1))]
    talk += [
        (C, data(1, frame(C, FIN | TEXT, f"after {n}".encode(), bytes([n] * 4)))) for n in range(9)
    ]
    _, entries = heard(talk)
    assert bodies(entries, 1) == [f"after {n}" for n in range(9)]


def test_a_hole_in_a_payload_is_counted() -> None:
    """The hole lies in a DATA frame, and in the payload of a message."""
    whole = data(1, text(S, "words " * 40) + text(S, "next"))
    talk: Pieces = [(C, asks(1, "/h")), (S, answers(1)), (S, whole[:50]), (S, 60), (S, whole[110:])]
    _, entries = heard(talk)
    assert rows(entries)[1:] == ["text /h -> - [ok]", "text /h -> - [ok]"]
    assert [(e.gap_bytes, e.truncated) for e in entries[1:]] == [(60, True), (0, False)]
    assert bodies(entries, 1)[1] == "next"


def test_a_hole_between_frames_is_never_guessed_over() -> None:
    """Nobody knows what was lost: a message under way is cut, and a lone frame after it is not believed."""
    part = data(1, text(S, "a message that will be lost")[:9])
    talk: Pieces = [(C, asks(1, "/h")), (S, answers(1)), (S, part), (S, 300)]
    lone: Pieces = [(S, of_http2(4, 1, 0) * 3 + data(1, text(S, "maybe")))]
    _, entries = heard([*talk, *lone])
    assert [row for row in rows(entries) if "text" in row] == ["text /h -> - [cut]"]
    chain = [text(S, f"number {n} of a chain" + "!" * n) for n in range(8)]
    more: Pieces = [(S, of_http2(4, 1, 0) * 3 + b"".join(data(1, one) for one in chain))]
    _, entries = heard([*talk, *more])
    assert bodies(entries, 1)[1:] == [f"number {n} of a chain" + "!" * n for n in range(8)]


def test_a_quiet_one_outlives_a_loss() -> None:
    """Others end after a loss; that says nothing of a WebSocket that nobody used meanwhile."""
    talk: Pieces = [(C, asks(1, "/quiet")), (S, answers(1)), (S, 50)]
    for n in range(3, 43, 2):
        talk += exchange(n, f"/{n}")
    said = [text(S, f"number {n} of a chain" + "!" * n) for n in range(8)]
    talk += [(S, b"".join(data(1, one) for one in said))]
    _, entries = heard(talk)
    assert len(bodies(entries, 1)) == 8


def test_what_breaks_the_protocol_costs_that_stream() -> None:
    bad = text(S, "fine") + b"\x83\x00"  # a reserved opcode
    talk: Talk = []
    for n in (1, 3):
        talk += [(C, asks(n, f"/{n}")), (S, answers(n))]
    talk += [(S, data(1, bad)), (S, data(1, text(S, "unheard"))), (S, data(3, text(S, "heard")))]
    engine, entries = heard(talk)
    assert (bodies(entries, 1), bodies(entries, 3)) == (["fine"], ["heard"])
    assert engine.ledger.errors == {"websocket: reserved opcode 3": 1}


def test_memory_is_short() -> None:
    """More than is kept of messages under way: their bodies are forgotten, and all of them still come."""
    big = 60_000
    talk: Talk = []
    numbers = range(1, 13, 2)
    for n in numbers:
        talk += [(C, asks(n, f"/{n}")), (S, answers(n))]
    long = text(S, "y" * big)
    for n in numbers:
        talk += [
            (S, b"".join(data(n, long[at : at + 16_000]) for at in range(0, big // 2, 16_000)))
        ]
    for n in numbers:
        rest = [long[at : at + 16_000] for at in range(32_000, len(long), 16_000)]
        talk += [(S, b"".join(data(n, one) for one in rest))]
    _, entries = heard(talk)
    found = [entry.request for entry in entries if entry.protocol == "websocket"]
    assert len(found) == len(numbers)
    assert any(one is not None and one.truncated for one in found)


@pytest.mark.parametrize("protocol", ["connect-udp", "websocketish"])
def test_another_protocol_stays_an_exchange(protocol: str) -> None:
    talk: Talk = [
        (C, asks(1, "/t", protocol)),
        (S, answers(1)),
        (C, data(1, b"anything", True)),
        (S, data(1, b"else", True)),
    ]
    _, entries = heard(talk)
    assert rows(entries) == ["CONNECT /t -> 200 [ok]"]
    assert entries[0].request is not None
    assert entries[0].request.body == b"anything"


def test_a_plain_connect_stays_a_tunnel() -> None:
    head = b"\0\x07:method\x07CONNECT\0\x0a:authority\x05a:443"
    talk: Talk = [
        (C, of_http2(1, 4, 1, head)),
        (S, answers(1)),
        (C, data(1, text(C, "no websocket"), True)),
        (S, ends(1)),
    ]
    _, entries = heard(talk)
    assert [entry.protocol for entry in entries] == ["http2"]
    assert entries[0].request is not None
    assert entries[0].request.verb == "CONNECT"


def test_nobody_asked_for_websockets() -> None:
    _, entries = heard(TALK[2:], only=("http2",))
    assert rows(entries) == ["CONNECT /chat?room=1&token=abc -> 200 [ok]"]
