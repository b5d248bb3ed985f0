"""grpcio's server and clients: all kinds of calls, errors, deadlines, compression, metadata, reflection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from google.protobuf import descriptor_pb2
from grpc_live import SERVICE, Note, caller, declared, heard, server

from kshark.api import Entry, Outcome, PluginError
from kshark.protocols import grpc as ours
from kshark.protocols.grpc import GrpcOptions
from kshark.protocols.grpc.details import GrpcRequest, GrpcResponse, details
from kshark.testing import rows, shown


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with server() as number:
        yield number


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The protocol, with the types of the service from a descriptor set."""
    path = tmp_path_factory.mktemp("proto") / "kit.pb"
    path.write_bytes(descriptor_pb2.FileDescriptorSet(file=[declared()]).SerializeToString())
    return ours.configure(GrpcOptions(proto=[str(path)]))


def asked(entry: Entry) -> GrpcRequest:
    assert entry.request is not None
    found = details(entry.request)
    assert isinstance(found, GrpcRequest)
    return found


def answered(entry: Entry) -> GrpcResponse:
    assert entry.response is not None
    found = details(entry.response)
    assert isinstance(found, GrpcResponse)
    return found


def test_unary(port: int, described: Any) -> None:
    """By its schema, with its secrets hidden; several calls share a connection's dynamic table."""

    def client(channel: Any) -> None:
        for number in range(5):
            metadata = (("authorization", "Bearer abc"), ("x-trace-bin", b"\x00\x01"))
            note = Note(
                text="hi", number=number, password="p", list=[1, 2, 300], inner=Note(text="in")
            )
            caller(channel, "One", "unary_unary")(note, metadata=metadata, timeout=9)

    found = heard(port, client)
    assert rows(found) == [f"One /{SERVICE}/One -> OK [ok]"] * 5
    row = shown(described, found)[4]["grpc"]
    body = json.loads(row["request"]["body"])
    assert body == {
        "text": "hi", "number": 4, "password": "REDACTED", "list": [1, 2, 300], "inner": {"text": "in"},
    }  # fmt: skip
    assert json.loads(row["response"]["body"]) == {"text": "hihi", "number": 4}
    assert row["request"]["reading"] == row["response"]["reading"] == "kit.Note"
    assert ["authorization", "Bearer REDACTED"] in row["request"]["metadata"]
    assert 8_000_000_000 < row["request"]["deadline_ns"] <= 9_100_000_000
    assert (row["request"]["service"], row["request"]["method"]) == (SERVICE, "One")
    assert row["response"]["status_name"] == "OK"
    assert row["response"]["status_from"] == "trailers"


def test_server_streaming(port: int) -> None:
    def client(channel: Any) -> None:
        assert len([*caller(channel, "Many", "unary_stream")(Note(text="a", number=3))]) == 3

    *events, call = heard(port, client)
    assert [(asked(e).sender, asked(e).number) for e in events] == [
        ("server", n) for n in (1, 2, 3)
    ]
    assert all(e.swapped for e in events)
    assert rows([call]) == [f"Many /{SERVICE}/Many -> OK [ok]"]
    assert (asked(call).messages, answered(call).messages) == (1, 3)
    assert (asked(call).streamed, answered(call).streamed) == (False, True)
    times = [e.request.first_ns for e in events if e.request]
    assert times == sorted(times)


def test_client_streaming(port: int) -> None:
    def client(channel: Any) -> None:
        caller(channel, "Sum", "stream_unary")(iter([Note(number=n) for n in (1, 2, 4)]))

    *events, call = heard(port, client)
    assert [(asked(e).sender, asked(e).number) for e in events] == [
        ("client", n) for n in (1, 2, 3)
    ]
    assert json.loads(answered(call).body) == {"2:varint": 7}
    assert answered(call).reading == "guess"
    assert asked(call).messages == 3


