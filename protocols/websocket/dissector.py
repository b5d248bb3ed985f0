"""WebSocket (RFC 6455): a message, or a control frame, is a one-way message of its side.

Invariants: any split of the stream gives equal messages; sizes add up to it; nothing is inflated on a guess. A frame
that breaks RFC 6455 raises `DissectError`, after which that side searches for the next chain of frames.
Held at most a side: half a head, WS_SEARCHED bytes in search, BODY_KEPT of the message under way, and a window
(`kshark.protocols.websocket.inflate`).
"""

from __future__ import annotations

from kshark.api import Item, Message, Side, Switch
from kshark.feeder import Feeder, Found
from kshark.protocols.websocket.lane import Lane
from kshark.protocols.websocket.negotiated import negotiated
from kshark.protocols.websocket.states import PAYLOAD


class WebSocketDissector(Feeder):
    """The dissector of one connection, after its upgrade."""

    __slots__ = ("lanes",)

    def __init__(self) -> None:
        self.lanes = (Lane(True), Lane(False))

    def switched(self, switch: Switch) -> None:
        """What handed the flow over: its context has the upgrade."""
        terms = negotiated(switch.context)
        for lane in self.lanes:
            lane.agree(terms)

    def take(self, side: int, data: bytes, found: Found) -> None:
        """Put the messages that `data` completes into `found`."""
        self.lanes[side].take(data, found)

    def gap(self, side: Side, missing: int) -> list[Item]:
        """Count the hole where it lies in a payload; else cut the message and search for the next."""
        found = Found()
        self.lanes[side].gap(missing, found)
        return found.drain()

    def close(self) -> list[Item]:
        """What is under way is cut."""
        every: list[Item] = []
        for side, lane in enumerate(self.lanes):
            found = Found()
            lane.close(found)
            messages = found.drain()
            for message in messages:
                if isinstance(message, Message):
                    message.side = side
            every += messages
        return every

    def inside(self, side: Side) -> bool:
        """Whether that side is within the payload of a frame."""
        return self.lanes[side].state == PAYLOAD

    def slim(self) -> int:
        """Forget the bodies under way; the bytes that are still held."""
        return self.lanes[0].slim() + self.lanes[1].slim()
