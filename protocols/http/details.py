"""The typed schema of HTTP/1 messages, made from their raw head and body when somebody asks.

Nothing here runs while a capture is dissected: `details` is called for a filter, a full sink or a
person. Whatever the bytes are, it gives a `HttpRequest` or `HttpResponse`.
"""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from kshark import limits
from kshark.api import Details, Kind, Message, Redact, doc
from kshark.protocols import _body as body
from kshark.protocols._body import Body, BodyEncoding, ContentEncoding, ContentType
from kshark.protocols.http.states import Rest

Headers = list[tuple[str, str]]

_VERSION = re.compile(r"[ \t]HTTP/(1\.\d)\Z")
_STATUS = re.compile(r"HTTP/(1\.\d)(?:[ \t]++\d{3}[ \t]?(.*))?[ \t]*", re.DOTALL)
_CHUNKED: Final = "chunked"


class HttpRequest(Details):
    """An HTTP/1 request."""

    method: Annotated[str, doc("Request method, as sent", otel="http.request.method")]
    path: Annotated[
        str, doc("Path of the target, without its query", otel="url.path", redact=Redact.URL)
    ]
    query: Annotated[
        str | None,
        doc("Query of the target, with its question mark", otel="url.query", redact=Redact.URL),
    ] = None
    url: Annotated[
        str | None,
        doc("Target as sent, where it is not a path", otel="url.full", redact=Redact.URL),
    ] = None
    host: Annotated[
        str | None,
        doc(
            "Whom the request is for: of an absolute target, else Host",
            otel="server.address",
            redact=Redact.URL,
        ),
    ] = None
    version: Annotated[str, doc("1.0 or 1.1", otel="network.protocol.version")] = ""
    headers: Annotated[
        Headers,
        doc(
            "Names in lower case, and values, in order",
            otel="http.request.header",
            redact=Redact.HEADERS,
        ),
    ] = []
    trailers: Annotated[
        Headers, doc("Headers sent after a chunked body", redact=Redact.HEADERS)
    ] = []
    user_agent: Annotated[
        str | None, doc("What client software this is", otel="user_agent.original")
    ] = None
    content_type: ContentType = None
    content_encoding: ContentEncoding = None
    body: Body = ""
    body_encoding: BodyEncoding = None
    body_size: Annotated[
        int,
        doc("Bytes of the body as sent, chunk framing not counted", otel="http.request.body.size"),
    ] = 0
    notes: Annotated[list[str], doc("What is odd or was cut, by name")] = []


class HttpResponse(Details):
    """An HTTP/1 response, or an interim one (100, 103)."""

    status: Annotated[int, doc("Status code", otel="http.response.status_code")]
    reason: Annotated[str | None, doc("Reason phrase")] = None
    version: Annotated[str, doc("1.0 or 1.1", otel="network.protocol.version")] = ""
    headers: Annotated[
        Headers,
        doc(
            "Names in lower case, and values, in order",
            otel="http.response.header",
            redact=Redact.HEADERS,
        ),
    ] = []
    trailers: Annotated[
        Headers, doc("Headers sent after a chunked body", redact=Redact.HEADERS)
    ] = []
    server: Annotated[str | None, doc("What server software this is")] = None
    location: Annotated[str | None, doc("Where to go instead", redact=Redact.URL)] = None
    content_type: ContentType = None
    content_encoding: ContentEncoding = None
    body: Body = ""
    body_encoding: BodyEncoding = None
    body_size: Annotated[
        int,
        doc("Bytes of the body as sent, chunk framing not counted", otel="http.response.body.size"),
    ] = 0
    notes: Annotated[list[str], doc("What is odd or was cut, by name")] = []


class Target(msgspec.Struct):
    """The parts of a request target (RFC 9112 section 3.2)."""

    path: str
    query: str | None
    url: str | None
    host: str | None


class Shown(msgspec.Struct):
    """A body as the schema has it."""

    text: str
    encoding: str | None
    size: int
    notes: list[str]


