"""What becomes a message of HTTP/2, and when; limits; joins and holes."""

from __future__ import annotations

import gzip

import pytest
from http2_kit import (
    ACK,
    GET,
    HELLO,
    POST,
    C,
    S,
    answer,
    block,
    data,
    frame,
    get,
    goaway,
    literal,
    messages,
    of,
    opened,
    pieces_of_block,
    post,
    promise,
    reset,
    settings,
    shown,
    trailers,
)

from kshark import limits
from kshark.api import DissectError, Kind, Message, ProtocolSpec, Side
from kshark.engine import Engine, EngineSettings
from kshark.feeder import Found
from kshark.protocols import http2
from kshark.protocols.http2.details import Http2Request, Http2Response, details
from kshark.protocols.http2.dissector import Http2Dissector
from kshark.protocols.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PRIORITIZED,
    PUSH_PROMISE,
)
from kshark.protocols.http2.states import NOTES
from kshark.testing import converse, rows
from kshark.testing._weight import weigh
from kshark.testing.play import hear, play

Talk = list[tuple[Side, bytes | int]]


# ---------------------------------------------------------------- frames


def test_interleaved_streams() -> None:
    talk = [
        (C, get(1, "/a") + get(3, "/b") + get(5, "/c")),
        (S, frame(HEADERS, END_HEADERS, 3, b"\x88") + frame(HEADERS, END_HEADERS, 1, b"\x88")),
        (
            S,
            data(1, b"a1")
            + data(3, b"b1")
            + answer(5, 404)
            + data(1, b"a2", True)
            + data(3, b"b2", True),
        ),
    ]
    assert of(talk) == [
        "> 1 GET /a",
        "> 3 GET /b",
        "> 5 GET /c",
        "< 5 404",
        "< 1 200 +4",
        "< 3 200 +4",
    ]
    assert rows(converse(http2.SPEC, opened(talk))) == [
        "GET /c -> 404 [error]",
        "GET /a -> 200 [ok]",
        "GET /b -> 200 [ok]",
    ]


def test_continuation_padding_and_priority() -> None:
    whole = GET + block((":path", "/long"), ("x", "y" * 100))
    padded = bytes([7]) + b"\0\0\0\x01\x10" + GET + block((":path", "/p")) + b"\0" * 7
    talk = [
        (C, pieces_of_block(1, END_STREAM, whole, 10)),
        (C, frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 3, padded)),
        (C, frame(DATA, PADDED, 3, b"\x03abc\0\0\0") + frame(DATA, PADDED | END_STREAM, 3, b"\0d")),
    ]
    found = messages(opened(talk))
    assert shown(found) == ["> 1 GET /long", "> 3 GET /p +4"]
    assert found[1].body == b"abcd"
    assert details(found[1]).body_size == 4
    assert sum(m.size for m in found) == sum(len(d) for side, d in opened(talk) if side == C)


def test_what_is_ignored() -> None:
    """WINDOW_UPDATE, PING, PRIORITY, frames of types that nobody knows, empty DATA."""
    noise = (
        frame(8, 0, 0, b"\0\0\x10\0")
        + frame(6, 0, 0, b"pingpong")
        + frame(2, 0, 1, b"\0\0\0\0\x10")
    )
    noise += (
        frame(0xF0, 0xFF, 77, b"grease" * 9) + frame(0x10, 0, 0, b"\0\0\0\x01u=1") + data(1, b"")
    )
    start = frame(HEADERS, END_HEADERS, 1, POST + block((":path", "/")))
    talk = [
        (C, noise[:44] + start + noise + data(1, b"x", True)),
        (S, noise + answer(1, 200) + noise),
    ]
    assert of(talk) == ["> 1 POST / +1", "< 1 200"]


