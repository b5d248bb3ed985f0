"""What the parts name: the states of a lane, the notes on a message, and what `details` needs beside head and body."""

from __future__ import annotations

from typing import Final

import msgspec

PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""

# What a lane expects next.
START = 0  # a message's first bytes
PAYLOAD = 1  # `left` bytes of it
TRAILER = 2  # the same of the trailers of grpc-web
OVER = 3  # nothing: the trailers have come
LOST = 4  # anything: bytes were lost, and where messages begin is not known
BROKEN = 5  # anything: this is no gRPC

NOTES: Final[dict[str, str]] = {
    "unknown-status": "the status cannot be known: headers were lost, or the flow was joined in mid-stream",
    "no-status": "an answer that ended without a status, which a client takes for UNKNOWN",
    "http-status": "no status, so the one that stands for this HTTP status",
    "stream-error": "no status, so the one that stands for the error of RST_STREAM or GOAWAY",
    "deadline-passed": "the client gave up when its deadline had passed",
    "unknown-call": "whose message this is cannot be known: the head of the request was lost",
    "lost-messages": "bytes of this side were lost: which messages came after is not known",
    "bad-framing": "what follows is no gRPC message; it is counted, and not shown",
    "partial-message": "the side ended within a message",
}
"""What `Message.notes` may say, beside those of what carries the call."""


class Call(msgspec.Struct, gc=False):
    """What `details` needs of one side of a call, or of one message of it, beside head and body."""

    target: str  # of the call: whose messages these are
    server: bool  # who sent it
    messages: int = 0  # that came whole
    content: int = 0  # bytes of these, as sent
    packed: int = 0  # how many of them are compressed
    number: int = 0  # of a message that is shown by itself, from 1; 0 is the call
    length: int = 0  # bytes of the message that is in the body, as sent
    flag: int = 0  # its first byte: 1 is compressed
    streamed: bool = False  # the messages of this side are shown by themselves
    coding: str = ""  # grpc-encoding, where the head is not at hand
    trailers: bytes = b""
    body_there: bool = False  # there is a message in the body, which may be empty
    web: bool = False  # grpc-web