def details(message: Message) -> HttpRequest | HttpResponse:
    """The typed details of a message."""
    start, _, rest = message.head.decode("latin-1").lstrip("\r\n").partition("\n")
    headers = parse_headers(rest)
    if message.kind == Kind.REQUEST:
        line = _VERSION.fullmatch(start.rstrip(" \t\r")[-9:])
    else:
        line = _STATUS.fullmatch(start.rstrip("\r"))
    version = line[1] if line else ""
    extra = message.extra if isinstance(message.extra, Rest) else Rest(len(message.body))
    trailers = parse_headers(extra.trailers.decode("latin-1"))
    shown = show_body(message, headers, extra)
    if message.kind != Kind.REQUEST:
        return HttpResponse(
            status=message.status,
            reason=(line[2] or None) if line else None,
            version=version,
            headers=headers,
            trailers=trailers,
            server=first(headers, "server"),
            location=first(headers, "location"),
            content_type=first(headers, "content-type"),
            content_encoding=first(headers, "content-encoding"),
            body=shown.text,
            body_encoding=shown.encoding,
            body_size=shown.size,
            notes=shown.notes,
        )
    target = split_target(message.verb, sent_target(message, start))
    return HttpRequest(
        method=message.verb,
        path=target.path,
        query=target.query,
        url=target.url,
        host=target.host or first(headers, "host"),
        version=version,
        headers=headers,
        trailers=trailers,
        user_agent=first(headers, "user-agent"),
        content_type=first(headers, "content-type"),
        content_encoding=first(headers, "content-encoding"),
        body=shown.text,
        body_encoding=shown.encoding,
        body_size=shown.size,
        notes=shown.notes,
    )


def sent_target(message: Message, start: str) -> str:
    """The target, as it stands in the head: what a row shows of it may say more, or less."""
    if message.target in start:
        return message.target
    sent = start.rstrip(" \t\r").partition(" ")[2].strip(" \t")
    return _VERSION.sub("", sent)[: limits.TARGET]


def parse_headers(section: str) -> Headers:
    """Header lines as (name in lower case, value); continued lines joined, lines without colon left out.

    >>> parse_headers("Host: a\\r\\nX: 1\\r\\n  2\\r\\n\\r\\n")
    [('host', 'a'), ('x', '1 2')]
    """
    headers: Headers = []
    folds: list[str] = []
    for raw in section.split("\n"):
        line = raw.removesuffix("\r")
        if not line:
            break
        if line[0] in " \t":
            folds.append(line.strip(" \t"))
            continue
        _join(headers, folds)
        name, colon, value = line.partition(":")
        if colon:
            headers.append((name.rstrip(" \t").lower(), value.strip(" \t")))
    _join(headers, folds)
    return headers


def _join(headers: Headers, folds: list[str]) -> None:
    if folds and headers:
        name, value = headers.pop()
        headers.append((name, " ".join((value, *folds)).strip()))
    folds.clear()


def first(headers: Headers, name: str) -> str | None:
    """The value of the first header of that name."""
    for key, value in headers:
        if key == name:
            return value
    return None


def codings(headers: Headers, name: str) -> list[str]:
    """The members of a list header, over all its lines."""
    return [
        part.strip(" \t").lower()
        for key, value in headers
        if key == name
        for part in value.split(",")
    ]


def split_target(method: str, target: str) -> Target:
    """A path, an absolute URL (to proxies), an authority (CONNECT) or ``*`` (OPTIONS).

    >>> split_target("GET", "http://a:81/b?c")
    Target(path='/b', query='?c', url='http://a:81/b?c', host='a:81')
    """
    if target.startswith("/") or target == "*":
        path, mark, query = target.partition("?")
        return Target(path, mark + query if mark else None, None, None)
    if method == "CONNECT":
        return Target("", None, target, target)
    try:
        parts = urlsplit(target)
    except ValueError:
        return Target(target, None, target, None)
    host = parts.netloc.rpartition("@")[2]
    return Target(parts.path, "?" + parts.query if parts.query else None, target, host or None)


def show_body(message: Message, headers: Headers, extra: Rest) -> Shown:
    """Undo the codings, find out whether it is text, collect the notes."""
    notes = list(message.notes)
    if not message.body:
        return Shown("", None, extra.body_size, notes)
    applied = codings(headers, "content-encoding") + codings(headers, "transfer-encoding")
    unpacked = body.unpack(message.body, [c for c in applied if c != _CHUNKED])
    cut = message.truncated or bool(unpacked.notes)
    kind = first(headers, "content-type") or ""
    still_packed = unpacked.notes and unpacked.data is message.body
    shown = body.text(unpacked.data, "application/octet-stream" if still_packed else kind, cut)
    notes += [*unpacked.notes, *shown.notes]
    return Shown(shown.text, shown.encoding or None, extra.body_size, notes)
