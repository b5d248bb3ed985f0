"""What the parts name: the states of a lane, the notes on a message, and what `details` needs beside head and body.

Beside this file lies ``states.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from typing import Any, Final

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


class Call:
    """What `details` needs of one side of a call, or of one message of it, beside head and body."""

    __slots__ = (
        "body_there", "coding", "content", "flag", "length", "messages", "number", "packed", "server", "streamed",
        "target", "trailers", "web",
    )  # fmt: skip

    def __init__(self, target: str, server: bool) -> None:
        self.begin(target, server)

    def begin(self, target: str, server: bool) -> None:
        """Nothing is known of it but that."""
        self.target = target  # of the call: whose messages these are
        self.server = server  # who sent it
        self.messages = 0  # that came whole
        self.content = 0  # bytes of these, as sent
        self.packed = 0  # how many of them are compressed
        self.number = 0  # of a message that is shown by itself, from 1; 0 is the call
        self.length = 0  # bytes of the message that is in the body, as sent
        self.flag = 0  # its first byte: 1 is compressed
        self.streamed = False  # the messages of this side are shown by themselves
        self.coding = ""  # grpc-encoding, where the head is not at hand
        self.trailers = b""
        self.body_there = False  # there is a message in the body, which may be empty
        self.web = False  # grpc-web

    def __reduce__(self) -> tuple[Any, ...]:  # entries cross from workers
        return restored, (
            self.target, self.server, self.messages, self.content, self.packed, self.number, self.length, self.flag,
            self.streamed, self.coding, self.trailers, self.body_there, self.web,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and self.__reduce__() == other.__reduce__()


def call_of(target: str, server: bool) -> Call:
    """A new one: what a constructor would do, without the call by name of an ``__init__``."""
    call = Call.__new__(Call)
    call.begin(target, server)
    return call


def trailers_of(extra: Any) -> bytes:
    """The trailers that came with a message of what carries a call: HTTP/2 gives them as they are."""
    return extra if type(extra) is bytes else getattr(extra, "trailers", b"")


def restored(target: str, server: bool, *rest: Any) -> Call:
    """One that crossed a process."""
    call = Call(target, server)
    (
        call.messages, call.content, call.packed, call.number, call.length, call.flag,
        call.streamed, call.coding, call.trailers, call.body_there, call.web,
    ) = rest  # fmt: skip
    return call
