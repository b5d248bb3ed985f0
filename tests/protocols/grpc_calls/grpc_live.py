"""A real server and its clients, of grpcio, through a recording proxy: what went over the wire, as entries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection
from kit_proxy import Recorder

from kshark.api import Entry
from kshark.engine import Engine, EngineSettings
from kshark.protocols import grpc as ours
from kshark.protocols import http2
from kshark.testing.play import play

SERVICE = "kit.Echo"


def declared() -> descriptor_pb2.FileDescriptorProto:
    """``message Note { string text; int64 number; string password; repeated int32 list; Note inner; }``"""
    made = descriptor_pb2.FileDescriptorProto(name="kit.proto", package="kit", syntax="proto3")
    note = made.message_type.add(name="Note")
    plain = [("text", 1, 9, 1), ("number", 2, 3, 1), ("password", 3, 9, 1), ("list", 4, 5, 3)]
    for name, number, kind, label in plain:
        note.field.add(name=name, number=number, type=kind, label=label)
    note.field.add(name="inner", number=5, type=11, label=1, type_name=".kit.Note")
    service = made.service.add(name="Echo")
    for name, asks, gives in (
        ("One", False, False),
        ("Many", False, True),
        ("Sum", True, False),
        ("Talk", True, True),
    ):
        service.method.add(
            name=name,
            input_type=".kit.Note",
            output_type=".kit.Note",
            client_streaming=asks,
            server_streaming=gives,
        )
    return made


POOL = descriptor_pool.Default()
POOL.Add(declared())
Note: Any = message_factory.GetMessageClass(POOL.FindMessageTypeByName("kit.Note"))


def one(request: Any, context: Any) -> Any:
    if request.text == "missing":
        context.set_trailing_metadata((("x-why", "none"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no café")
    if request.text == "slow":
        context.add_callback(lambda: None)
        while context.is_active():
            time.sleep(0.01)
    return Note(text=request.text * 2, number=request.number)


def many(request: Any, context: Any) -> Iterator[Any]:
    for number in range(request.number):
        yield Note(text=request.text, number=number)


def total(requests: Iterator[Any], context: Any) -> Any:
    return Note(number=sum(one.number for one in requests))


def talk(requests: Iterator[Any], context: Any) -> Iterator[Any]:
    for request in requests:
        yield Note(text=request.text + "!")


@contextmanager
def server() -> Iterator[int]:
    """A server of all four kinds, with reflection; its port."""
    made = grpc.server(futures.ThreadPoolExecutor(4))
    kinds = {
        "One": grpc.unary_unary_rpc_method_handler,
        "Many": grpc.unary_stream_rpc_method_handler,
        "Sum": grpc.stream_unary_rpc_method_handler,
        "Talk": grpc.stream_stream_rpc_method_handler,
    }
    behaviour: dict[str, Callable[..., Any]] = {
        "One": one,
        "Many": many,
        "Sum": total,
        "Talk": talk,
    }
    handlers = {
        name: kind(behaviour[name], Note.FromString, Note.SerializeToString)
        for name, kind in kinds.items()
    }
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), made)
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    try:
        yield port
    finally:
        made.stop(0).wait()


def heard(port: int, client: Callable[[Any], None], **options: Any) -> list[Entry]:
    """The entries of what a client does on a channel to the server at that port."""
    recorder = Recorder(port)
    with grpc.insecure_channel(f"127.0.0.1:{recorder.port}", **options) as channel:
        client(channel)
        time.sleep(0.05)  # a cancellation is sent after the client knows
    recorder.close()
    found: list[Entry] = []
    for talk in recorder.talks:
        engine = Engine([http2.SPEC, ours.SPEC], EngineSettings(assume={47: "http2"}))
        found += play(engine, http2.SPEC, talk)
    return found


def caller(channel: Any, name: str, kind: str) -> Any:
    """A method of the service."""
    return getattr(channel, kind)(
        f"/{SERVICE}/{name}",
        request_serializer=Note.SerializeToString,
        response_deserializer=Note.FromString,
    )
