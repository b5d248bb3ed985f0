"""Laws: any split gives equal messages, sizes add up, a gap is never hidden, only DissectError is raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11
import msgspec
from http_kit import BUILDS, GET, OK, PURE, C, S, builds, cut, lenient, messages, plain, play
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark.api import Kind, Message, Switch

Make = Callable[[], Any]

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_", min_size=1, max_size=12)
VALUE = st.text("abc xyz:;,=/\"'()0189\xe4\xff", max_size=30).map(str.strip)
FRAMING = {"content-length", "transfer-encoding", "upgrade", "connection", "host", "expect"}
HEADERS = st.lists(st.tuples(TOKEN.filter(lambda n: n.lower() not in FRAMING), VALUE), max_size=6)
METHOD = st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "M-SEARCH", "BREW"])
BODY = st.binary(max_size=200)


class Half(msgspec.Struct):
    """A generated message: its bytes on the wire, and what must be found in them."""

    wire: bytes
    start: tuple[Any, ...]
    headers: list[tuple[str, str]]
    body: bytes


def lines(start: str, headers: list[tuple[str, str]]) -> bytes:
    return "".join([start, *(f"\r\n{n}: {v}" for n, v in headers), "\r\n\r\n"]).encode("latin-1")


@st.composite
def framed(draw: st.DrawFn, body: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """Headers that frame a body, and the body as it goes over the wire."""
    if draw(st.booleans()):
        return [(draw(st.sampled_from(["Content-Length", "content-length"])), str(len(body)))], body
    wire, rest = b"", body
    while rest:
        size = draw(st.integers(1, len(rest)))
        extension = draw(st.sampled_from([b"", b";a", b';a="b;c"', b";a=1;b=2"]))
        wire += b"%x%s\r\n%s\r\n" % (size, extension, rest[:size])
        rest = rest[size:]
    trailers = draw(st.sampled_from([b"", b"X-T: 1\r\n", b"A: b\r\nC: d\r\n"]))
    return [("Transfer-Encoding", "chunked")], wire + b"0\r\n" + trailers + b"\r\n"


@st.composite
def request(draw: st.DrawFn) -> Half:
    method = draw(METHOD)
    target = "/" + draw(st.text("abc/?=&%20.;", max_size=30))
    body = draw(BODY) if method in ("POST", "PUT", "BREW") else b""
    more, wire = draw(framed(body)) if body else ([], b"")
    headers = [("Host", "h"), *draw(HEADERS), *more]
    head = lines(f"{method} {target} HTTP/1.1", headers)
    return Half(head + wire, (method, target), headers, body)


@st.composite
def response(draw: st.DrawFn, asked: Half) -> Half:
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]))
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 503]))
    empty = status in (204, 304) or asked.start[0] == "HEAD"
    body = draw(BODY)
    more, wire = draw(framed(body))
    if status == 204:
        more = []
    headers = [*draw(HEADERS), *more]
    reason = draw(st.sampled_from(["OK", "Not Found", "", "I'm a teapot"]))
    head = lines(f"HTTP/1.1 {status} {reason}", headers)
    return Half(
        interim + head + (b"" if empty else wire), (status,), headers, b"" if empty else body
    )


@st.composite
def exchanges(draw: st.DrawFn) -> list[tuple[Half, Half]]:
    asked = draw(st.lists(request(), min_size=1, max_size=4))
    return [(one, draw(response(one))) for one in asked]


def wires(talk: list[tuple[Half, Half]]) -> list[tuple[int, bytes]]:
    return [(C, b"".join(a.wire for a, _ in talk)), (S, b"".join(b.wire for _, b in talk))]


def oracle(talk: list[tuple[Half, Half]]) -> list[tuple[Any, ...]]:
    """What h11 sees: (method, target) or status, headers, body; requests and responses in turn."""
    server, client = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
    seen: list[tuple[Any, ...]] = []
    for asked, answered in talk:
        server.receive_data(asked.wire)
        event = server.next_event()
        assert isinstance(event, h11.Request)
        seen.append(((event.method, event.target), list(event.headers.raw_items()), drain(server)))
        client.send(h11.Request(method=event.method, target=event.target, headers=[("Host", "h")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answered.wire)
        reply = client.next_event()
        if isinstance(reply, h11.InformationalResponse):
            reply = client.next_event()
        assert isinstance(reply, h11.Response)
        seen.append(((reply.status_code,), list(reply.headers.raw_items()), drain(client)))
        server.send(h11.Response(status_code=204, headers=[]))
        server.send(h11.EndOfMessage())
        server.start_next_cycle()
        client.start_next_cycle()
    return seen


def drain(connection: h11.Connection) -> bytes:
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        body += event.data
    return body


def ours(found: list[Message | Switch]) -> list[tuple[Any, ...]]:
    from kshark.protocols.http.details import details

    out = []
    for m in messages(found):
        if m.kind != Kind.INTERIM:
            # the header names as they were sent are h11's to compare: ours are in lower case
            headers = [(n.encode(), v.encode("latin-1")) for n, v in details(m).headers]
            start = (m.verb.encode(), m.target.encode()) if m.verb else (m.status,)
            out.append((start, headers, m.body))
    return out


def lowered(seen: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(start, [(n.lower(), v) for n, v in headers], body) for start, headers, body in seen]


@settings(max_examples=80, deadline=None)
@given(exchanges())
def test_h11_sees_the_same(talk: list[tuple[Half, Half]]) -> None:
    seen = lowered(oracle(talk))
    for make in BUILDS.values():
        turns = [piece for a, b in talk for piece in ((C, a.wire), (S, b.wire))]
        found = play(make, turns)
        assert ours(found) == seen
        assert not any(m.notes or m.truncated or m.cut for m in messages(found))


@settings(max_examples=80, deadline=None)
@given(exchanges(), st.data())
def test_any_split_gives_equal_messages(talk: list[tuple[Half, Half]], data: st.DataObject) -> None:
    pieces = wires(talk)
    whole = plain(play(PURE, pieces))
    assert sum(len(p) for _, p in pieces) == sum(m["size"] for _, m in whole)
    size = data.draw(st.integers(1, 40))
    for make in BUILDS.values():
        assert plain(play(make, pieces)) == whole
        assert plain(play(make, cut(pieces, size))) == whole


SOUP = st.lists(
    st.sampled_from(
        [
            *(
                GET,
                OK,
                b"\r\n",
                b"\n",
                b"garbage ",
                b"\x16\x03\x01\0",
                b"HTTP/1.1 ",
                b"GET ",
                b"{}",
            ),
            b"HEAD / HTTP/1.1\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 100 C\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 204 N\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
            *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"5;x\nhello\n", b"zz\r\n"),
        ]
    ),
    max_size=8,
).map(b"".join)


@settings(max_examples=250, deadline=None)
@given(SOUP, SOUP, st.integers(1, 30))
def test_any_split_of_a_soup_gives_equal_messages(client: bytes, server: bytes, size: int) -> None:
    """Also of what is broken, errors and searches included, and in both builds."""
    pieces = [(C, client), (S, server)]
    whole = without_rest(lenient(PURE, pieces))
    sized = sum(m["size"] for kind, m in whole if kind == "Message")
    assert sized <= len(client) + len(server)
    for make in BUILDS.values():
        assert without_rest(lenient(make, pieces)) == whole
        assert without_rest(lenient(make, cut(pieces, size))) == whole


def without_rest(found: list[Message | Switch]) -> list[Any]:
    """What a switch hands over of the side that was fed is the rest of that very piece."""
    return plain(
        msgspec.structs.replace(m, server=b"") if isinstance(m, Switch) else m for m in found
    )


@settings(max_examples=200, deadline=None)
@given(exchanges(), st.data())
def test_a_gap_is_never_hidden(talk: list[tuple[Half, Half]], data: st.DataObject) -> None:
    """One hole anywhere: what is not marked is what would be found without the hole."""
    side = data.draw(st.sampled_from([C, S]))
    pieces = wires(talk)
    stream = pieces[side][1]
    start = data.draw(st.integers(0, len(stream) - 1))
    missing = data.draw(st.integers(1, len(stream) - start))
    holed: list[tuple[int, bytes | int]] = []
    for who, wire in pieces:
        if who == side:
            after = list(cut([(who, wire[start + missing :])], data.draw(st.integers(1, 50))))
            holed += [(who, wire[:start]), (who, missing), *after]
        else:
            holed.append((who, wire))
    clean = [(m.head, m.body) for m in messages(play(PURE, pieces))]
    for make in BUILDS.values():
        found = messages(lenient(make, holed))
        assert sum(m.size for m in found) <= sum(len(w) for _, w in pieces) - missing
        assert sum(m.gap_bytes for m in found) <= missing
        for message in found:
            if not (message.truncated or message.cut or message.gap_bytes or message.notes):
                assert whole_or_after(message, clean, stream[start + missing :]), message


def whole_or_after(message: Message, clean: list[tuple[bytes, bytes]], after: bytes) -> bool:
    """A message is one of those sent, or it lies wholly behind the hole (text of a body)."""
    return (message.head, message.body) in clean or (
        message.head in after and message.body in after
    )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([C, S]), st.one_of(st.binary(max_size=60), SOUP, st.integers(0, 90))
        ),
        max_size=12,
    )
)
def test_nothing_but_dissect_errors(pieces: list[tuple[int, bytes | int]]) -> None:
    found = [plain(lenient(make, pieces)) for make in BUILDS.values()]
    assert found[0] == found[-1]


@builds
def test_a_gap_in_a_counted_body_keeps_the_framing(make: Make) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    found = messages(
        lenient(make, [(C, GET), (C, GET), (S, answer + b"a" * 30), (S, 50), (S, b"b" * 20 + OK)])
    )
    cut_one, last = found[2], found[3]
    assert (cut_one.gap_bytes, cut_one.truncated, cut_one.cut) == (50, True, False)
    assert (cut_one.body, cut_one.size) == (b"a" * 30, len(answer) + 50)
    assert cut_one.extra.body_size == 100
    assert (last.body, last.notes) == (b"hi", ())


@builds
def test_a_gap_that_swallows_the_end_of_a_body_and_more(make: Make) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    found = messages(
        lenient(make, [(C, GET), (S, answer), (S, 500), (S, b"tail\r\nX: y\r\n\r\n{}" + OK)])
    )
    assert (found[1].cut, found[1].gap_bytes, found[1].body) == (True, 100, b"")
    assert (found[2].body, found[2].notes) == (b"hi", ("resync",))


@builds
def test_a_gap_in_a_head_and_in_chunks(make: Make) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello"
    pieces: list[tuple[int, bytes | int]] = [
        (C, b"GET /a HTTP/1.1\r\nHo"),
        (C, 20),
        (C, b"x\r\n\r\n" + GET),
        (S, chunked),
        (S, 5),
    ]
    pieces += [(S, b"\r\n0\r\n\r\n" + chunked), (S, 6), (S, OK)]
    found = messages(lenient(make, pieces))
    assert [(m.verb or m.status, m.target, m.cut, m.gap_bytes) for m in found] == [
        ("GET", "/a", True, 20),
        ("GET", "/", False, 0),
        (200, "", False, 5),
        (200, "", True, 6),
        (200, "", False, 0),
    ]


@builds
def test_after_a_gap_a_request_for_head_is_not_trusted(make: Make) -> None:
    """Its answer may be another's: the next bytes decide whether there is a body."""
    head = b"HEAD / HTTP/1.1\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"
    with_body = lenient(make, [(C, 10), (C, head + GET), (S, answer + b"HTTP/1.1 is " + OK)])
    assert [m.body for m in messages(with_body)] == [b"", b"", b"HTTP/1.1 is ", b"hi"]
    without = lenient(make, [(C, 10), (C, head + GET), (S, answer + OK)])
    assert [m.body for m in messages(without)] == [b"", b"", b"", b"hi"]
