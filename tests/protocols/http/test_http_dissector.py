"""The state machine, in both builds: framing, upgrades, ambiguity, limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from http_kit import GET, OK, C, S, builds, cut, messages, plain, play

from kshark import limits
from kshark.api import DissectError, Kind, Message, NotMine, Switch

Make = Callable[[], Any]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\r\n"
ONE = [(C, GET), (S, OK)]


def rows(found: list[Message | Switch]) -> list[tuple[Any, ...]]:
    """What most cases look at: kind, verb and target or status, body, size, notes."""
    return [
        (m.kind, m.verb or m.status, m.body, m.size, m.notes)
        if isinstance(m, Message)
        else (m.protocol, m.client, m.server)
        for m in found
    ]


@builds
def test_one_exchange(make: Make) -> None:
    request, response = messages(play(make, ONE))
    assert request == Message(
        Kind.REQUEST, verb="GET", target="/", size=len(GET), head=GET, body=b""
    )
    assert response == Message(
        Kind.RESPONSE, status=200, ok=True, size=len(OK), head=OK[:-2], body=b"hi"
    )


@builds
def test_pipelining_with_empty_lines_between(make: Make) -> None:
    post = b"POST /p HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    found = play(make, [(C, GET + b"\r\n" + post + b"\r\n\r\n" + GET), (S, OK * 3)])
    assert rows(found) == [
        (1, "GET", b"", 27, ()),
        (1, "POST", b"abc", len(post) + 2, ()),
        (1, "GET", b"", 27 + 4, ()),
        *[(2, 200, b"hi", len(OK), ())] * 3,
    ]


@builds
@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"),
        (b"HEAD / HTTP/1.1\r\n\r\n", CHUNKED),
        (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    ],
)
def test_responses_without_body(make: Make, asked: bytes, answer: bytes) -> None:
    found = messages(play(make, [(C, asked + GET), (S, answer + OK)]))
    assert [m.size for m in found] == [len(asked), len(GET), len(answer), len(OK)]
    assert found[2].body == b""


@builds
def test_head_in_a_pipeline_is_matched_by_its_place(make: Make) -> None:
    head = b"HEAD /h HTTP/1.1\r\n\r\n"
    bare = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    found = messages(play(make, [(C, GET + head + GET + head), (S, OK + bare + OK + bare)]))
    assert [m.body for m in found[4:]] == [b"hi", b"", b"hi", b""]


@builds
def test_interim_responses_do_not_answer(make: Make) -> None:
    head = b"HEAD / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n"
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    found = messages(play(make, [(C, head), (S, interim + answer)]))
    assert [(m.kind, m.status) for m in found[1:]] == [
        (Kind.INTERIM, 100),
        (Kind.INTERIM, 103),
        (Kind.RESPONSE, 200),
    ]


@builds
def test_chunks_extensions_and_trailers(make: Make) -> None:
    body = b'5;name="v"\r\nhello\r\n00006\r\n world\r\n0\r\nX: 1\r\nY: 2\r\n\r\n'
    (_, found) = messages(play(make, [(C, GET), (S, CHUNKED + body)]))
    assert (found.body, found.size, found.notes) == (b"hello world", len(CHUNKED + body), ())
    assert (found.extra.body_size, found.extra.trailers) == (11, b"X: 1\r\nY: 2\r\n\r\n")
    assert not found.truncated


@builds
def test_until_close(make: Make) -> None:
    found = play(make, [(C, GET), (S, b"HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")])
    assert rows(found)[1:] == [(2, 200, b"HTTP/1.1 200 OK\r\n\r\n", 38, ())]
    assert not messages(found)[1].cut


@builds
@pytest.mark.parametrize(
    ("line", "verb", "target"),
    [
        (b"GET http://h:81/p?q=1 HTTP/1.1", "GET", "http://h:81/p?q=1"),
        (b"OPTIONS * HTTP/1.1", "OPTIONS", "*"),
        (b"get /lower HTTP/1.0", "get", "/lower"),
        (b"M-SEARCH * HTTP/1.1", "M-SEARCH", "*"),
        (b"BREW /\xf0\x9f\xab\x96 HTTP/1.1", "BREW", "/\xf0\x9f\xab\x96"),
    ],
)
def test_request_lines(make: Make, line: bytes, verb: str, target: str) -> None:
    (found,) = messages(play(make, [(C, line + b"\r\n\r\n")]))
    assert (found.verb, found.target, found.notes) == (verb, target, ())


@builds
def test_bare_line_ends_and_no_reason(make: Make) -> None:
    found = play(make, [(C, b"GET / HTTP/1.1\nHost: a\n\n"), (S, b"HTTP/1.1 404\n\nx")])
    assert rows(found) == [(1, "GET", b"", 24, ("bare-lf",)), (2, 404, b"x", 15, ("bare-lf",))]
    assert not messages(found)[1].ok


# ---------------------------------------------------------------- upgrades


@builds
def test_upgrade_hands_over_what_each_side_sent(make: Make) -> None:
    found = play(make, [(C, UPGRADE + b"\x81\x00frame"), (S, SWITCHING + b"\x82")])
    assert [type(m).__name__ for m in found] == ["Message", "Message", "Switch"]
    asked, answered, switch = found
    assert switch == Switch("websocket", b"\x81\x00frame", b"\x82", (asked, answered))
    assert messages(found)[1].kind == Kind.RESPONSE


@builds
def test_upgrade_that_is_refused_releases_the_pipeline_in_order(make: Make) -> None:
    dissector = make()
    assert rows(dissector.feed(C, UPGRADE + GET + GET)) == [(1, "GET", b"", len(UPGRADE), ())]
    found = dissector.feed(S, b"HTTP/1.1 103 Early\r\n\r\n" + OK * 3)
    assert [m.kind for m in found] == [3, 2, 1, 1, 2, 2]
    assert [m.side for m in found] == [-1, -1, 0, 0, -1, -1]
    assert rows(dissector.feed(C, GET)) == [(1, "GET", b"", len(GET), ())]


@builds
def test_upgrade_behind_another_request_waits_for_its_own_answer(make: Make) -> None:
    dissector = make()
    _, asked = dissector.feed(C, GET + UPGRADE + b"\x81frame")
    assert len(dissector.feed(S, OK)) == 1
    answered, switch = dissector.feed(S, SWITCHING)
    assert switch == Switch("websocket", b"\x81frame", b"", (asked, answered))


@builds
def test_h2c_and_a_body_before_the_switch(make: Make) -> None:
    request = b"POST / HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab"
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c, x\r\n\r\n"
    found = play(make, [(C, request + b"PRI * HTTP/2.0\r\n"), (S, answer + b"\0\0")])
    asked, agreed = messages(found)
    switch = Switch("http2", b"PRI * HTTP/2.0\r\n", b"\0\0", (asked, agreed), request=asked)
    assert found[-1] == switch
    assert (asked.body, agreed.kind) == (b"ab", Kind.INTERIM)  # the answer comes by HTTP/2


@builds
def test_connect(make: Make) -> None:
    request = b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"
    refused = b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno"
    accepted = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    dissector = make()
    dissector.feed(C, request)
    assert rows(dissector.feed(S, refused))[0][2] == b"no"
    (again,) = dissector.feed(C, request + b"\x16\x03\x01")
    assert again.target == "h:443"
    answered, switch = dissector.feed(S, accepted + b"\x16")
    assert switch == Switch("", b"\x16\x03\x01", b"\x16", (again, answered))
    assert dissector.feed(C, b"more") == dissector.feed(S, b"more") == dissector.close() == []


@builds
def test_a_switch_that_lost_a_part_answers_all_the_same(make: Make) -> None:
    """101 ends the wait of its request: a cut one is no interim answer, and it is the server's."""
    dissector = make()
    dissector.feed(C, UPGRADE)
    dissector.feed(S, SWITCHING[:40])
    (answer,) = messages(dissector.gap(S, 9))
    assert (answer.kind, answer.status, answer.cut) == (Kind.RESPONSE, 101, True)


