"""The typed schema, bodies undone within their limits, and what the identifier asks of HTTP."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from http_kit import GET, OK, C, S, messages, play
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark import limits
from kshark.api import Kind, Message, Redact, Side, Verdict
from kshark.protocols import _body as body
from kshark.protocols.http import SPEC
from kshark.protocols.http.details import HttpRequest, HttpResponse, details
from kshark.protocols.http.dissector import HttpDissector
from kshark.protocols.http.resync import probe


def shown(side: int, data: bytes) -> Any:
    pieces = [(C, data)] if side == C else [(C, GET), (S, data)]
    return details(messages(play(HttpDissector, pieces))[-1])


def answer(data: bytes, *headers: str) -> Any:
    lines = "".join(f"{h}\r\n" for h in headers)
    return shown(
        S, f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n{lines}\r\n".encode() + data
    )


def test_blanks_in_start_lines_cost_nothing() -> None:
    """A backtracking expression took minutes for a status line with 5,000 blanks, and hours for this one."""
    many = b" \t" * 30_000
    found = details(
        Message(Kind.RESPONSE, head=b"HTTP/1.1" + many + b"101 Fine" + many + b"\r\n\r\n")
    )
    assert (found.version, str(found.reason).strip()) == ("1.1", "Fine")  # type: ignore[union-attr]
    found = details(Message(Kind.RESPONSE, head=b"HTTP/1.1" + many + b"1\r\n\r\n"))
    assert found.version == ""
    for end, version in ((b"HTTP/1.0", "1.0"), (b"HTTP/1.x", "")):
        head = b"GET" + many + b"a" + many + b"/" + many + end + many + b"\r\n\r\n"
        assert details(Message(Kind.REQUEST, verb="GET", target="/", head=head)).version == version


def test_a_request() -> None:
    found = shown(
        C,
        b"POST /a/b?c=d HTTP/1.1\r\nHOST: h:81\r\nUser-Agent: curl/8\r\nContent-Type: application/json\r\n"
        b"X: 1\r\n  2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nT: z\r\n\r\n",
    )
    assert found == HttpRequest(
        method="POST",
        path="/a/b",
        query="?c=d",
        host="h:81",
        version="1.1",
        headers=[
            ("host", "h:81"),
            ("user-agent", "curl/8"),
            ("content-type", "application/json"),
            ("x", "1 2"),
            ("transfer-encoding", "chunked"),
        ],
        trailers=[("t", "z")],
        user_agent="curl/8",
        content_type="application/json",
        body="{}",
        body_size=2,
        notes=["folded-header"],
    )


def test_the_json_of_a_small_exchange() -> None:
    found = [
        json.loads(msgspec.json.encode(details(m)))
        for m in messages(play(HttpDissector, [(C, GET), (S, OK)]))
    ]
    assert found == [
        {"method": "GET", "path": "/", "host": "a", "version": "1.1", "headers": [["host", "a"]]},
        {
            "status": 200,
            "reason": "OK",
            "version": "1.1",
            "headers": [["content-length", "2"]],
            "body": "hi",
            "body_size": 2,
        },
    ]


@pytest.mark.parametrize(
    ("line", "path", "query", "url", "host"),
    [
        (b"GET http://u:p@h:81/p?q HTTP/1.1", "/p", "?q", "http://u:p@h:81/p?q", "h:81"),
        (b"CONNECT h:443 HTTP/1.1", "", None, "h:443", "h:443"),
        (b"OPTIONS * HTTP/1.1", "*", None, None, None),
        (b"GET http://[::1 HTTP/1.1", "http://[::1", None, "http://[::1", None),
        (b"GET //evil/x HTTP/1.1", "//evil/x", None, None, None),
    ],
)
def test_targets(
    line: bytes, path: str, query: str | None, url: str | None, host: str | None
) -> None:
    found = shown(C, line + b"\r\n\r\n")
    assert (found.path, found.query, found.url, found.host) == (path, query, url, host)


@pytest.mark.parametrize(
    ("line", "reason", "version"),
    [
        (b"HTTP/1.1 404 Not Found", "Not Found", "1.1"),
        (b"HTTP/1.0 200", None, "1.0"),
        (b"HTTP/1.1 200 ", None, "1.1"),
        (b"HTTP/1.1  200\tOK  ", "OK  ", "1.1"),
    ],
)
def test_status_lines(line: bytes, reason: str | None, version: str) -> None:
    found = shown(S, line + b"\r\nContent-Length: 0\r\n\r\n")
    assert (found.reason, found.version) == (reason, version)


PLAIN = b'{"name": "value"}' * 20
RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(PLAIN) + RAW.flush()


def brotli_of(data: bytes) -> bytes:
    return bytes(pytest.importorskip("brotli").compress(data))


def zstd_of(data: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").compress(data))


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", lambda d: gzip.compress(d[:100]) + gzip.compress(d[100:]) + b"\0\0"),
        ("deflate", zlib.compress),
        ("deflate", lambda _: RAW_DEFLATE),
        ("br", brotli_of),
        ("zstd", zstd_of),
        ("gzip, identity, deflate", lambda d: zlib.compress(gzip.compress(d))),
    ],
)
def test_codings_are_undone(coding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(PLAIN)
    found = answer(packed, f"Content-Encoding: {coding}", "Content-Type: application/json")
    assert (found.body, found.notes) == (PLAIN.decode(), [])
    assert found.body_size == len(packed)


def test_a_transfer_coding_is_undone() -> None:
    packed = gzip.compress(b"hello")
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    )
    found = shown(S, head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed))
    assert found.body == "hello"


BOMB = b"\0" * (4 * limits.MIB)


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli_of), ("zstd", zstd_of)],
)
def test_bombs_stop(coding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(BOMB)
    found = body.unpack(packed, [coding])
    room = min(limits.UNPACKED, max(body.SMALL, limits.UNPACK_RATIO * len(packed)))
    assert (len(found.data), found.notes) == (room, ["unpack-limit"])


def test_what_unpacks_to_much_stops_at_the_absolute_limit() -> None:
    packed = zlib.compress(bytes(range(256)) * 8192 * 2, 0)
    found = body.unpack(packed, ["deflate"])
    assert (len(found.data), found.notes) == (limits.UNPACKED, ["unpack-limit"])


@pytest.mark.parametrize(
    ("coding", "data", "note"),
    [
        ("gzip", b"not gzip", "bad-content-encoding"),
        ("deflate", b"not deflate", "bad-content-encoding"),
        ("lzma", b"x", "unknown-content-encoding"),
        ("gzip, gzip, gzip, gzip", b"x", "too-many-encodings"),
    ],
)
def test_what_cannot_be_undone_is_noted(coding: str, data: bytes, note: str) -> None:
    assert note in answer(data, f"Content-Encoding: {coding}").notes


def test_a_cut_body_unpacks_as_far_as_it_came() -> None:
    packed = gzip.compress(bytes(range(256)) * 8)
    half = shown(
        S,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 999\r\n\r\n" + packed[:200],
    )
    assert half.body_encoding == "base64"
    assert half.body.startswith("AAECAwQFBgc")


def test_missing_packages_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "brotli", None)
    monkeypatch.setattr(body, "zstandard", None)
    for coding in ("br", "zstd"):
        assert answer(b"x", f"Content-Encoding: {coding}").notes == ["codec-missing"]


@pytest.mark.parametrize(
    ("kind", "data", "text", "encoding", "notes"),
    [
        ("text/plain; charset=iso-8859-1", b"caf\xe9", "café", None, []),
        ("text/plain; charset=latin1", b"caf\xe9", "café", None, []),
        ('text/html; charset="UTF-8"', "ü".encode(), "ü", None, []),
        ("application/problem+json", b"{}", "{}", None, []),
        ("text/plain", b"\xff", "\ufffd", None, ["bad-charset"]),
        ("text/plain; charset=rot13", b"abc", "abc", None, []),
        ("text/plain; charset=unicode_escape", rb"\x41", r"\x41", None, []),
        ("image/png", b"\x89P", "iVA=", "base64", []),
        ("", b"plain", "plain", None, []),
        ("", b"\0\1", "AAE=", "base64", []),
        ("", b"\xff\xfe", "//4=", "base64", []),
    ],
)
def test_text_or_base64(
    kind: str, data: bytes, text: str, encoding: str | None, notes: list[str]
) -> None:
    found = answer(data, *([f"Content-Type: {kind}"] if kind else []))
    assert (found.body, found.body_encoding, found.notes) == (text, encoding, notes)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([Kind.REQUEST, Kind.RESPONSE, Kind.INTERIM]),
    st.binary(max_size=120),
    st.binary(max_size=80),
    st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, br", ""]),
    st.text(max_size=20),
)
def test_details_of_anything(
    kind: Kind, head: bytes, data: bytes, coding: str, target: str
) -> None:
    head += b"\r\nContent-Encoding: " + coding.encode() + b"\r\n\r\n"
    found = details(Message(kind, verb="X", target=target, head=head, body=data))
    assert isinstance(found, HttpRequest if kind == Kind.REQUEST else HttpResponse)
    assert msgspec.json.encode(found)


def test_every_field_is_explained_and_secrets_have_their_class() -> None:
    for schema in (HttpRequest, HttpResponse):
        info = msgspec.inspect.type_info(schema)
        assert isinstance(info, msgspec.inspect.StructType)
        fields = {f.name: f.type for f in info.fields}
        for name, kind in fields.items():
            assert isinstance(kind, msgspec.inspect.Metadata), name
            assert (kind.extra_json_schema or {}).get("description"), name
            if name in ("headers", "trailers"):
                assert (kind.extra or {})["redact"] == Redact.HEADERS
            if name in ("path", "query", "url", "location"):
                assert (kind.extra or {})["redact"] == Redact.URL
    assert SPEC.target_redact == Redact.URL


# ---------------------------------------------------------------- identification


@pytest.mark.parametrize(
    ("data", "side", "verdict"),
    [
        (GET, C, Verdict.CERTAIN),
        (b"\r\n" + GET, C, Verdict.CERTAIN),
        (b"BREW /pot HTTP/1.1\r\n", C, Verdict.CERTAIN),
        (b"GET / HTTP/1.1\r", C, Verdict.MORE),
        (b"GET /", C, Verdict.MORE),
        (b"G", C, Verdict.MORE),
        (b"GET /" + b"a" * 3000, C, Verdict.LIKELY),
        (b"tail of a body\n" + GET, C, Verdict.LIKELY),
        (b'{"a": 1}' + GET, C, Verdict.LIKELY),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", C, Verdict.NO),
        (b"GET / RTSP/1.0\r\n", C, Verdict.NO),
        (b"*1\r\n$4\r\nPING\r\n", C, Verdict.NO),
        (b"\x16\x03\x01\x02\x00", C, Verdict.NO),
        (b"SSH-2.0-OpenSSH_9.2\r\n", C, Verdict.NO),
        (OK, C, Verdict.NO),
        (OK, S, Verdict.CERTAIN),
        (b'"}' + OK, S, Verdict.LIKELY),
        (b"HTTP/1.", S, Verdict.MORE),
        (b"HTTP/1.1 200", S, Verdict.MORE),
        (b"HTTP/2 200\r\n", S, Verdict.NO),
        (b"HTTQ", S, Verdict.NO),
        (GET, S, Verdict.NO),
        (b"see HTTP/1.1 200 for more\n", S, Verdict.NO),
    ],
    ids=range(23),
)
def test_probe(data: bytes, side: Side, verdict: Verdict) -> None:
    assert probe(data, side) == verdict


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([C, S]))
def test_probe_of_anything(data: bytes, side: Side) -> None:
    assert probe(data, side) in Verdict
