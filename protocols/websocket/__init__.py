"""WebSocket (RFC 6455), with permessage-deflate (RFC 7692): after the upgrade of an HTTP/1 connection, or in a stream
of HTTP/2 (RFC 8441)."""

from __future__ import annotations

from kshark.api import ProtocolSpec, Redact, hookimpl

from .details import WebSocketMessage, details
from .dissector import WebSocketDissector
from .layer import layer as layer
from .negotiated import PROTOCOL
from .resync import probe

SPEC = ProtocolSpec(
    name="websocket",
    dissector=WebSocketDissector,
    doc="WebSocket messages, pings and closes after the upgrade of HTTP/1, in streams of HTTP/2; permessage-deflate",
    probe=probe,
    request=WebSocketMessage,
    details=details,
    target_redact=Redact.URL,
    over=("http", "http2"),
    layer=layer,
    types=(PROTOCOL,),
)


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    return [SPEC]
