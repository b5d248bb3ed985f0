"""The typed schema of calls and their messages, made from what the layer kept when somebody asks.

Nothing here runs while a capture is dissected. A call whose head cannot be known shows what can: no service is
guessed. Bodies are JSON text by field names where a schema is at hand (see `schemas`), so that their secrets are
found by name; without one, a field has a number and no name, and nothing in it is known to be secret.
"""

from __future__ import annotations

from typing import Annotated, Final

from kshark.api import Details, Kind, Message, Redact, doc
from kshark.protocols.grpc import bodies, status
from kshark.protocols.grpc.headers import Metadata, binary, timeout_of
from kshark.protocols.grpc.schema import Method, Pool
from kshark.protocols.grpc.states import Call, trailers_of

Pairs = list[tuple[str, str]]


class GrpcRequest(Details):
    """A call as it was asked for, or one message of a stream."""

    system: Annotated[str, doc("grpc", otel="rpc.system")] = "grpc"
    service: Annotated[
        str, doc("Full name of the service; empty where it cannot be known", otel="rpc.service")
    ] = ""
    method: Annotated[str, doc("Method of the service", otel="rpc.method")] = ""
    stream: Annotated[int, doc("HTTP/2 stream of the call")] = 0
    number: Annotated[
        int,
        doc(
            "Of a message of a stream: its number on its side, from 1; 0 is the call",
            otel="rpc.message.id",
        ),
    ] = 0
    sender: Annotated[str, doc("Of a message of a stream: who sent it, client or server")] = ""
    streamed: Annotated[bool, doc("The client's messages are entries of their own")] = False
    messages: Annotated[int, doc("Messages that the client sent whole")] = 0
    content_size: Annotated[
        int, doc("Bytes of these as sent, framing not counted", otel="rpc.message.compressed_size")
    ] = 0
    compressed: Annotated[int, doc("How many of them are compressed")] = 0
    encoding: Annotated[str | None, doc("`grpc-encoding`: how messages are compressed")] = None
    accept_encoding: Annotated[str | None, doc("`grpc-accept-encoding`")] = None
    deadline_ns: Annotated[
        int | None, doc("`grpc-timeout` in ns: how long the client will wait")
    ] = None
    content_type: Annotated[str | None, doc("application/grpc, or one that begins so")] = None
    authority: Annotated[
        str | None, doc("Whom the call is for", otel="server.address", redact=Redact.URL)
    ] = None
    user_agent: Annotated[
        str | None, doc("What client software this is", otel="user_agent.original")
    ] = None
    metadata: Annotated[
        Pairs,
        doc(
            "Headers of the call, in order", otel="rpc.grpc.request.metadata", redact=Redact.HEADERS
        ),
    ] = []
    unknown_headers: Annotated[
        int, doc("Headers whose name or value cannot be known (joined in mid-stream, bytes lost)")
    ] = 0
    body: Annotated[
        str,
        doc(
            "The message: JSON by its schema or reading, else base64 (see reading)",
            redact=Redact.BODY,
        ),
    ] = ""
    reading: Annotated[
        str,
        doc(
            "How body was read: a type's name; json; base64; or guess: without schema, each field says its reading"
        ),
    ] = ""
    body_size: Annotated[int, doc("Bytes of that message as sent")] = 0
    notes: Annotated[list[str], doc("What is odd or was cut, by name")] = []


class GrpcResponse(Details):
    """How a call was answered, and how it ended."""

    status: Annotated[
        int | None, doc("`grpc-status`; null where it cannot be known", otel="rpc.grpc.status_code")
    ] = None
    status_name: Annotated[str, doc("Its name: OK, NOT_FOUND", otel="rpc.response.status_code")] = (
        ""
    )
    message: Annotated[str, doc("`grpc-message`, or what stands for it", redact=Redact.BODY)] = ""
    status_from: Annotated[
        str,
        doc(
            "Where the status was said: trailers, headers (trailers-only), http, stream (RST_STREAM, GOAWAY), none"
        ),
    ] = ""
    error_details: Annotated[
        str, doc("`grpc-status-details-bin`: details of the error, as JSON", redact=Redact.BODY)
    ] = ""
    http_status: Annotated[
        int, doc("`:status` where it was seen", otel="http.response.status_code")
    ] = 0
    stream: Annotated[int, doc("HTTP/2 stream of the call")] = 0
    streamed: Annotated[bool, doc("The server's messages are entries of their own")] = False
    messages: Annotated[int, doc("Messages that the server sent whole")] = 0
    content_size: Annotated[int, doc("Bytes of these as sent, framing not counted")] = 0
    compressed: Annotated[int, doc("How many of them are compressed")] = 0
    encoding: Annotated[str | None, doc("`grpc-encoding`: how messages are compressed")] = None
    content_type: Annotated[str | None, doc("application/grpc, or one that begins so")] = None
    metadata: Annotated[
        Pairs,
        doc(
            "Headers, in order; what message and error_details say is left out",
            otel="rpc.grpc.response.metadata",
            redact=Redact.HEADERS,
        ),
    ] = []
    trailers: Annotated[
        Pairs,
        doc(
            "Trailers, in order; what message and error_details say is left out",
            redact=Redact.HEADERS,
        ),
    ] = []
    unknown_headers: Annotated[
        int, doc("Headers whose name or value cannot be known (joined in mid-stream, bytes lost)")
    ] = 0
    body: Annotated[
        str,
        doc(
            "The message: JSON by its schema or reading, else base64 (see reading)",
            redact=Redact.BODY,
        ),
    ] = ""
    reading: Annotated[str, doc("How body was read, as in the request")] = ""
    body_size: Annotated[int, doc("Bytes of that message as sent")] = 0
    notes: Annotated[list[str], doc("What is odd or was cut, by name")] = []