def test_interim_and_trailers() -> None:
    talk = [
        (
            C,
            frame(
                HEADERS, END_HEADERS, 1, POST + block((":path", "/up"), ("expect", "100-continue"))
            ),
        ),
        (S, frame(HEADERS, END_HEADERS, 1, block((":status", "100")))),
        (C, data(1, b"body", True)),
        (S, frame(HEADERS, END_HEADERS, 1, block((":status", "103"), ("link", "</s>")))),
        (
            S,
            frame(HEADERS, END_HEADERS, 1, b"\x88")
            + data(1, b"ok")
            + trailers(1, ("grpc-status", "0")),
        ),
    ]
    found = messages(opened(talk))
    assert shown(found) == ["~ 1 100", "> 1 POST /up +4 interim-100", "~ 1 103", "< 1 200 +2"]
    last = details(found[-1])
    assert last.trailers == [("grpc-status", "0")]
    (entry,) = converse(http2.SPEC, opened(talk))
    assert entry.request is not None
    assert entry.request.notes == ("interim-100", "interim-103")


def test_push() -> None:
    talk = [
        (C, get(1, "/")),
        (S, promise(1, 2, "/s.css") + answer(1, 200, b"p") + answer(2, 200, b"s")),
    ]
    found = messages(opened(talk))
    assert shown(found) == ["> 1 GET /", "> 2 GET /s.css pushed", "< 1 200 +1", "< 2 200 +1"]
    entries = converse(http2.SPEC, opened(talk))
    assert rows(entries) == ["GET / -> 200 [ok]", "GET /s.css -> 200 [ok]"]
    assert [e.swapped for e in entries] == [False, False]
    refused = [
        (C, get(1, "/")),
        (S, promise(1, 2, "/s.css")),
        (C, reset(2, 7)),
        (S, answer(2, 200)),
    ]
    assert of(refused)[2:] == ["< 2 RST_STREAM REFUSED_STREAM reset-by-client"]


# ---------------------------------------------------------------- how streams end


def test_reset_before_an_answer() -> None:
    talk = [(C, get(1, "/slow")), (C, reset(1)), (S, answer(1, 200, b"late"))]
    (entry,) = converse(http2.SPEC, opened(talk))
    assert rows([entry]) == ["GET /slow -> RST_STREAM CANCEL [error]"]
    assert entry.response is not None
    assert entry.response.notes == ("reset-by-client",)
    shape = details(entry.response)
    assert isinstance(shape, Http2Response)
    assert (shape.ended_by, shape.error, shape.status) == ("RST_STREAM", "CANCEL", 0)


def test_reset_within_the_answer() -> None:
    start = frame(HEADERS, END_HEADERS, 1, b"\x88") + data(1, b"half")
    (entry,) = converse(http2.SPEC, opened([(C, get(1, "/")), (S, start + reset(1, 2))]))
    assert rows([entry]) == ["GET / -> RST_STREAM 200 INTERNAL_ERROR [error]"]
    assert entry.truncated


def test_answered_before_the_request_ended() -> None:
    """A whole answer waits for the end of the request; RST_STREAM NO_ERROR is such an end (RFC 9113 8.1)."""
    start = frame(HEADERS, END_HEADERS, 1, POST + block((":path", "/big"))) + data(1, b"abc")
    early = answer(1, 500, b"no")
    assert of([(C, start), (S, early), (C, data(1, b"d", True))]) == [
        "> 1 POST /big +4",
        "< 1 500 +2",
    ]
    assert of([(C, start), (S, early + reset(1, 0))]) == [
        "> 1 POST /big +3 reset-by-server",
        "< 1 500 +2",
    ]
    assert of([(C, start), (S, early)]) == ["> 1 POST /big +3 cut", "< 1 500 +2"]


def test_goaway() -> None:
    talk = [
        (C, get(1, "/a") + get(3, "/b")),
        (S, goaway(1, 11, b"slow down") + answer(1, 200)),
    ]
    found = messages(opened(talk))
    assert shown(found) == [
        "> 1 GET /a",
        "> 3 GET /b",
        "< 3 GOAWAY ENHANCE_YOUR_CALM not-processed",
        "! 0 GOAWAY ENHANCE_YOUR_CALM +9",
        "< 1 200",
    ]
    event = details(found[3])
    assert isinstance(event, Http2Request)
    assert (event.error, event.body) == ("ENHANCE_YOUR_CALM", "slow down")
    assert of([(C, get(1, "/a")), (S, answer(1, 200) + goaway(1))]) == ["> 1 GET /a", "< 1 200"]


