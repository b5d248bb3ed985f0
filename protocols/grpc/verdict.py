"""How a call ended: its status, and where that is said.

Beside this file lies ``verdict.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from typing import Final

from kshark import made as made  # who declares a Message imports this first
from kshark.api import Message
from kshark.protocols import _body
from kshark.protocols.grpc import status
from kshark.protocols.grpc.headers import status_in, timeout_of, unknowns, value_in
from kshark.protocols.grpc.states import Call

DOUBTS: Final = frozenset(
    {"lost-bytes", "unknown-headers", "long-headers", "bad-headers", "given-up", "lost-messages"}
)
"""Notes on a response whose status may have been in what is missing."""


def judge(message: Message, call: Call, asked: bytes, took: int) -> None:
    """Give a response the status of its call. `asked` is the head of the request, `took` ns since that."""
    said = status_in(call.trailers) or status_in(message.head)
    if said == b"0":
        message.status = 0
        message.ok = True
        message.verb = "OK"
    elif said is not None:
        text = value_in(call.trailers, b"grpc-message") or value_in(message.head, b"grpc-message")
        settle(message, status.code_of(said), status.text_of(text or b""))
    else:
        unsaid(message, call, asked, took)


def settle(message: Message, code: int, text: str) -> None:
    """A status, and what is said of it."""
    message.status = code
    message.ok = code == status.OK
    message.verb = status.name(code)
    message.target = "" if message.ok else f"{message.verb}: {text}" if text else message.verb
    message.cut = False  # how it ended is known


def unsaid(message: Message, call: Call, asked: bytes, took: int) -> None:
    """No status came, or none that can be known."""
    notes = message.notes
    if message.verb in ("RST_STREAM", "GOAWAY"):
        error, by = message.target, message.verb
        code = status.OF_ERROR.get(error, status.UNKNOWN)
        message.notes = (*notes, "stream-error")
        if code == status.CANCELLED and late(asked, took) and "reset-by-client" in notes:
            message.notes = (*message.notes, "deadline-passed")
        settle(message, code, f"{by} {error}")
    elif unpacked(call, message) and (said := status_in(call.trailers)):
        text = value_in(call.trailers, b"grpc-message") or b""
        settle(message, status.code_of(said), status.text_of(text))
    elif (
        message.cut
        or DOUBTS.intersection(notes)
        or unknowns(message.head)
        or unknowns(call.trailers)
    ):
        message.notes = (*notes, "unknown-status")
        message.status = 0
        message.cut = True
    elif message.status != 200:
        message.notes = (*notes, "http-status")
        code = status.OF_HTTP.get(message.status, status.UNKNOWN)
        settle(message, code, f"HTTP {message.status}")
    else:
        message.notes = (*notes, "no-status")
        settle(message, status.UNKNOWN, "no status")


def late(asked: bytes, took: int) -> bool:
    """Whether the deadline of a request had passed."""
    timeout = value_in(asked, b"grpc-timeout")
    limit = timeout_of(timeout.decode("latin-1")) if timeout is not None else None
    return limit is not None and took >= limit


def unpacked(call: Call, message: Message) -> bool:
    """Trailers of grpc-web that are compressed, undone; whether there were such."""
    coding = value_in(message.head, b"grpc-encoding")
    if not call.web or not call.trailers or coding is None:
        return False
    found = _body.unpack(call.trailers, [coding.decode("latin-1")])
    if found.notes:
        return False
    call.trailers = found.data
    return True