@builds
def test_unasked_upgrade_is_marked(make: Make) -> None:
    found = play(make, [(C, GET), (S, SWITCHING)])
    assert messages(found)[1].notes == ("unasked-upgrade",)
    assert found[-1] == Switch("websocket", context=(None, found[1]))


@builds
def test_bytes_held_for_an_upgrade_are_bounded(make: Make) -> None:
    dissector = make()
    dissector.feed(C, UPGRADE)
    pipelined = GET * (limits.UNDISSECTED // len(GET) + 1)
    found = dissector.feed(C, pipelined[: limits.UNDISSECTED])
    assert found == []
    assert len(dissector.feed(C, pipelined[limits.UNDISSECTED :])) == len(pipelined) // len(GET)


@builds
def test_end_of_flow_while_held(make: Make) -> None:
    assert [m.verb for m in messages(play(make, [(C, UPGRADE + GET)]))] == ["GET", "GET"]


# ---------------------------------------------------------------- ambiguity


@builds
def test_chunked_decides_over_length_and_the_smuggled_request_shows(make: Make) -> None:
    smuggler = (
        b"POST / HTTP/1.1\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /admin HTTP/1.1\r\nX: "
    )
    found = messages(play(make, [(C, smuggler + b"\r\n\r\n")]))
    assert [(m.verb, m.target, m.notes) for m in found] == [
        ("POST", "/", ("length-and-encoding",)),
        ("GET", "/admin", ()),
    ]


@builds
@pytest.mark.parametrize(
    ("header", "note"),
    [
        (b"Content-Length: 5\r\nContent-Length: 6", "differing-lengths"),
        (b"Content-Length: -1", "bad-length"),
        (b"Content-Length: 99999999999999999999", "huge-length"),
        (b"Transfer-Encoding: xchunked", "bad-encoding"),
    ],
)
def test_unknown_extent_is_searched_for_the_next_message(
    make: Make, header: bytes, note: str
) -> None:
    post = b"POST / HTTP/1.1\r\n" + header + b"\r\n\r\n"
    found = messages(play(make, [(C, post + b"hello" + GET + GET)]))
    assert [m.verb for m in found] == ["POST", "GET", "GET"]
    assert note in found[0].notes
    assert "body-unknown" in found[0].notes
    assert found[0].truncated
    assert found[1].notes == ("resync",)
    assert found[1].size == 5 + len(GET)
    assert found[2].notes == ()


@builds
def test_response_with_unknown_coding_runs_until_close(make: Make) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\n"
    found = messages(play(make, [(C, GET), (S, answer + b"abcdef")]))
    assert found[1].body == b"abcdef"
    assert found[1].notes == ("length-and-encoding", "bad-encoding")


@builds
@pytest.mark.parametrize(
    ("body", "note"),
    [
        (b"5\r\nhello", None),
        (b"5\r\nhelloX\r\n0\r\n\r\n", "bad-chunk"),
        (b"5\r\nhello\r\nzz\r\n", "bad-chunk"),
        (b"5\r\nhello\r\nfffffffffffffffff\r\n", "huge-chunk"),
        (b"5\r\nhello\r\n5;" + b"x" * limits.CHUNK_LINE + b"\r\n", "bad-chunk"),
        (b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 12_000 + b"\r\n", "long-trailers"),
    ],
    ids=["cut", "no-crlf", "no-size", "huge", "long-line", "trailers"],
)
def test_broken_chunks_cut_the_message_and_the_search_goes_on(
    make: Make, body: bytes, note: str | None
) -> None:
    found = messages(play(make, [(C, GET + GET), (S, CHUNKED + body + b"\r\n" + OK)]))
    broken = found[2]
    assert broken.cut
    assert broken.truncated
    assert broken.body.startswith(b"hello")
    if note:
        assert broken.notes == (note,)
        assert (found[3].status, found[3].body, found[3].notes) == (200, b"hi", ("resync",))


# ---------------------------------------------------------------- limits


@builds
@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_a_long_head_is_an_error_however_it_comes(make: Make, size: int) -> None:
    line = b"X: " + b"y" * 95 + b"\r\n"
    fits = b"GET / HTTP/1.1\r\n" + line * 655
    fits += b"Z: " + b"z" * (limits.UNDISSECTED - len(fits) - 7) + b"\r\n\r\n"
    assert len(fits) == limits.UNDISSECTED
    if size > 1:
        (message,) = messages(play(make, cut([(C, fits)], size), close=False))
        assert message.size == limits.UNDISSECTED
    longer = b"GET / HTTP/1.1\r\n" + fits[16:-2] + b"a: b\r\n\r\n" + GET
    with pytest.raises(DissectError, match="header block over 64 KiB"):
        play(make, [*cut([(C, longer)], size), (C, b"\r\n")])


@builds
def test_a_dripping_head_and_body_are_linear(make: Make) -> None:
    """Half a mebibyte, byte by byte: seconds if each byte cost a search of all before it."""
    body = b"x" * 200_000
    big = b"POST / HTTP/1.1\r\nContent-Length: 200000\r\nX: " + b"y" * 60_000 + b"\r\n\r\n"
    chunks = (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"e" * 16_000 + b"\r\nhello"
    )
    trailers = b"\r\n0\r\n" + b"T: t\r\n" * 9_000 + b"\r\n"
    found = messages(play(make, cut([(C, big + body + chunks + trailers + GET)], 1)))
    assert [m.size for m in found] == [
        len(big) + len(body),
        len(chunks) + len(trailers),
        len(GET),
    ]
    assert found[0].body == body[: limits.BODY_KEPT]
    assert found[0].truncated
    assert found[0].extra.body_size == 200_000
    assert not found[0].cut


@builds
def test_a_long_target_is_cut(make: Make) -> None:
    line = b"GET /" + b"a" * limits.TARGET + b" HTTP/1.1\r\n\r\n"
    (found,) = messages(play(make, [(C, line)]))
    assert len(found.target) == limits.TARGET
    assert found.truncated
    assert found.notes == ("long-target",)


@builds
def test_many_unanswered_heads_are_bounded(make: Make) -> None:
    dissector = make()
    for _ in range(limits.WAITING * 3):
        dissector.feed(C, b"HEAD / HTTP/1.1\r\n\r\n")
    assert len(dissector.specials) == limits.WAITING


# ---------------------------------------------------------------- what is not HTTP


@builds
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_garbage_after_messages_is_an_error_and_what_follows_is_found(
    make: Make, size: int
) -> None:
    dissector = make()
    found: list[Message | Switch] = []
    errors = 0
    stream = GET + b"\x16\x03\x01 garbage\r\n\r\n" + GET
    for _, data in [*cut([(C, stream)], size), (C, b"\r\n")]:
        try:
            found += dissector.feed(C, data)
        except DissectError as error:
            errors += str(error) == "start line is not HTTP/1"
            found += dissector.gap(C, 0)
    found += dissector.close()
    assert [m.verb for m in messages(found)] == ["GET", "GET"]
    assert errors == 1, "after the messages of the same piece"
    assert messages(found)[1].notes == ("resync",)
    assert sum(m.size for m in messages(found)) == 2 * len(GET) + 15


@builds
@pytest.mark.parametrize("side", [C, S])
def test_a_flow_without_any_start_line_is_not_mine(make: Make, side: int) -> None:
    dissector = make()
    assert dissector.feed(side, b"\x16\x03\x01" * 1365) == []
    with pytest.raises(NotMine):
        dissector.feed(side, b"\x16\x03")


@builds
def test_joined_inside_a_body(make: Make) -> None:
    tail = b'"key": 1}\n]}'
    found = messages(play(make, [(S, tail + OK), (C, b"tail of a form" + GET)]))
    assert [(m.kind, m.size, m.notes) for m in found] == [
        (Kind.RESPONSE, len(tail + OK), ("resync",)),
        (Kind.REQUEST, 14 + len(GET), ("resync",)),
    ]


@builds
def test_an_unknown_method_may_have_been_head(make: Make) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"
    found = messages(play(make, [(S, head + OK + OK)]))
    assert [(m.body, m.notes) for m in found] == [
        (b"", ("no-body-assumed",)),
        (b"hi", ()),
        (b"hi", ()),
    ]


@builds
def test_an_end_of_capture_gives_what_is_known(make: Make) -> None:
    found = messages(
        play(
            make,
            [
                (C, b"GET /half HTTP/1.1\r\nHost"),
                (S, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"),
            ],
        )
    )
    assert [(m.verb, m.target, m.status, m.cut, m.truncated) for m in found] == [
        ("GET", "/half", 0, True, True),
        ("", "", 200, True, True),
    ]
    assert plain(play(make, [(C, b"GET /half HTT")])) == []


@builds
def test_inside(make: Make) -> None:
    dissector = make()
    dissector.feed(C, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")
    assert dissector.inside(C)
    assert not dissector.inside(S)
    dissector.feed(C, b"cde")
    assert not dissector.inside(C)
    dissector.feed(S, CHUNKED + b"5")
    assert dissector.inside(S)