Found = GrpcRequest | GrpcResponse
ELSEWHERE: Final = ("grpc-message", "grpc-status-details-bin")
"""Headers that have fields of their own, where their secrets are found: packed as they are here they are not."""
NO_SCHEMA = Pool()


def details(message: Message, pool: Pool = NO_SCHEMA) -> Found:
    """The typed details of a message; `pool` has the types of bodies."""
    extra = message.extra
    call = extra if isinstance(extra, Call) else Call(message.target, message.kind == Kind.RESPONSE)
    if not isinstance(extra, Call):  # of a call that was known for one by its answer alone
        call.trailers = trailers_of(extra)
    head = Metadata(message.head)
    found: Found
    if message.kind in (Kind.RESPONSE, Kind.INTERIM):
        found = response(message, call, head, pool)
    else:
        found = request(message, call, head)
    found.stream = message.key
    found.streamed = call.streamed
    found.messages = call.messages
    found.content_size = call.content
    found.compressed = call.packed
    found.encoding = head.first("grpc-encoding") or call.coding or None
    found.content_type = head.first("content-type")
    found.metadata = shown(head)
    found.notes = [*message.notes]
    found.unknown_headers += head.unknown
    show_body(message, call, pool, found)
    return found


def request(message: Message, call: Call, head: Metadata) -> GrpcRequest:
    """What only a request, or a message of a stream, has."""
    service, method = names(call.target)
    found = GrpcRequest(service=service, method=method, number=call.number)
    if call.number:
        found.sender = "server" if call.server else "client"
        return found
    timeout = head.first("grpc-timeout")
    found.deadline_ns = timeout_of(timeout) if timeout is not None else None
    found.accept_encoding = head.first("grpc-accept-encoding")
    found.authority = head.pseudo.get(":authority") or head.first("host")
    found.user_agent = head.first("user-agent")
    return found


def response(message: Message, call: Call, head: Metadata, pool: Pool) -> GrpcResponse:
    """What only a response has."""
    trailers = Metadata(call.trailers)
    found = GrpcResponse(trailers=shown(trailers), unknown_headers=trailers.unknown)
    told = head.pseudo.get(":status", "")
    if not told and message.head[:5] == b"HTTP/":
        told = message.head[9:12].decode("latin-1")
    found.http_status = int(told) if told.isdecimal() else 0
    where = "trailers" if trailers.first("grpc-status") is not None else "headers"
    said = trailers.first("grpc-status") or head.first("grpc-status")
    if said is not None:
        text = trailers.first("grpc-message") or head.first("grpc-message") or ""
        found.message = status.text_of(text.encode("latin-1", "replace"))
        found.status_from = where
    elif "stream-error" in message.notes:
        found.status_from = "stream"
        found.message = message.target.partition(": ")[2]
    elif "http-status" in message.notes:
        found.status_from = "http"
    else:
        found.status_from = "none"
    if "unknown-status" not in message.notes:
        found.status = message.status
        found.status_name = status.name(message.status)
    packed = trailers.first("grpc-status-details-bin") or head.first("grpc-status-details-bin")
    raw = binary(packed) if packed else None
    if raw:
        found.error_details = bodies.protobuf(raw, pool, "google.rpc.Status", False, []).text
    elif packed:
        found.error_details = packed
    return found


def shown(head: Metadata) -> Pairs:
    """The headers, but for those that are shown elsewhere."""
    return [pair for pair in head.pairs if pair[0] not in ELSEWHERE]


def names(target: str) -> tuple[str, str]:
    """Service and method of a path.

    >>> names("/chat.v1.Chat/Talk"), names("")
    (('chat.v1.Chat', 'Talk'), ('', ''))
    """
    service, _, method = target.lstrip("/").rpartition("/")
    return service, method


def show_body(message: Message, call: Call, pool: Pool, found: Found) -> None:
    """Read the message that is in the body."""
    if not call.body_there:
        return
    found.body_size = call.length
    media = (found.content_type or "").partition(";")[0]
    subtype = media.partition("+")[2]
    method = pool.methods.get(call.target, Method("", ""))
    kind = method.answers if call.server else method.asks
    coding = found.encoding or ""
    read = bodies.show(
        message.body, call.flag & 1 == 1, coding, subtype, pool, kind, message.truncated
    )
    if call.flag & 1 and not coding:
        found.encoding = bodies.coding_of(message.body) or None
    found.body = read.text
    found.reading = read.reading
    found.notes += read.notes
