"""WebSocket in a stream of HTTP/2 (RFC 8441): the same frames, as the content of a CONNECT and of its answer.

What the two agreed on is in the answer, so nothing is read before that. What a client says sooner waits for it,
BODY_KEPT of it at most; of a server whose answer was lost nothing is read at all. A side that breaks RFC 6455 ends
what is read of its stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kshark import limits
from kshark.api import DissectError, Kind, Message, Side
from kshark.feeder import Found, Rider, before
from kshark.protocols._fields import value_of
from kshark.protocols.websocket.lane import Lane
from kshark.protocols.websocket.negotiated import PROTOCOL, negotiated
from kshark.protocols.websocket.states import OVER

NONE: Sequence[Message] = ()


def layer(request: Message) -> WebSocketLayer | None:
    """What reads a stream, if its request asks for a WebSocket."""
    if request.verb != "CONNECT" or value_of(request.head, b":protocol") != PROTOCOL.encode():
        return None
    return WebSocketLayer(request)


class WebSocketLayer(Rider):
    """The layer of one stream; see the module."""

    __slots__ = ("agreed", "early", "lanes", "lost", "request")

    def __init__(self, request: Message) -> None:
        self.now = 0
        self.request = request
        self.lanes = (Lane(True), Lane(False))
        self.agreed = False  # the answer came
        self.early = b""  # what the client said before
        self.lost = False  # ... or is not kept

    def feed(self, side: int, data: bytes) -> Iterable[Message]:
        """The next bytes of one side."""
        if not self.agreed:
            self.hold(side, data)
            return NONE
        if side == Side.CLIENT and self.early:
            data, self.early = self.early + data, b""
        lane = self.lanes[side]
        lane.now = self.now
        found = Found()
        try:
            lane.take(data, found)
        except DissectError as error:
            return before([*self.own(found)], error)  # type: ignore[return-value]  # there are messages only
        return self.own(found)

    def hold(self, side: int, data: bytes) -> None:
        """Bytes before the answer."""
        if side != Side.CLIENT or self.lost:
            return
        if len(self.early) + len(data) > limits.BODY_KEPT:
            self.forget()
        else:
            self.early += data

    def forget(self) -> None:
        """What the client said before the answer is not kept."""
        self.early = b""
        self.lost = True

    def gap(self, side: int, missing: int) -> Sequence[Message]:
        """Bytes are lost: within a payload they are counted, else the next frames are searched for."""
        lane = self.lanes[side]
        if not self.agreed and side == Side.CLIENT:
            self.forget()
        if not self.agreed or lane.state == OVER:
            return NONE
        lane.now = self.now
        found = Found()
        lane.gap(max(missing, 0), found)
        return self.own(found)

    def end(self, side: int, message: Message) -> Sequence[Message]:
        """The request, or its answer, as it is: a tunnel begins with a good one."""
        if side == Side.SERVER and message.kind == Kind.RESPONSE and 200 <= message.status < 300:
            terms = negotiated((self.request, message))
            for lane in self.lanes:
                lane.agree(terms)
            self.agreed = True
            if self.lost:
                self.lanes[Side.CLIENT].gap(0, Found())
        return (message,)

    def over(self, side: int) -> Sequence[Message]:
        """A side is over: what is under way is cut."""
        if not self.agreed:
            return NONE
        early = [*self.feed(side, b"")] if side == Side.CLIENT and self.early else []
        found = Found()
        self.lanes[side].now = self.now
        self.lanes[side].close(found)
        return [*early, *self.own(found)]

    def slim(self, side: int) -> None:
        """Memory is short: keep nothing of the message under way."""
        if self.early and side == Side.CLIENT:
            self.forget()
        self.lanes[side].slim()

    def own(self, found: Found) -> list[Message]:
        """Messages of this stream."""
        messages = [one for one in found.drain() if isinstance(one, Message)]
        for message in messages:
            message.protocol = PROTOCOL
            message.key = self.request.key
        return messages