def test_dates_of_interleaved_messages() -> None:
    """Who feeds says when: each message has the time of its own first bytes."""
    dissector = Http2Dissector()
    found = Found()
    for now, (side, piece) in enumerate(
        [
            (C, HELLO + get(1, "/a")),
            (C, frame(8, 0, 0, b"\0\0\0\x01")),
            (S, settings() + frame(HEADERS, END_HEADERS, 1, b"\x88")),
            (C, get(3, "/b")),
            (S, answer(3, 200)),
            (S, data(1, b"x", True)),
        ],
        100,
    ):
        found.now = now
        dissector.take(side, piece, found)
    dated = [(m.key, m.kind, m.first_ns) for m in found.drain() if isinstance(m, Message)]
    assert dated == [(1, 1, 100), (3, 1, 103), (3, 2, 104), (1, 2, 102)]


# ---------------------------------------------------------------- details


def test_details() -> None:
    talk = [
        (
            C,
            post(
                1,
                "/p?token=t",
                b"a=1",
                (":scheme", "https"),
                (":authority", "h:1"),
                ("Cookie", "c"),
            ),
        ),
        (S, answer(1, 200, b"{}", ("content-type", "application/json"), ("server", "s"))),
    ]
    asked, answered = map(details, messages(opened(talk)))
    assert isinstance(asked, Http2Request)
    assert isinstance(answered, Http2Response)
    assert (asked.method, asked.path, asked.query) == ("POST", "/p", "?token=t")
    assert (asked.scheme, asked.host, asked.stream) == ("http", "h:1", 1)
    assert asked.headers == [("cookie", "c")]
    assert (answered.status, answered.server, answered.body) == (200, "s", "{}")


def test_secrets_are_hidden() -> None:
    from kshark.redact import Redactor

    talk = [
        (C, get(1, "/p?token=hunter2", ("authorization", "hunter2"), ("cookie", "a=hunter2"))),
        (S, answer(1, 200, b"", ("set-cookie", "s=hunter2"))),
    ]
    redactor = Redactor()
    text = repr([redactor.apply(details(m)) for m in messages(opened(talk))])
    assert "authorization" in text
    assert "hunter2" not in text


def test_a_value_without_a_name_is_not_shown() -> None:
    """After a join its name may be that of a secret."""
    talk: Talk = [
        (C, frame(HEADERS, END_HEADERS | END_STREAM, 7, GET + b"\x7f\x00\x06secret" + b"\xbf")),
        (C, get(9, "/next")),
    ]
    first, _ = messages(talk)
    assert first.notes == ("unknown-headers",)
    assert first.truncated
    shape = details(first)
    assert (shape.headers, shape.unknown_headers) == ([], 2)
    assert "secret" not in repr(shape)


# ---------------------------------------------------------------- limits


def test_streams_never_closed_stay_bounded() -> None:
    """10,000 requests that do not end: the oldest are given up, marked, and memory stays."""
    dissector = Http2Dissector()
    found = list(dissector.feed(C, HELLO))
    before = weigh(dissector)
    for number in range(1, 20_001, 2):
        head = frame(HEADERS, END_HEADERS, number, POST + block((":path", f"/{number}")))
        found += dissector.feed(C, head + data(number, b"x" * 100))
    assert len(dissector.streams.table) == limits.STREAMS
    given = [m for m in found if isinstance(m, Message)]
    assert len(given) == 10_000 - limits.STREAMS
    assert {(m.cut, m.notes) for m in given} == {(True, ("given-up",))}
    assert dissector.client.kept <= limits.STREAM_BYTES
    assert weigh(dissector) - before < 1 << 20


def test_requests_never_answered_stay_bounded() -> None:
    dissector = Http2Dissector()
    found = list(dissector.feed(C, HELLO + b"".join(get(n, "/") for n in range(1, 20_001, 2))))
    assert len(found) == 10_000
    assert len(dissector.streams.table) == limits.STREAMS


