"""grpc-web over HTTP/1: the server and client of sonora through a recording proxy, and what is made of their bytes."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import grpc
import pytest
from grpc_kit import C, S, message
from grpc_live import SERVICE, Note, many, one
from kit_proxy import Chunk, Recorder
from sonora.client import insecure_web_channel
from sonora.wsgi import grpcWSGI

from kshark.api import Entry
from kshark.engine import Engine, EngineSettings
from kshark.protocols import grpc as ours
from kshark.protocols import http
from kshark.render import Renderer
from kshark.talk import Piece
from kshark.testing import rows
from kshark.testing.play import play

PATH = f"/{SERVICE}/One"


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    application = grpcWSGI()
    kinds = {
        "One": grpc.unary_unary_rpc_method_handler(one, Note.FromString, Note.SerializeToString),
        "Many": grpc.unary_stream_rpc_method_handler(many, Note.FromString, Note.SerializeToString),
    }
    application.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, kinds),))
    made = make_server("127.0.0.1", 0, application, handler_class=Quiet)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield made.server_port
    finally:
        made.shutdown()
        made.server_close()


def heard(port: int, name: str, **fields: Any) -> list[Chunk]:
    """What passes of one call."""
    recorder = Recorder(port)
    with insecure_web_channel(f"http://127.0.0.1:{recorder.port}") as channel:
        kind = channel.unary_stream if name == "Many" else channel.unary_unary
        call = kind(f"/{SERVICE}/{name}", Note.SerializeToString, Note.FromString)
        try:
            found = call(Note(**fields), metadata=[("authorization", "Bearer hidden")], timeout=5)
            assert name != "Many" or len(list(found)) == fields["number"]
        except grpc.RpcError:
            pass
    time.sleep(0.05)  # the proxy's threads
    recorder.close()
    (talk,) = recorder.talks
    return talk


def entries_of(talk: list[Chunk], **settings: Any) -> list[Entry]:
    """The same in small pieces, too."""
    fine = [(side, piece[i : i + 7]) for side, piece in talk for i in range(0, len(piece), 7)]
    made = []
    for pieces in (talk, fine):
        said: list[str] = []
        engine = Engine([http.SPEC, ours.SPEC], EngineSettings(**settings), said.append)
        made.append(play(engine, http.SPEC, pieces))
        assert said == []
        assert engine.tally.reserved == 0
    assert rows(made[0]) == rows(made[1])
    return made[0]


def full(entry: Entry) -> dict[str, Any]:
    """All of a call, as sinks get it."""
    specs = {spec.name: spec for spec in (http.SPEC, ours.SPEC)}
    row: dict[str, Any] = Renderer(specs).as_dict(entry, full=True)["grpc"]
    return row


def in_text(talk: list[Chunk]) -> list[Chunk]:
    """The same call with its content in base64, each message and the trailers by themselves."""
    found = []
    for side in (C, S):
        head, _, body = b"".join(piece for who, piece in talk if who == side).partition(b"\r\n\r\n")
        if b"chunked" in head:
            body = b"".join(re.findall(rb"(?s)\r\n(.+?)\r\n(?=[0-9a-f]+\r\n)", b"\r\n" + body))
        parts = []
        while body:
            size = 5 + int.from_bytes(body[1:5], "big")
            parts.append(base64.b64encode(body[:size]))
            body = body[size:]
        text = b"".join(parts)
        lines = [
            line for line in head.split(b"\r\n") if b"ontent-" not in line and b"oding" not in line
        ]
        lines += [b"Content-Length: %d" % len(text), b"content-type: application/grpc-web-text"]
        found.append((side, b"\r\n".join(lines) + b"\r\n\r\n" + text))
    return found


@pytest.mark.parametrize("text", [False, True])
def test_a_call(server: int, text: bool) -> None:
    talk = heard(server, "One", text="hi", number=7, password="p")
    (entry,) = entries_of(in_text(talk) if text else talk)
    assert (entry.protocol, *rows([entry])) == ("grpc", f"One {PATH} -> OK [ok]")
    row = full(entry)
    assert (row["request"]["service"], row["request"]["method"]) == (SERVICE, "One")
    assert json.loads(row["request"]["body"])["1:string"] == "hi"
    assert json.loads(row["response"]["body"])["1:string"] == "hihi"
    assert row["response"]["status_from"] == "trailers"
    assert row["response"]["http_status"] == 200
    assert row["request"]["deadline_ns"] > 0
    assert ["authorization", "Bearer REDACTED"] in row["request"]["metadata"]


def test_a_call_that_fails(server: int) -> None:
    (entry,) = entries_of(heard(server, "One", text="missing"))
    assert rows([entry]) == [f"One {PATH} -> NOT_FOUND 5 NOT_FOUND: no café [error]"]


@pytest.mark.parametrize("text", [False, True])
def test_a_stream(server: int, text: bool) -> None:
    """Each message of it is an entry; the sizes of all add up to what was sent."""
    talk = heard(server, "Many", text="tick", number=3)
    talk = in_text(talk) if text else talk
    *messages, call = entries_of(talk)
    assert [one.request.verb for one in messages if one.request] == ["message"] * 3
    assert {one.src.port for one in messages} == {call.dst.port}
    assert rows([call])[0].endswith("-> OK [ok]")
    assert full(call)["response"]["messages"] == 3
    sent = sum(len(piece) for side, piece in talk if side == S)
    assert (
        sum(one.request.size for one in messages if one.request)
        + (call.response.size if call.response else 0)
        == sent
    )


def test_calls_among_others() -> None:
    """On one connection: what is no call stays HTTP's, and a pipeline is answered in order."""

    def ask(kind: str, body: bytes) -> bytes:
        return b"POST /a.B/C HTTP/1.1\r\nContent-Length: %d\r\nContent-Type: %s\r\n\r\n%s" % (
            len(body), kind.encode(), body,
        )  # fmt: skip

    def answer(kind: str, body: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (
            kind.encode(), len(body), body,
        )  # fmt: skip

    web, other = "application/grpc-web+proto", "application/json"
    back = message(b"\x08\x02") + b"\x80" + (15).to_bytes(4, "big") + b"grpc-status: 0\n"
    asked = ask(other, b"{}") + ask(web, message(b"\x08\x01")) + ask(other, b"{}")
    answered = answer(other, b"{}") + answer(web, back) + answer(other, b"{}")
    found = entries_of([(C, asked), (S, answered)])
    assert [(e.protocol, *rows([e])) for e in found] == [
        ("http", "POST /a.B/C -> 200 [ok]"),
        ("grpc", "C /a.B/C -> OK [ok]"),
        ("http", "POST /a.B/C -> 200 [ok]"),
    ]
    assert [
        e.protocol for e in entries_of([(C, asked), (S, answered)], only=frozenset({"grpc"}))
    ] == ["grpc"]


def test_holes() -> None:
    """A hole in a body costs that message; one that takes the frame's beginning, what comes after it."""
    head = (
        b"POST /a.B/C HTTP/1.1\r\nContent-Length: 105\r\nContent-Type: application/grpc-web\r\n\r\n"
    )
    body = message(b"\x0a\x62" + b"x" * 98)
    engine = Engine([http.SPEC, ours.SPEC], EngineSettings())
    talks: list[list[Piece]] = [
        [(C, head + body[:20]), (C, 50), (C, body[70:])],
        [(C, head), (C, 105)],
    ]
    for talk in talks:
        (entry,) = play(engine, http.SPEC, talk)
        assert (entry.protocol, entry.outcome, entry.truncated) == ("grpc", "unanswered", True)
        assert entry.gap_bytes == sum(piece for _, piece in talk if isinstance(piece, int))
    (entry,) = play(engine, http.SPEC, [(C, head + body[:20]), (C, 5_000)])
    assert (entry.protocol, entry.outcome) == ("grpc", "cut")
