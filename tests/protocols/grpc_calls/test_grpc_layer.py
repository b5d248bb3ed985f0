"""What is shown of a call: kinds, ends, losses, grpc-web, limits."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_kit import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    HELLO,
    SETTINGS,
    SPEC,
    C,
    S,
    Talk,
    answers,
    asks,
    block,
    carried,
    data,
    ends,
    frame,
    message,
    reset,
    unary,
)

from kshark import limits
from kshark.api import Entry, Kind, PluginError
from kshark.protocols import grpc
from kshark.protocols.grpc import reflection, schemas
from kshark.protocols.grpc.details import GrpcRequest, GrpcResponse, details
from kshark.protocols.grpc.layer import GrpcLayer
from kshark.protocols.grpc.schema import Pool
from kshark.testing import converse, rows, shown

START: Talk = [(C, HELLO), (S, frame(SETTINGS, 0, 0))]
PATH = "/shop.Cart/Get"


def played(*pieces: Any) -> list[Entry]:
    return converse(SPEC, [*START, *pieces])


def response_of(entry: Entry) -> GrpcResponse:
    assert entry.response is not None
    found = details(entry.response)
    assert isinstance(found, GrpcResponse)
    return found


def request_of(entry: Entry) -> GrpcRequest:
    assert entry.request is not None
    found = details(entry.request)
    assert isinstance(found, GrpcRequest)
    return found


def asked(stream: int = 1, body: bytes = b"\x08\x01", **more: Any) -> tuple[Any, bytes]:
    return (C, asks(stream, PATH, **more) + data(stream, message(body), True))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (8, "CANCELLED 1"),
        (7, "UNAVAILABLE 14"),
        (11, "RESOURCE_EXHAUSTED 8"),
        (2, "INTERNAL 13"),
        (5, "UNKNOWN 2"),
    ],
)
def test_a_reset_stands_for_a_status(code: int, status: str) -> None:
    (entry,) = played(asked(), (S, reset(1, code)))
    assert f"-> {status}" in rows([entry])[0]
    assert response_of(entry).status_from == "stream"


@pytest.mark.parametrize(
    ("http", "status"), [("503", "UNAVAILABLE"), ("404", "UNIMPLEMENTED"), ("418", "UNKNOWN")]
)
def test_http_stands_for_a_status(http: str, status: str) -> None:
    head = block([(":status", http), ("content-type", "text/html")])
    (entry,) = played(asked(), (S, frame(HEADERS, END_HEADERS | END_STREAM, 1, head)))
    found = response_of(entry)
    assert (found.status_name, found.status_from, found.http_status) == (status, "http", int(http))


def test_an_end_without_a_status() -> None:
    (entry,) = played(asked(), (S, answers(1) + data(1, message(b""), True)))
    assert rows([entry]) == [f"Get {PATH} -> UNKNOWN 2 UNKNOWN: no status [error]"]


def test_error_details() -> None:
    status = status_pb2.Status(code=5, message="none")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="GONE"))
    packed = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
    (entry,) = played(asked(), (S, answers(1) + ends(1, "5", ("grpc-status-details-bin", packed))))
    found = response_of(entry)
    assert "GONE" in found.error_details
    assert packed not in repr((found.trailers, found.metadata))  # where nothing finds its secrets
    (entry,) = played(asked(), (S, answers(1) + ends(1, "5", ("grpc-status-details-bin", "?"))))
    assert response_of(entry).error_details == "?"


def test_a_deadline_that_passed() -> None:
    head = asks(1, PATH, ("grpc-timeout", "500u"))
    (entry,) = played(
        (C, head + data(1, message(b""), True)), (C, frame(SETTINGS, 0, 0)), (C, reset(1))
    )
    assert "deadline-passed" in response_of(entry).notes
    assert request_of(entry).deadline_ns == 500_000


def test_the_first_message_of_a_stream_has_its_own_time() -> None:
    """It is shown when the second one comes."""
    one, two, _ = played(
        asked(), (S, answers(1) + data(1, message(b"\x08\x01"))), (C, frame(SETTINGS, 0, 0)),
        (S, data(1, message(b"\x08\x02"))), (S, ends(1)),
    )  # fmt: skip
    assert one.request is not None
    assert two.request is not None
    assert two.request.first_ns - one.request.first_ns == 2_000_000
    assert (request_of(one).number, request_of(two).number) == (1, 2)


def test_sizes_of_a_stream_add_up() -> None:
    talk: Talk = [
        *START,
        (
            C,
            asks(1, PATH) + data(1, message(b"ab") + message(b"cde")) + data(1, message(b""), True),
        ),
        (S, answers(1) + data(1, message(b"x" * 40)) + ends(1)),
    ]
    found = converse(SPEC, talk)
    sent = sum(len(piece) for side, piece in talk if side == C)
    assert sum(e.request.size for e in found if e.request) == sent


def test_a_hole_in_a_message() -> None:
    """The framing goes on; in the first bytes of one it is lost, and said so."""
    body = message(b"\x0a\x10" + b"a" * 16)
    raw = asks(1, PATH) + data(1, body + message(b"\x08\x01"), True)
    for cut, note in ((len(raw) - 20, ""), (len(raw) - 6, "lost-messages")):
        found = played((C, raw[:cut]), (C, 3), (C, raw[cut + 3 :]), (S, answers(1) + ends(1)))
        calls = [e for e in found if e.response]
        assert note in " ".join(calls[0].request.notes if calls[0].request else ())
        events = [(request_of(e).number, e.truncated) for e in found if e is not calls[0]]
        assert events == [(1, not note), (2, bool(note))]


def test_no_framing() -> None:
    (entry,) = played((C, asks(1, PATH) + data(1, b"{}", True)), (S, answers(1) + ends(1)))
    assert "bad-framing" in request_of(entry).notes


def test_joined_in_mid_stream() -> None:
    """Nothing is guessed: a path in a table that was filled before is empty."""
    head = frame(HEADERS, END_HEADERS, 9, b"\x83\x86\xbe\xbf")
    (entry,) = converse(
        SPEC,
        [
            (C, head + data(9, message(b"\x08\x01"), True)),
            (S, answers(9) + data(9, message(b"")) + ends(9, "5")),
        ],
    )
    assert entry.midstream or entry.request is not None
    assert response_of(entry).status_name == "NOT_FOUND"
    assert request_of(entry).service == ""
    assert request_of(entry).unknown_headers == 2


PLAIN = (S, frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x88"))
WEB = "application/grpc-web"
TRAILER = b"\x80" + (32).to_bytes(4) + b"grpc-status:5\r\ngrpc-message:no\r\n"


def web(text: bool, *, kind: str) -> list[Entry]:
    def coded(raw: bytes) -> bytes:
        return base64.b64encode(raw) if text else raw

    back = coded(message(b"\x08\x02")) + coded(TRAILER)
    return played(
        (C, asks(1, PATH, kind=kind) + data(1, coded(message(b"\x08\x01")), True)),
        (S, answers(1, kind=kind) + data(1, back[:9]) + data(1, back[9:], True)),
    )


@pytest.mark.parametrize("text", [False, True])
def test_grpc_web(text: bool) -> None:
    (entry,) = web(text, kind=WEB + ("-text" if text else "+proto"))
    assert rows([entry]) == [f"Get {PATH} -> NOT_FOUND 5 NOT_FOUND: no [error]"]
    (row,) = shown(SPEC, [entry])
    assert json.loads(row["grpc"]["request"]["body"]) == {"1:varint": 1}
    assert json.loads(row["grpc"]["response"]["body"]) == {"1:varint": 2}
    assert row["grpc"]["response"]["trailers"] == [["grpc-status", "5"]]
    assert row["grpc"]["response"]["message"] == "no"


def test_compressed_messages_of_a_server_name_their_coding() -> None:
    """The head of the answer is not at hand while messages are shown: their own first bytes tell."""
    packed = message(gzip.compress(b"\x08\x07"), 1)
    one, two, call = played(
        asked(), (S, answers(1, ("grpc-encoding", "gzip")) + data(1, packed + packed) + ends(1))
    )
    for entry in (one, two):
        found = request_of(entry)
        assert (found.encoding, json.loads(found.body)) == ("gzip", {"1:varint": 7})
    assert response_of(call).compressed == 2


def test_what_layers_hold_is_bounded() -> None:
    """STREAM_BYTES a side: more messages under way than that lose their bodies, and their calls nothing else."""
    dissector = carried()
    dissector.feed(C, HELLO)
    dissector.feed(S, frame(SETTINGS, 0, 0))
    part = (60_000).to_bytes(4)
    for number in range(1, 400, 2):
        dissector.feed(
            C,
            asks(number, PATH)
            + b"".join(data(number, piece) for piece in (b"\0" + part, b"x" * 16_000)),
        )
    assert dissector.streams.client.kept <= limits.STREAM_BYTES + 16_384
    layers = [stream.layer for stream in dissector.streams.table.values()]
    lanes = [layer.client for layer in layers if isinstance(layer, GrpcLayer)]
    assert lanes
    assert sum(len(b"".join(lane.pieces or ())) for lane in lanes) <= limits.STREAM_BYTES
    dissector.slim()
    assert not any(lane.pieces for lane in lanes)


def test_a_long_message_is_capped() -> None:
    body = b"\x0a\x80\x80\x08" + b"a" * (limits.BODY_KEPT * 2)
    pieces = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
    sent = (
        data(1, b"\0" + len(body).to_bytes(4))
        + b"".join(data(1, p) for p in pieces)
        + data(1, b"", True)
    )
    (entry,) = played((C, asks(1, PATH) + sent), (S, answers(1) + ends(1)))
    assert entry.truncated
    assert entry.request is not None
    assert len(entry.request.body) == limits.BODY_KEPT
    assert request_of(entry).body_size == len(body)


def test_other_exchanges_of_the_connection_stay_http2() -> None:
    get = frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x82\x86" + block([(":path", "/metrics")]))
    found = converse(
        SPEC,
        [
            *START,
            (C, get),
            PLAIN,
            *unary(5, PATH, b"", b""),
        ],
    )
    assert [row.split()[0] for row in rows(found)] == ["GET", "Get"]
    assert [e.request.protocol for e in found if e.request] == ["", "grpc"]
    assert not [e for e in found if e.request and e.request.kind == Kind.ONEWAY]


def test_too_much_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PROTO_SCHEMA."""
    (tmp_path / "big.pb").write_bytes(b"\x0a\x00" * 20)
    monkeypatch.setattr(limits, "PROTO_SCHEMA", 10)
    with pytest.raises(PluginError, match="of descriptors"):
        schemas.load([str(tmp_path / "big.pb")], Pool())