def test_interleaving_at_the_limit() -> None:
    """As many streams as are followed, content in turns: all whole, in whatever order they end."""
    numbers = range(1, 2 * limits.STREAMS, 2)
    talk = [(C, HELLO + b"".join(get(n, f"/{n}") for n in numbers))]
    parts = [frame(HEADERS, END_HEADERS, n, b"\x88") + data(n, b"%d" % n) for n in numbers]
    ends = [data(n, b"!", True) for n in reversed(numbers)]
    talk += [(S, settings() + b"".join(parts + ends))]
    entries = converse(http2.SPEC, talk)
    assert len(entries) == limits.STREAMS
    for entry in entries:
        assert entry.request is not None
        assert entry.response is not None
        assert entry.response.body == f"{entry.request.target[1:]}!".encode()
        assert not entry.truncated


def test_bodies_are_capped_a_message_and_a_side() -> None:
    talk = [(C, HELLO)]
    for n in (1, 3, 5):
        talk += [(C, frame(HEADERS, END_HEADERS, n, POST + block((":path", "/"))))]
    for n in (1, 3, 5):
        talk += [(C, data(n, b"x" * 16_000)) for _ in range(4)]
    talk += [(C, data(n, b"y" * 5_000, True)) for n in (1, 3, 5)]
    found = messages(talk)
    assert [details(m).body_size for m in found] == [69_000] * 3
    assert max(len(m.body) for m in found) == limits.BODY_KEPT
    assert all(m.truncated for m in found)
    assert sum(len(m.body) for m in found) <= limits.STREAM_BYTES + limits.BODY_KEPT


def test_a_block_that_never_ends() -> None:
    """CONTINUATION flood: neither bytes nor frames are hoarded, and what follows is understood."""
    for piece, count in ((b"", 5_000), (b"\x00\x01a\x01b" * 100, 500)):
        dissector = Http2Dissector()
        dissector.feed(C, HELLO + frame(HEADERS, END_STREAM, 1, GET))
        before = weigh(dissector)
        for _ in range(count):
            assert dissector.feed(C, frame(9, 0, 1, piece)) == []
        assert weigh(dissector) - before < 2 * limits.HEADER_BLOCK
        found = dissector.feed(C, frame(9, END_HEADERS, 1, b"") + get(3, "/next"))
        assert shown(m for m in found if isinstance(m, Message)) == [
            "> 1 long-headers",
            "> 3 GET /next",
        ]


def test_a_compressed_bomb_in_frames() -> None:
    """50 MB in some fifty KB of DATA: looked into within UNPACKED and UNPACK_RATIO, when somebody asks."""
    packed = gzip.compress(bytes(50_000_000))
    frames = b"".join(data(1, packed[at : at + 16_000]) for at in range(0, len(packed), 16_000))
    head = frame(HEADERS, END_HEADERS, 1, b"\x88" + block(("content-encoding", "gzip")))
    _, message = messages(opened([(C, get(1, "/")), (S, head + frames + data(1, b"", True))]))
    shown = details(message)
    assert isinstance(shown, Http2Response)
    assert shown.body_size == len(packed)
    assert "unpack-limit" in shown.notes
    assert len(shown.body) <= 2 * limits.UNPACKED


def test_a_header_bomb() -> None:
    bomb = GET + literal("b", "v" * 4000, True) + b"\xbe" * 10_000
    (message,) = messages(opened([(C, frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb))]))
    assert message.notes == ("long-headers",)
    assert message.truncated
    assert len(message.head) <= limits.HEADER_LIST


def test_heads_that_wait_give_way() -> None:
    """Heads beyond STREAM_BYTES: the oldest stream is given up."""
    head = POST + block((":path", "/"), ("x", "y" * 10_000))
    talk = [(C, frame(HEADERS, END_HEADERS, n, head)) for n in range(1, 41, 2)]
    dissector = Http2Dissector()
    found = [m for side, piece in opened(talk) for m in dissector.feed(side, piece)]
    assert {m.notes for m in found if isinstance(m, Message)} == {("given-up",)}
    assert dissector.client.kept <= limits.STREAM_BYTES


def test_late_frames_of_reset_streams() -> None:
    """RESETS streams are remembered; the answer on an older one looks like an orphan."""
    count = limits.RESETS + 1
    talk = [(C, get(n, "/") + reset(n)) for n in range(1, 2 * count, 2)]
    late = [(S, answer(2 * count - 1, 200)), (S, answer(1, 200))]
    assert of([*talk, *late])[2 * count :] == ["< 1 200"]


