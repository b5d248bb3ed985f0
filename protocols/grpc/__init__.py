"""gRPC over HTTP/2, and grpc-web over HTTP/2 and HTTP/1: the calls that are in their exchanges."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec

from kshark.api import EnricherSpec, Options, ProtocolSpec, Redact, hookimpl, option
from kshark.protocols.grpc.asking import ASKER, OpenPool
from kshark.protocols.grpc.details import GrpcRequest, GrpcResponse, details
from kshark.protocols.grpc.layer import layer as layer
from kshark.protocols.grpc.schema import Pool

EVERYBODY = "reflect"
"""Where types come from: each server that is seen."""


class GrpcOptions(Options):
    """What a user may say of gRPC."""

    proto: Annotated[
        list[str],
        option(
            "Types of bodies: a descriptor set, a folder of .proto, reflect:HOST:PORT (ask it), reflect (ask each seen)"
        ),
    ] = []


def configure(options: GrpcOptions) -> ProtocolSpec:
    """The protocol, with the types of bodies that the user has."""
    if not options.proto:
        return SPEC
    from kshark.protocols.grpc.schemas import load

    places = [place for place in options.proto if place != EVERYBODY]
    pool = load(places, OpenPool() if places != options.proto else Pool())
    return msgspec.structs.replace(SPEC, details=partial(details, pool=pool))


SPEC = ProtocolSpec(
    name="grpc",
    doc="gRPC on HTTP/2, grpc-web on HTTP/1 too: calls of all kinds, their status, deadlines and messages",
    over=("http2", "http"),
    types=("application/grpc",),
    layer=layer,
    request=GrpcRequest,
    response=GrpcResponse,
    details=details,
    target_redact=Redact.URL,
    options=GrpcOptions,
    configure=configure,
)


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    return [SPEC]


@hookimpl
def register_enrichers() -> list[EnricherSpec]:
    return [ASKER]
