"""A gRPC server and its client, of grpcio: ``grpc_peer.py serve ADDRESS`` and ``grpc_peer.py call ADDRESS``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

LONGEST = 30_000
"""Bytes of the longest question: several frames of HTTP/2, and the answer in one call still."""


def one(request: bytes, context: Any) -> bytes:
    if not request:
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing")
    return request * 2


def many(request: bytes, context: Any) -> Iterator[bytes]:
    for _ in range(10):
        yield request


def serve(address: str) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    methods = {
        "One": grpc.unary_unary_rpc_method_handler(one),
        "Many": grpc.unary_stream_rpc_method_handler(many),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("kit.Peer", methods),))
    assert server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def call(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        unary = channel.unary_unary("/kit.Peer/One")
        for size in (1, 10, 1000, LONGEST):
            assert unary(b"x" * size, timeout=10) == b"xx" * size
        failed = unary.future(b"", timeout=10)
        assert failed.code() == grpc.StatusCode.NOT_FOUND
        assert len(list(channel.unary_stream("/kit.Peer/Many")(b"item", timeout=10))) == 10


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](sys.argv[2])