def test_both(port: int) -> None:
    def client(channel: Any) -> None:
        sent = iter([Note(text="a"), Note(text="b")])
        assert [n.text for n in caller(channel, "Talk", "stream_stream")(sent)] == ["a!", "b!"]

    *events, call = heard(port, client)
    told = sorted((asked(e).sender, asked(e).number) for e in events)
    assert told == [("client", 1), ("client", 2), ("server", 1), ("server", 2)]
    assert call.outcome == Outcome.OK


def test_an_error(port: int) -> None:
    def client(channel: Any) -> None:
        with pytest.raises(grpc.RpcError):
            caller(channel, "One", "unary_unary")(Note(text="missing"))
        with pytest.raises(grpc.RpcError):
            caller(channel, "None", "unary_unary")(Note())

    found = heard(port, client)
    assert rows(found) == [
        f"One /{SERVICE}/One -> NOT_FOUND 5 NOT_FOUND: no café [error]",
        f"None /{SERVICE}/None -> UNIMPLEMENTED 12 UNIMPLEMENTED: Method not found! [error]",
    ]
    assert answered(found[0]).message == "no café"
    assert answered(found[1]).status_from == "headers"


def test_deadline_and_cancellation(port: int) -> None:
    def client(channel: Any) -> None:
        call = caller(channel, "One", "unary_unary")
        with pytest.raises(grpc.RpcError):
            call(Note(text="slow"), timeout=0.1)
        future = call.future(Note(text="slow"))
        with suppress(grpc.FutureTimeoutError):
            future.result(timeout=0.1)
        future.cancel()

    late, cancelled = heard(port, client)
    assert late.response is not None
    assert late.response.status in (1, 4)  # the client's RST_STREAM, or the server's word
    assert asked(late).deadline_ns is not None
    assert rows([cancelled])[0].endswith("CANCELLED 1 CANCELLED: RST_STREAM CANCEL [error]")
    assert "reset-by-client" in answered(cancelled).notes


def test_compression(port: int) -> None:
    def client(channel: Any) -> None:
        caller(channel, "One", "unary_unary")(Note(text="long " * 100))

    (call,) = heard(port, client, compression=grpc.Compression.Gzip)
    request = asked(call)
    assert (request.encoding, request.compressed) == ("gzip", 1)
    assert request.body_size < 100
    assert json.loads(request.body) == {"1:string": "long " * 100}


def test_a_folder_of_types(tmp_path: Path, port: int) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.proto").write_text(
        'syntax = "proto3"; package kit; message Note { string text = 1; int64 number = 2; }'
    )
    (tmp_path / "echo.proto").write_text(
        'syntax = "proto3"; package kit; import "sub/base.proto"; service Echo { rpc One(Note) returns (Note); }'
    )
    spec = ours.configure(GrpcOptions(proto=[str(tmp_path)]))
    found = heard(port, lambda channel: caller(channel, "One", "unary_unary")(Note(text="x")))
    row = shown(spec, found)[0]["grpc"]["response"]
    assert (json.loads(row["body"]), row["reading"]) == ({"text": "xx"}, "kit.Note")


def test_reflection(port: int) -> None:
    spec = ours.configure(GrpcOptions(proto=[f"reflect:127.0.0.1:{port}"]))
    found = heard(port, lambda channel: caller(channel, "One", "unary_unary")(Note(text="x")))
    assert json.loads(shown(spec, found)[0]["grpc"]["response"]["body"]) == {"text": "xx"}


@pytest.mark.parametrize("place", ["/nowhere.pb", "reflect:127.0.0.1:1", __file__])
def test_what_is_no_schema(place: str) -> None:
    with pytest.raises(PluginError, match="--proto"):
        ours.configure(GrpcOptions(proto=[place]))


def test_nobody_is_asked_without_being_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option, no query: `configure` gives the protocol as it is."""
    monkeypatch.setattr("kshark.protocols.grpc.reflection.descriptors_of", None)
    assert ours.configure(msgspec.convert({}, GrpcOptions)) is ours.SPEC
