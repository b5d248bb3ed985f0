"""The typed schema of WebSocket messages, made when somebody asks."""

from __future__ import annotations

from typing import Annotated

from kshark.api import Details, Message, Redact, doc
from kshark.protocols import _body as body
from kshark.protocols.websocket.frames import CODES
from kshark.protocols.websocket.inflate import BAD, LOST, inflate
from kshark.protocols.websocket.lane import Rest


class WebSocketMessage(Details):
    """A WebSocket message, or a control frame; of either side."""

    type: Annotated[str, doc("text, binary, ping, pong or close")] = ""
    path: Annotated[
        str | None, doc("Target of the upgrade, where that was seen", redact=Redact.URL)
    ] = None
    stream: Annotated[int | None, doc("Stream of HTTP/2 that carries it (RFC 8441)")] = None
    subprotocol: Annotated[str | None, doc("What the server chose of Sec-WebSocket-Protocol")] = (
        None
    )
    frames: Annotated[int, doc("Frames of the message: more than one are its fragments")] = 1
    compressed: Annotated[
        bool, doc("It was sent by permessage-deflate; `body` is inflated, if it can be")
    ] = False
    payload_size: Annotated[int, doc("Bytes of the payload as sent, without heads of frames")] = 0
    body: Annotated[
        str, doc("The content: text, or base64 (see body_encoding); capped", redact=Redact.BODY)
    ] = ""
    body_encoding: Annotated[str | None, doc("base64 where the body is not text")] = None
    close_code: Annotated[int | None, doc("Code of a close; 1000 and 1001 are no errors")] = None
    close_name: Annotated[str | None, doc("What the code means, where RFC 6455 or IANA says")] = (
        None
    )
    close_reason: Annotated[
        str | None, doc("Text of a close, as the sender gives it", redact=Redact.BODY)
    ] = None
    notes: Annotated[list[str], doc("What is odd or was cut, by name")] = []


def details(message: Message) -> WebSocketMessage:
    """The typed details of a message."""
    rest = message.extra
    if not isinstance(rest, Rest):
        rest = Rest(1, len(message.body), False, False, "", message.target)
    found = WebSocketMessage(
        type=message.verb,
        path=rest.path or None,
        stream=message.key or None,
        subprotocol=rest.subprotocol or None,
        frames=rest.frames,
        compressed=rest.packed,
        payload_size=rest.payload,
        notes=list(message.notes),
    )
    if message.verb == "close":
        closed(found, message.body)
    elif message.body:
        show(found, message, rest)
    return found


def closed(found: WebSocketMessage, data: bytes) -> None:
    """Code and reason of a close."""
    if len(data) < 2:
        return
    found.close_code = int.from_bytes(data[:2], "big")
    found.close_name = CODES.get(found.close_code)
    found.close_reason = data[2:].decode("utf-8", "replace") or None


def show(found: WebSocketMessage, message: Message, rest: Rest) -> None:
    """The content as text, or as base64."""
    data, cut = message.body, message.truncated
    if rest.packed and not rest.unpacked:
        data, fault = inflate(data)
        if fault:
            cut = True
            found.notes.append(BAD if fault == LOST else fault)
    kind = "text/plain" if message.verb == "text" else ""
    shown = body.text(data, kind, cut)
    found.body, found.body_encoding = shown.text, shown.encoding or None
    found.notes += shown.notes
