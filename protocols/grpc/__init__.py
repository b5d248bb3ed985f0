"""gRPC, over HTTP/2, and grpc-web over any HTTP: the calls that are in its exchanges."""

from __future__ import annotations

from kshark.api import Message, ProtocolSpec, Redact, hookimpl
from kshark.protocols.grpc.details import GrpcRequest, GrpcResponse, details
from kshark.protocols.grpc.layer import GrpcLayer


def layer(request: Message) -> GrpcLayer:
    """What reads a call; `request` has its head."""
    return GrpcLayer(request, b"grpc-web" in request.head)


SPEC = ProtocolSpec(
    name="grpc",
    doc="gRPC and grpc-web: calls of all kinds, their status, deadlines and messages",
    over=("http2", "http"),
    types=("application/grpc",),
    layer=layer,
    request=GrpcRequest,
    response=GrpcResponse,
    details=details,
    target_redact=Redact.URL,
)


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    return [SPEC]
