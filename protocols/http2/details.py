"""The typed schema of HTTP/2 messages, made from their header lists and bodies when somebody asks.

Nothing here runs while a capture is dissected. Whatever the bytes are, `details` gives a `Http2Request` or a
`Http2Response`. A header whose name or value is not known is counted, and not shown: a value without a name
may be a secret.
"""

from __future__ import annotations

from typing import Annotated

from kshark import limits
from kshark.api import Details, Kind, Message, Redact, doc
from kshark.protocols import _body
from kshark.protocols._body import Body, BodyEncoding, ContentEncoding, ContentType
from kshark.protocols.http2.hpack import fields
from kshark.protocols.http2.states import Rest

Headers = list[tuple[str, str]]


class Http2Request(Details):
    """An HTTP/2 request, or what ends a connection (GOAWAY)."""

    method: Annotated[str, doc("`:method`", otel="http.request.method")] = ""
    path: Annotated[str, doc("`:path` without its query", otel="url.path", redact=Redact.URL)] = ""
    query: Annotated[
        str | None,
        doc("Query of `:path`, with its question mark", otel="url.query", redact=Redact.URL),
    ] = None
    protocol: Annotated[
        str | None,
        doc("What a CONNECT asks for by `:protocol` (RFC 8441): websocket"),
    ] = None
    scheme: Annotated[str | None, doc("`:scheme`: http, https", otel="url.scheme")] = None
    host: Annotated[
        str | None,
        doc(
            "Whom the request is for: `:authority`, else Host",
            otel="server.address",
            redact=Redact.URL,
        ),
    ] = None
    version: Annotated[str, doc("2", otel="network.protocol.version")] = "2"
    stream: Annotated[int, doc("Stream of the connection; 0 is the connection itself")] = 0
    headers: Annotated[
        Headers,
        doc(
            "Names and values, in order, without pseudo-headers",
            otel="http.request.header",
            redact=Redact.HEADERS,
        ),
    ] = []
    trailers: Annotated[Headers, doc("Headers sent after the body", redact=Redact.HEADERS)] = []
    unknown_headers: Annotated[
        int, doc("Headers whose name or value cannot be known (joined in mid-stream, bytes lost)")
    ] = 0
    user_agent: Annotated[
        str | None, doc("What client software this is", otel="user_agent.original")
    ] = None
    content_type: ContentType = None
    content_encoding: ContentEncoding = None
    body: Body = ""
    body_encoding: BodyEncoding = None
    body_size: Annotated[
        int,
        doc("Bytes of the body as sent, framing not counted", otel="http.request.body.size"),
    ] = 0
    error: Annotated[str | None, doc("Error code of GOAWAY", otel="error.type")] = None
    notes: Annotated[list[str], doc("What is odd or was cut, by name")] = []


class Http2Response(Details):
    """An HTTP/2 response, an interim one (100, 103), or how a stream ended without."""

    status: Annotated[
        int, doc("`:status`, 0 where none came", otel="http.response.status_code")
    ] = 0
    version: Annotated[str, doc("2", otel="network.protocol.version")] = "2"
    stream: Annotated[int, doc("Stream of the connection")] = 0
    headers: Annotated[
        Headers,
        doc(
            "Names and values, in order, without pseudo-headers",
            otel="http.response.header",
            redact=Redact.HEADERS,
        ),
    ] = []
    trailers: Annotated[Headers, doc("Headers sent after the body", redact=Redact.HEADERS)] = []
    unknown_headers: Annotated[
        int, doc("Headers whose name or value cannot be known (joined in mid-stream, bytes lost)")
    ] = 0
    server: Annotated[str | None, doc("What server software this is")] = None
    location: Annotated[str | None, doc("Where to go instead", redact=Redact.URL)] = None
    content_type: ContentType = None
    content_encoding: ContentEncoding = None
    body: Body = ""
    body_encoding: BodyEncoding = None
    body_size: Annotated[
        int,
        doc("Bytes of the body as sent, framing not counted", otel="http.response.body.size"),
    ] = 0
    ended_by: Annotated[
        str | None, doc("RST_STREAM or GOAWAY, where that ended the stream before its end")
    ] = None
    error: Annotated[str | None, doc("Error code of that", otel="error.type")] = None
    notes: Annotated[list[str], doc("What is odd or was cut, by name")] = []


class Listed:
    """A header list, taken apart."""

    __slots__ = ("headers", "pseudo", "unknown")

    def __init__(self, head: bytes) -> None:
        self.headers: Headers = []
        self.pseudo: dict[str, str] = {}
        self.unknown = 0
        for name, value in fields(head):
            if name is None or value is None:
                self.unknown += 1
            elif name[:1] == b":":
                self.pseudo.setdefault(name.decode("latin-1"), value.decode("latin-1"))
            else:
                self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def first(self, name: str) -> str | None:
        """The value of the first header of that name."""
        return next((value for key, value in self.headers if key == name), None)

    def codings(self) -> list[str]:
        """The members of Content-Encoding."""
        values = [value for key, value in self.headers if key == "content-encoding"]
        return [part.strip(" \t").lower() for value in values for part in value.split(",")]


def details(message: Message) -> Http2Request | Http2Response:
    """The typed details of a message."""
    listed = Listed(message.head)
    extra = rest_of(message)
    trailers = Listed(extra.trailers)
    found: Http2Request | Http2Response
    if message.kind in (Kind.RESPONSE, Kind.INTERIM):
        found = response(message, listed)
    elif message.kind == Kind.REQUEST:
        found = request(message, listed)
    else:
        found = Http2Request(error=message.target or None)
    found.stream = message.key
    found.headers = listed.headers
    found.trailers = trailers.headers
    found.unknown_headers = listed.unknown + trailers.unknown
    found.content_type = listed.first("content-type")
    found.content_encoding = listed.first("content-encoding")
    found.body_size = extra.body_size
    show_body(message, listed, found)
    return found


def rest_of(message: Message) -> Rest:
    """What its layer, if it had one, gave back as it was."""
    extra = message.extra
    if isinstance(extra, Rest):
        return extra
    return Rest(len(message.body), extra if isinstance(extra, bytes) else b"")


def request(message: Message, listed: Listed) -> Http2Request:
    """What only a request has."""
    sent = listed.pseudo.get(":path") or message.target  # what a row shows may say more, or less
    path, mark, query = sent[: limits.TARGET].partition("?")
    return Http2Request(
        method=message.verb,
        path=path,
        query=mark + query if mark else None,
        protocol=listed.pseudo.get(":protocol"),
        scheme=listed.pseudo.get(":scheme"),
        host=listed.pseudo.get(":authority") or listed.first("host"),
        user_agent=listed.first("user-agent"),
    )


def response(message: Message, listed: Listed) -> Http2Response:
    """What only a response has."""
    return Http2Response(
        status=message.status,
        server=listed.first("server"),
        location=listed.first("location"),
        ended_by=message.verb or None,
        error=message.target or None,
    )


def show_body(message: Message, listed: Listed, found: Http2Request | Http2Response) -> None:
    """Undo the codings, find out whether it is text, collect the notes."""
    found.notes = list(message.notes)
    if not message.body:
        return
    unpacked = _body.unpack(message.body, listed.codings())
    cut = message.truncated or bool(unpacked.notes)
    packed = unpacked.notes and unpacked.data is message.body
    kind = "application/octet-stream" if packed else found.content_type or ""
    shown = _body.text(unpacked.data, kind, cut)
    found.body = shown.text
    found.body_encoding = shown.encoding or None
    found.notes += [*unpacked.notes, *shown.notes]
