"""Calls of gRPC in captures made by others, against DeepFlow's reading of them and tshark's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from oracle import CORPORA

from kshark.api import Entry, Kind
from kshark.engine import Engine, EngineSettings
from kshark.plugins import load
from kshark.protocols import grpc, http2
from kshark.protocols.grpc.details import GrpcRequest, GrpcResponse, details

pytestmark = pytest.mark.corpora

CALLS = {
    "grpc-unary": ["Sync /agent.Synchronizer/Sync", "cut"],
    "grpc-server-stream": [
        "ServerStreamQuery /timeseriesquery.TimeSeriesQueryService/ServerStreamQuery",
        "ok",
    ],
    "grpc-service-name": ["ClientStreamRPC /StreamingService/ClientStreamRPC", "ok"],
}
MESSAGES = {"grpc-unary": [], "grpc-server-stream": [1230, 246], "grpc-service-name": []}
"""Bytes of the server's messages that are shown by themselves."""


def entries_of(name: str) -> list[Entry]:
    registry = load()
    source = registry.find("backends", "pcap")
    backend = source.make(source.options(target=str(CORPORA / f"deepflow/http/{name}.pcap")))
    engine = Engine([http2.SPEC, grpc.SPEC], EngineSettings(backend="pcap"))
    found = [entry for block in backend.read() for entry in engine.feed(block)]
    return [e for e in found + engine.finish() if e.protocol == "grpc"]


def expected(path: Path) -> tuple[set[str], set[str]]:
    """The paths and hosts that DeepFlow found in calls."""
    text = path.read_text()
    lines = [line for line in text.splitlines() if "proto: Grpc" in line]
    paths = {found for line in lines for found in re.findall(r' path: "([^"]+)"', line)}
    hosts = {found for line in lines for found in re.findall(r' host: "([^"]+)"', line)}
    return paths, hosts


@pytest.mark.parametrize("name", CALLS)
def test_deepflow(corpora: Path, name: str) -> None:
    found = entries_of(name)
    events = [e for e in found if e.request and e.request.kind == Kind.ONEWAY]
    (call,) = [e for e in found if e not in events]
    assert call.request is not None
    assert call.response is not None
    assert [f"{call.request.verb} {call.request.target}", str(call.outcome)] == CALLS[name]
    request, response = details(call.request), details(call.response)
    assert isinstance(request, GrpcRequest)
    assert isinstance(response, GrpcResponse)
    paths, hosts = expected(CORPORA / f"deepflow/http/{name}.result")
    assert paths == {f"/{request.service}/{request.method}"}
    assert hosts == {request.authority}
    assert response.http_status == 200
    sizes = [details(e.request).body_size for e in events if e.request]
    if response.streamed:
        assert response.messages == len([e for e in events if e.swapped])
    if MESSAGES[name]:
        assert sizes == MESSAGES[name]


def test_what_was_lost_is_said(corpora: Path) -> None:
    """The capture of the stream has no packet of its third message."""
    (call,) = [e for e in entries_of("grpc-server-stream") if e.response]
    assert call.response is not None
    assert "lost-messages" in call.response.notes
    assert call.truncated