def nested(depth: int) -> bytes:
    """A descriptor set of one type within another, and so on."""
    inner = b"\x0a\x01M"
    for _ in range(depth):
        size = len(inner)
        inner = (
            b"\x0a\x01M\x1a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + inner
        )
    for key in (b"\x22", b"\x0a"):
        size = len(inner)
        inner = key + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + inner
    return inner


def test_what_is_no_schema_is_said(tmp_path: Path) -> None:
    """In one line each; a server is not asked where its address is none."""
    path = tmp_path / "api.pb"
    for held, said in ((b"", "no type in it"), (b"\x0a\x00", "no type in it"), (b"pem", "no descriptor"),
                       (nested(2_000), "too deep")):  # fmt: skip
        path.write_bytes(held)
        with pytest.raises(PluginError, match=f"--proto {path}: .*{said}"):
            schemas.load([str(path)], Pool())
    path.write_bytes(nested(5))
    assert len(schemas.load([str(path)], Pool()).messages) == 6
    for wrong in ("reflect:", "reflect:localhost", "reflect::99", "reflect:a:b"):
        with pytest.raises(PluginError, match=f"--proto {wrong}: must be reflect:HOST:PORT"):
            schemas.load([wrong], Pool())


def test_a_server_without_end_is_not_heard_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """REFLECTED questions at most, each round within REFLECTION."""
    asked_of: list[float] = []

    class Endless:
        def stream_stream(self, method: str) -> Any:
            def call(questions: Any, timeout: float) -> Any:
                for number, _ in enumerate(questions):
                    asked_of.append(timeout)
                    name = b"f%d-%d" % (len(asked_of), number)
                    file = (
                        b"\x0a"
                        + bytes([len(name)])
                        + name
                        + b"\x1a"
                        + bytes([len(name) + 1])
                        + name
                        + b"x"
                    )
                    inner = b"\x0a" + bytes([len(file)]) + file
                    yield b"\x22" + bytes([len(inner)]) + inner

            return call

    found = reflection.ask(Endless(), "/x")
    assert len(found) == len(asked_of) == limits.REFLECTED
    assert set(asked_of) == {limits.REFLECTION / limits.SECOND}


def test_the_layer_is_asked_for_by_its_type() -> None:
    assert grpc.SPEC.types == ("application/grpc",)
    assert set(grpc.SPEC.over) >= {"http2"}
