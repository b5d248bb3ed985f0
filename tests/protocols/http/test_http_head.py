"""The scan of a head: what it finds, what it notes, and that both twins say the same of any bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kshark import limits
from kshark.protocols.http import head as pure

try:
    from kshark.protocols.http import _head as compiled
except ImportError:
    compiled = None  # type: ignore[assignment]

REQUEST = (
    b"POST /a/b?c=d HTTP/1.1\r\nHost: example.org\r\nContent-Length: 12\r\n"
    b"Transfer-Encoding: gzip, chunked\r\nUpgrade: h2c\r\nX-Y: a : b\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.0 404 Not Found\r\nServer: x\r\ncontent-length: 7\r\n"
    b"TRANSFER-ENCODING:chunked\r\nupgrade: websocket\r\n\r\n"
)
FIELDS = [name for name in pure.Head.__slots__ if name[0] != "_"]
PIECES = st.sampled_from(
    [
        *(bytes((c,)) for c in b" \t\r\n\0:,;-+0159afAF/.hHtT_\x0b\x80\xff"),
        *(
            b"\r\n",
            b"\n\n",
            b"\r\n ",
            b"\r\n\t",
            b"HTTP/1.1",
            b"HTTP/1.0 ",
            b" HTTP/1.1\r\n",
            b"GET ",
        ),
        *(b"Content-Length:", b"Content-Length :", b"Transfer-Encoding:", b"Upgrade:", b"chunked"),
        *(
            b"gzip",
            b"x-gzip",
            b"identity",
            b"xchunked",
            b"9223372036854775807",
            b"9223372036854775808",
        ),
        *(
            b"00000000000000000000000",
            b"\r\nContent-Length: 12\r\n",
            b"\r\nTransfer-Encoding: x\r\n",
        ),
    ]
)


def facts(head: Any, verdict: int) -> dict[str, Any]:
    """All fields of a scan that ended; of another, only that it did not."""
    if verdict != pure.DONE:
        return {"verdict": verdict}
    return {"verdict": verdict} | {name: getattr(head, name) for name in FIELDS}


def scan(module: Any, data: bytes, answer: bool, start: int = 0) -> dict[str, Any]:
    head = module.Head()
    return facts(head, head.response(data, start) if answer else head.request(data, start))


def noted(data: bytes, answer: bool = False) -> tuple[str, ...]:
    found = scan(pure, data, answer)
    assert found["verdict"] == pure.DONE, data
    return pure.names(found["flags"])


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with a few pieces cut out, put in or put over."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(PIECES) + data[at + draw(st.integers(0, 8)) :]
    return data


@pytest.mark.skipif(compiled is None, reason="not compiled")
class TestTwins:
    @settings(max_examples=1500, deadline=None)
    @given(mutated((REQUEST, RESPONSE)), st.booleans(), st.integers(0, 5))
    @example(b"GET / HTTP/1.1\n\n", False, 0)
    @example(b"GET  HTTP/1.1\r\n\r\n", False, 0)
    @example(b"GET   HTTP/1.1\r\n\r\n", False, 0)
    @example(b"GET a\0b HTTP/1.1 \t\r\n\r\n", False, 0)
    @example(b"HTTP/1.1 200\r\n\r\n", True, 0)
    @example(b"HTTP/1.1  200 \r\n\r\n", True, 0)
    @example(b"HTTP/1.1 2000\r\n\r\n", True, 0)
    @example(b"POST / HTTP/1.1\r\nContent-Length:12\r\n\r\n", False, 0)
    def test_equal_on_any_head(self, data: bytes, answer: bool, start: int) -> None:
        start = min(start, len(data))
        assert scan(pure, data, answer, start) == scan(compiled, data, answer, start)

    @settings(max_examples=400, deadline=None)
    @given(
        mutated((b"Host: a.example\r\nAccept: */*\r\n\r\n", REQUEST.partition(b"\r\n")[2])),
        mutated((b"GET /a HTTP/1.1", b"PUT /b?c=d HTTP/1.0")),
        mutated((b"GET /a HTTP/1.1",)),
    )
    @example(b"Host: a.example\r\nAccept: */*\r\n\r\n", b"GET /a HTTP/1.1", b"GET /\0 HTTP/1.1")
    @example(b"Host: a.example\r\nAccept: */*\r\n\r\n", b"GET /a HTTP/1.1", b"GET /\r HTTP/1.1")
    @example(b"Host: a.example\r\nContent-Length: 0\r\n\r\n", b"GET / HTTP/1.1", b"PUT / HTTP/1.1")
    @example(b"Host: a.example\r\nUpgrade: h2c\r\n\r\n", b"GET / HTTP/1.1", b"GET / HTTP/1.0")
    def test_equal_on_headers_that_come_again(self, rest: bytes, one: bytes, two: bytes) -> None:
        for line in (one, two, one):  # the second time they are known
            for end in (b"\r\n", b"\n"):
                data = line + end + rest
                assert scan(pure, data, False) == scan(compiled, data, False)

    @settings(max_examples=600, deadline=None)
    @given(mutated((b"1aF;x=y\r\n", b" 0 \r\n", b"7fffffffffffffff\r\n", b"0000000000000000001\n")))
    @example(b"8000000000000000\r\n")
    @example(b";\r\n")
    @example(b"\0\r\n")
    def test_equal_on_any_chunk_line(self, data: bytes) -> None:
        found = []
        for module in (pure, compiled):
            head = module.Head()
            size = head.chunk(data, 0)
            found.append((size, head.flags, head.end if size != pure.CHUNK_MORE else 0))
        assert found[0] == found[1]

    @pytest.mark.parametrize("data", [REQUEST, RESPONSE])
    def test_equal_on_every_prefix(self, data: bytes) -> None:
        for size in range(len(data) + 1):
            for answer in (False, True):
                assert scan(pure, data[:size], answer) == scan(compiled, data[:size], answer), size


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        mutated((REQUEST, RESPONSE, b"GET / HTTP/1.1\r\n\r\n", b"5 ;x\n")), min_size=2, max_size=3
    )
)
def test_a_scan_forgets_the_one_before(pieces: list[bytes]) -> None:
    for module in (pure, compiled or pure):
        used = module.Head()
        for data in pieces:
            used.chunk(data, 0)
            used.response(data, 0)
            again = facts(used, used.request(data, 0))
            assert again == scan(module, data, False)
            assert facts(used, used.response(data, 0)) == scan(module, data, True)


def test_what_a_request_head_tells() -> None:
    found = scan(pure, b"xx" + REQUEST + b"rest", False, 2)
    assert found["end"] == 2 + len(REQUEST)
    assert (found["raw"], found["verb"], found["target"]) == (REQUEST, "POST", "/a/b?c=d")
    assert (found["minor"], found["length"], found["coding"]) == (1, 12, pure.CHUNKED)
    assert found["upgrade"] is True
    assert pure.names(found["flags"]) == ("length-and-encoding",)


def test_what_a_response_head_tells() -> None:
    found = scan(pure, RESPONSE, True)
    assert (found["minor"], found["status"], found["end"]) == (0, 404, len(RESPONSE))
    assert pure.names(found["flags"]) == ("length-and-encoding", "encoding-in-http10")


HEADERS = {
    b"A : b": ("space-before-colon",),
    b"A\t: b": ("space-before-colon",),
    b"A: b\rc": ("bare-cr",),
    b"A: b\0": ("nul-in-head",),
    b"A: b\nC: d": ("bare-lf",),
    b" A: b": ("leading-space",),
    b"A: b\r\n c": ("folded-header",),
    b"A b: c": ("odd-header-name",),
    b": c": ("odd-header-name",),
    b"\xe4: c": ("odd-header-name",),
    b"no colon": ("no-colon",),
    b"Content-Length: 5\r\nContent-Length: 5": ("repeated-length",),
    b"Content-Length: 5, 05": ("repeated-length",),
    b"Content-Length: 5\r\nContent-Length: 6": ("differing-lengths",),
    b"Content-Length: 5,6": ("differing-lengths",),
    b"Content-Length: -5": ("bad-length",),
    b"Content-Length: +5": ("bad-length",),
    b"Content-Length: 0x5": ("bad-length",),
    b"Content-Length: 5 5": ("bad-length",),
    b"Content-Length: 5_0": ("bad-length",),
    b"Content-Length:": ("bad-length",),
    b"Content-Length: \xb2": ("bad-length",),
    b"Content-Length: 9223372036854775808": ("huge-length",),
    b"Content-Length: 99999999999999999999999999": ("huge-length",),
    b"Content-Length: 9223372036854775807": (),
    b"Content-Length:\r\n 5": ("folded-header",),
    b"Content-Length: 5\r\nTransfer-Encoding: chunked": ("length-and-encoding",),
    b"Content-Length: x\r\nTransfer-Encoding: chunked": ("bad-length", "length-and-encoding"),
    b"Transfer-Encoding: chunked": (),
    b"Transfer-Encoding: gzip, Chunked": (),
    b"Transfer-Encoding: chunked, gzip": ("bad-encoding",),
    b"Transfer-Encoding: identity": ("bad-encoding",),
    b"Transfer-Encoding: xchunked": ("odd-encoding", "bad-encoding"),
    b"Transfer-Encoding: \x0bchunked": ("odd-encoding", "bad-encoding"),
    b"Transfer-Encoding: chunked;q=1": ("odd-encoding", "bad-encoding"),
    b"Transfer-Encoding: chunked, chunked": ("odd-encoding",),
    b"Transfer-Encoding: chunked,": ("odd-encoding",),
    b"Transfer-Encoding:": ("odd-encoding", "bad-encoding"),
    b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked": ("odd-encoding",),
    b"Transfer-Encoding:\r\n chunked": ("folded-header",),
    b"Transfer-Encoding : chunked": ("space-before-colon",),
    b"Transfer-Encoding\x0b: chunked": ("odd-header-name",),
    b"X-Content-Length: x\r\nContent-Lengths: x\r\nUpgrade-Insecure-Requests: 1": (),
}


@pytest.mark.parametrize("lines", HEADERS, ids=repr)
def test_notes_of_headers(lines: bytes) -> None:
    assert noted(b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n") == HEADERS[lines]


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"GET  / HTTP/1.1", "/"),
        (b"GET / HTTP/1.1 ", "/"),
        (b"GET /a b HTTP/1.1", "/a b"),
        (b"GET /\tHTTP/1.1", "/"),
    ],
)
def test_odd_request_lines(line: bytes, target: str) -> None:
    found = scan(pure, line + b"\r\n\r\n", False)
    assert found["target"] == target
    if line != b"GET /\tHTTP/1.1":
        assert pure.names(found["flags"]) == ("odd-start-line",)


@pytest.mark.parametrize(
    "line",
    [
        *(b"GET /", b"GET / HTTP/2.0", b"GET / HTTP/0.9", b"GET / HTTP/1.11", b"GET HTTP/1.1"),
        *(b"G\xc3T / HTTP/1.1", b"-GET / HTTP/1.1", b"GET\t/ HTTP/1.1", b"A" * 33 + b" / HTTP/1.1"),
        *(b"GET / http/1.1", b"{", b"SSH-2.0-OpenSSH_9.2", b"PRI * HTTP/2.0"),
    ],
)
def test_what_is_no_request(line: bytes) -> None:
    assert scan(pure, line + b"\r\n\r\n", False)["verdict"] == pure.BAD


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"HTTP/1.1",
            b"HTTP/1.1 ",
            b"HTTP/1.1 20",
            b"HTTP/1.1 2000",
            b"HTTP/1.1 099",
            b"HTTP/2 200",
        ),
        *(b"HTTP/1.1200", b"ICY 200 OK", b"http/1.1 200 OK", b"HTTP/1.x 200"),
    ],
)
def test_what_is_no_response(line: bytes) -> None:
    assert scan(pure, line + b"\r\n\r\n", True)["verdict"] == pure.BAD


@pytest.mark.parametrize(
    ("line", "size", "notes"),
    [
        (b"5\r\n", 5, ()),
        (b"005;a=b\r\n", 5, ()),
        (b"5 ;a\r\n", 5, ("odd-chunk",)),
        (b"5\n", 5, ("bare-lf",)),
        (b"5;a\rb\r\n", 5, ("bare-cr",)),
        (b"7fffffffffffffff\r\n", 2**63 - 1, ()),
        (b"8000000000000000\r\n", pure.CHUNK_HUGE, ()),
        (b"f" * 500 + b"\r\n", pure.CHUNK_HUGE, ()),
        (b"0x5\r\n", pure.CHUNK_BAD, ()),
        (b"-5\r\n", pure.CHUNK_BAD, ()),
        (b"\r\n", pure.CHUNK_BAD, ()),
        (b"5", pure.CHUNK_MORE, ()),
        (b"5;" + b"x" * limits.CHUNK_LINE, pure.CHUNK_BAD, ()),
    ],
    ids=range(13),
)
def test_chunk_lines(line: bytes, size: int, notes: tuple[str, ...]) -> None:
    head = pure.Head()
    assert head.chunk(line, 0) == size
    assert pure.names(head.flags) == notes


def test_notes_are_kebab_case_and_explained() -> None:
    for name, text in pure.NOTES.items():
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert text
    assert pure.names((1 << len(pure.NOTES)) - 1) == tuple(pure.NOTES)