def test_a_long_target() -> None:
    path = "/" + "x" * limits.TARGET
    (message,) = messages(opened([(C, get(1, path))]))
    assert message.notes == ("long-target",)
    assert message.target == path[: limits.TARGET]


def test_every_note_is_described() -> None:
    assert all(text for text in NOTES.values())


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    "wrong",
    [
        frame(3, 0, 1, b"\0\0\0"),
        frame(4, 0, 0, b"\0"),
        frame(6, 0, 0, b"short"),
        frame(0, 0, 0, b"x"),
        frame(DATA, PADDED, 1, b"\x05abc"),
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff\x82"),
        frame(HEADERS, 0, 1, b"\x82") + data(1, b"x"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_a_broken_peer(wrong: bytes) -> None:
    dissector = Http2Dissector()
    dissector.feed(C, HELLO)
    with pytest.raises(DissectError):
        dissector.feed(C, wrong)
    assert list(dissector.gap(C, 0)) == []
    found = dissector.feed(C, get(7, "/again") + get(9, "/more"))
    assert shown(m for m in found if isinstance(m, Message)) == ["> 7 GET /again", "> 9 GET /more"]


def test_a_block_that_is_no_hpack() -> None:
    bad = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\xff\xff\xff\xff\xff\xff")
    assert of([(C, bad + get(3, "/"))]) == ["> 1 bad-headers", "> 3 GET /"]


def test_large_frames_are_allowed_by_settings() -> None:
    big = frame(HEADERS, END_HEADERS, 1, POST + block((":path", "/"))) + data(
        1, b"x" * 20_000, True
    )
    talk = [(C, HELLO), (S, settings((5, 1 << 20)) + ACK), (C, ACK + big)]
    assert shown(messages(talk)) == ["> 1 POST / +20000"]


def test_table_size_counts_from_the_acknowledgement_on() -> None:
    dissector = Http2Dissector()
    dissector.feed(C, HELLO + settings((1, 20_000)))
    assert dissector.server.decoder.room == 4096
    dissector.feed(S, settings())
    assert dissector.server.decoder.room == 4096
    dissector.feed(S, ACK)
    assert dissector.server.decoder.room == 20_000
    assert dissector.client.decoder.room == 4096


# ---------------------------------------------------------------- joins and holes


def test_a_join_in_mid_stream() -> None:
    """Content without headers, headers by a table that nobody saw, then what is known again."""
    indexed = frame(HEADERS, END_HEADERS | END_STREAM, 103, GET + b"\xc5\xc1")
    talk: Talk = [
        (S, data(101, b"rest") + data(101, b"!", True)),
        (C, indexed + get(105, "/known")),
        (S, frame(HEADERS, END_HEADERS | END_STREAM, 103, b"\xc8") + answer(105, 200)),
    ]
    found = messages(talk)
    assert shown(found) == [
        "> 103 GET unknown-headers",
        "> 105 GET /known",
        "< 101 +5 unknown-headers cut",
        "< 103 unknown-headers cut",
        "< 105 200",
    ]
    assert rows(converse(http2.SPEC, talk)) == [
        "- -> . [cut]",
        "GET -> . [cut]",
        "GET /known -> 200 [ok]",
    ]


def test_a_hole_within_content() -> None:
    body = data(1, b"x" * 1000, True)
    start = settings() + frame(HEADERS, END_HEADERS, 1, b"\x88")
    talk: Talk = [(C, HELLO + get(1, "/")), (S, start + body[:100]), (S, 500), (S, body[600:])]
    talk += [(C, get(3, "/n")), (S, answer(3, 200))]
    first, second = converse(http2.SPEC, talk)
    assert (first.outcome, first.gap_bytes, first.truncated) == ("ok", 500, True)
    assert first.response is not None
    assert details(first.response).body_size == 1000
    assert not second.truncated


def test_a_hole_within_headers() -> None:
    """The frame's length is known: its stream has unknown headers, the next one is whole."""
    lost = answer(1, 200, b"", ("x", "y" * 50))
    talk: Talk = [(C, HELLO + get(1, "/") + get(3, "/n")), (S, settings() + lost[:20]), (S, 10)]
    talk += [(S, lost[30:] + answer(3, 200, b"n"))]
    assert shown(messages(talk))[2:] == ["< 1 unknown-headers cut", "< 3 200 +1"]


def test_a_hole_of_unknown_content() -> None:
    """Streams under way go on, marked; those that are not heard of again are cut after a while."""
    start = [frame(HEADERS, END_HEADERS, n, b"\x88") + data(n, b"a") for n in (1, 3)]
    talk: Talk = [(C, HELLO + b"".join(get(n, f"/{n}") for n in range(1, 15, 2)))]
    talk += [(S, settings() + b"".join(start)), (S, 1000), (S, data(1, b"b") + data(1, b"c", True))]
    talk += [(S, answer(n, 200)) for n in range(5, 15, 2)]
    assert shown(messages(talk))[7:] == [
        "< 1 200 +3 lost-bytes",
        "< 5 200",
        "< 7 200",
        "< 9 200",
        "< 3 200 +1 lost-bytes cut",
        "< 11 200",
        "< 13 200",
    ]


def test_the_table_is_unknown_after_a_hole() -> None:
    add = frame(HEADERS, END_HEADERS | END_STREAM, 1, GET + literal(":path", "/t", True))
    use = frame(HEADERS, END_HEADERS | END_STREAM, 5, GET + b"\xbe")
    talk: Talk = [(C, HELLO + add), (C, 30), (C, use + get(7, "/literal"))]
    assert shown(messages(talk)) == ["> 1 GET /t", "> 5 GET unknown-headers", "> 7 GET /literal"]


def test_close_cuts_what_is_open() -> None:
    talk: Talk = [
        (C, HELLO + frame(HEADERS, END_HEADERS, 1, POST + block((":path", "/")))),
        (S, settings()),
    ]
    heard = hear(Http2Dissector(), talk)
    assert [(side, m.kind, m.cut) for side, m in heard.messages] == [(C, Kind.REQUEST, True)]


def test_slim() -> None:
    dissector = Http2Dissector()
    dissector.feed(
        C,
        HELLO + frame(HEADERS, END_HEADERS, 1, POST + block((":path", "/"))) + data(1, b"x" * 9000),
    )
    assert dissector.slim() < 200
    (message,) = dissector.feed(C, data(1, b"y", True))
    assert isinstance(message, Message)
    assert message.truncated
    assert message.body in (b"", b"y")


def test_a_promise_by_the_client_is_nobodys() -> None:
    wrong = frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + GET)
    assert of([(C, wrong + get(3, "/"))]) == ["> 3 GET /"]


def test_a_frame_longer_than_allowed() -> None:
    dissector = Http2Dissector()
    dissector.feed(C, HELLO)
    with pytest.raises(DissectError):
        dissector.feed(C, data(1, b"x" * 16_385))


def test_what_a_sweep_has_given_is_not_given_again() -> None:
    """The end of one stream may be the end of others that a loss cut; at the close, too."""
    start = [frame(HEADERS, END_HEADERS, n, b"\x88") for n in (1, 3)]
    talk: Talk = [(C, HELLO + get(1, "/1") + get(3, "/3")), (S, settings() + b"".join(start))]
    talk += [(S, 100), (S, answer(5, 200) + answer(7, 200) + answer(9, 200))]
    found = [m.key for m in messages(talk) if m.kind == Kind.RESPONSE]
    assert found == [5, 7, 9, 1, 3]


def test_a_strangers_layer_cannot_change_what_it_was_asked_with() -> None:
    """The request that a layer is asked for with is the one that is given in the end."""

    def layer(request: Message) -> None:
        request.verb, request.head, request.ok = "changed", b"", False

    odd = ProtocolSpec(name="odd", over=("http2",), types=("application/x-odd",), layer=layer)
    talk = [
        (C, post(1, "/p", b"body", ("content-type", "application/x-odd"))),
        (S, answer(1, 200, b"yes")),
    ]
    [entry] = play(Engine([http2.SPEC, odd], EngineSettings()), http2.SPEC, opened(talk))
    assert rows([entry]) == ["POST /p -> 200 [ok]"]
    assert entry.request is not None
    assert entry.request.body == b"body"
    assert entry.request.head != b""
