"""HTTP/1.0 and 1.1, by RFC 9110 and RFC 9112."""

from __future__ import annotations

from types import FunctionType

from kshark.api import ProtocolSpec, Redact, hookimpl
from kshark.protocols.http.details import HttpRequest, HttpResponse, details
from kshark.protocols.http.dissector import HttpDissector
from kshark.protocols.http.resync import METHODS, probe


def best() -> type[HttpDissector]:
    """The dissector of this build: the compiled state machine, or the plain one with its shortcuts."""
    if not isinstance(HttpDissector.take, FunctionType):
        return HttpDissector
    from kshark.protocols.http.quick import QuickDissector

    return QuickDissector


SPEC = ProtocolSpec(
    name="http",
    dissector=best(),
    doc="HTTP/1.0 and 1.1: requests and responses, pipelined, chunked, upgraded",
    magic=tuple(method + b" " for method in METHODS.split(b"|")),
    replies=(b"HTTP/1.",),
    ports=(80, 3000, 8000, 8080, 8888),
    probe=probe,
    request=HttpRequest,
    response=HttpResponse,
    details=details,
    target_redact=Redact.URL,
)


@hookimpl
def register_protocols() -> list[ProtocolSpec]:
    return [SPEC]
