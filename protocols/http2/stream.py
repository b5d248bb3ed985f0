"""A stream of HTTP/2 and its two halves: the request and the response under construction.

Beside this file lies ``stream.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from kshark import limits, made
from kshark.api import Kind, Message
from kshark.feeder import Rider
from kshark.protocols.http2.states import LONG_TARGET, LOSSY, RESET, Rest, names

RESPONSE = int(Kind.RESPONSE)
BODY_KEPT = limits.BODY_KEPT
TARGET = limits.TARGET
PIECES = 256
"""Parts of a body that are joined at once: objects have a cost of their own, and frames may be tiny."""


class Half:
    """The request or the response of a stream, as far as it came."""

    __slots__ = (
        "body_size",
        "broken",
        "error",
        "fed",
        "first_ns",
        "flags",
        "gap",
        "given",
        "head",
        "headed",
        "hole",
        "interim",
        "kept",
        "kind",
        "last_ns",
        "layer",
        "missed",
        "pieces",
        "size",
        "status",
        "target",
        "told",
        "trailers",
        "verb",
    )

    def begin(self, kind: int, first_ns: int) -> None:
        """It is new."""
        self.kind = kind
        self.first_ns = first_ns
        self.last_ns = 0
        self.verb = self.target = ""
        self.status = 0
        self.head = b""
        self.trailers = b""
        self.headed = False  # its headers came
        self.pieces: list[bytes] | None = None  # of the body
        self.kept = 0  # bytes of these
        self.body_size = 0
        self.size = 0  # bytes of its frames
        self.flags = 0
        self.gap = 0  # bytes of the body that were lost
        self.broken = False  # its end was not seen
        self.error = False  # the stream ended otherwise; `verb` and `target` say how
        self.missed = False  # bytes of its side were lost, and nothing of it has come since
        self.interim: tuple[str, ...] = ()
        self.layer: Rider | None = None  # who has its content, and holds `kept` bytes of it
        self.fed = 0  # bytes of it that are in no message yet
        self.hole = False  # bytes of it may be lost, which that does not know yet
        self.given = False  # it was given with its head; what comes is in a tunnel
        self.told: Message | None = None  # as its layer was asked for: the same is given in the end

    def keep(self, piece: bytes) -> None:
        """A part of the body that is kept."""
        self.kept += len(piece)
        if self.pieces is None:
            self.pieces = [piece]
            return
        if len(self.pieces) == PIECES:
            self.pieces[:] = [b"".join(self.pieces)]
        self.pieces.append(piece)

    def held(self) -> int:
        """Bytes of it that are kept."""
        return self.kept + len(self.head) + len(self.trailers)

    def body(self) -> bytes:
        """What is kept of it."""
        if self.pieces is None:
            return b""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    def asked(self, key: int) -> Message:
        """The message as it is now, which a layer is asked for with: `message` completes it."""
        message = self.told = self.message(key)
        return message

    def message(self, key: int) -> Message:
        """The message, complete or broken off."""
        if self.told is not None:
            return self.completed(self.told)
        target = self.target
        if len(target) > TARGET:
            target = target[:TARGET]
            self.flags |= LONG_TARGET
        message = made.message(
            self.kind,
            self.verb,
            target,
            self.status,
            self.status < 400 and not self.error,
            key,
            self.size,
            self.head,
            self.body(),
        )
        message.first_ns = self.first_ns
        return self.finished(message)

    def completed(self, message: Message) -> Message:
        """What has come since it was told. Its layer has the content, and the rest of a head does not change."""
        self.told = None
        message.size = self.size
        if self.error:
            message.ok = False
        if self.layer is None:
            message.body = self.body()
        return self.finished(message)

    def finished(self, message: Message) -> Message:
        """Say what is not as usual."""
        if self.last_ns:
            message.last_ns = self.last_ns
        if (
            self.flags or self.gap or self.broken or self.interim
            or (self.body_size != self.kept and self.layer is None) or self.trailers
        ):  # fmt: skip
            self.mark(message)
        return message

    def mark(self, message: Message) -> None:
        """Say what is odd about a message."""
        if self.flags or self.interim:
            message.notes = names(self.flags) + self.interim
        message.gap_bytes = self.gap
        partial = self.body_size != self.kept and self.layer is None
        if partial or (self.trailers and self.layer is None):
            message.extra = Rest(self.body_size, self.trailers)
        elif self.trailers:
            message.extra = self.trailers  # for its layer
        unsure = self.kind == RESPONSE and self.status == 0 and not self.error
        message.cut = self.broken or unsure  # whether it is a failure is not known
        short = self.headed and self.flags & RESET != 0
        message.truncated = partial or message.cut or short or self.flags & LOSSY != 0


def half_of(kind: int, first_ns: int) -> Half:
    """A new one: what a constructor would do, without the call by name of an ``__init__``."""
    half = Half.__new__(Half)
    half.begin(kind, first_ns)
    return half


class Stream:
    """What is known of a stream."""

    __slots__ = ("answer", "asked", "layer", "lossy", "number", "ready", "told", "tunnel")

    def begin(self, number: int) -> None:
        """It is new."""
        self.number = number
        self.asked: Half | None = None  # the request, while it is not complete
        self.answer: Half | None = None  # the response, likewise
        self.layer: Rider | None = None  # what rides in this exchange
        self.told = False  # its content type is known, or not to be known
        self.lossy = False  # bytes of the answer may be lost already
        self.tunnel = False  # its layer has all that follows the heads (RFC 8441)
        self.ready = False  # the response is complete and waits for the end of the request


def stream_of(number: int) -> Stream:
    """A new one, likewise."""
    stream = Stream.__new__(Stream)
    stream.begin(number)
    return stream
