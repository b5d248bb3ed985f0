"""HTTP/2 in clear, by RFC 9113 and RFC 7541: with prior knowledge, or after an upgrade to h2c."""

from __future__ import annotations

from kshark.api import ProtocolSpec, Redact, hookimpl
from kshark.protocols.http2.details import Http2Request, Http2Response, details
from kshark.protocols.http2.dissector import Http2Dissector
from kshark.protocols.http2.frames import PREFACE
from kshark.protocols.http2.identify import probe

SPEC = ProtocolSpec(
    name="http2",
    dissector=Http2Dissector,
    doc="HTTP/2 in clear (h2c): requests and responses of all streams, trailers, pushes, resets",
    magic=(PREFACE,),
    ports=(80, 8080, 50051),
    probe=probe,
    request=Http2Request,
    response=Http2Response,
    details=details,
    target_redact=Redact.URL,
)


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    return [SPEC]
