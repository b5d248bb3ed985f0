"""What rides in the exchanges of HTTP/1 (grpc-web): asked for by the content type of a POST, fed with the bodies.

A body goes to its layer instead of being kept. Sizes still add up: messages of a layer take the bytes of its own with
those before them (the head, chunk lines), and the request or response has what is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kshark.api import Item, Kind, Layer, Message, Side
from kshark.feeder import Found
from kshark.protocols.http.lane import Lane, type_line

if TYPE_CHECKING:
    from kshark.protocols.http.dissector import HttpDissector

REQUEST = int(Kind.REQUEST)
ONEWAY = int(Kind.ONEWAY)
SIDES = (Side.CLIENT, Side.SERVER)
Out = Found | list[Item]


def layer_of(dissector: HttpDissector, verb: str, target: str, raw: bytes) -> Layer | None:
    """The layer of an exchange, by its request's head; or by its answer's, where that alone was seen."""
    line = type_line(raw)
    if dissector.layers is None or not line:
        return None
    request = Message(REQUEST, verb, target, head=raw)
    request.first_ns = dissector.now
    layer = dissector.layers(line.partition(b":")[2].strip().decode("latin-1"), request)
    if layer is None:
        dissector.plain = line
    return layer


def hand_on(dissector: HttpDissector, lane: Lane, data: bytes, out: Out) -> None:
    """Content of a layer, which may hold it."""
    size = len(data)
    lane.size += size
    lane.body_size += size
    lane.kept += size  # nothing is missing
    lane.fed += size
    lane.layer.now = dissector.now
    give(dissector, lane, lane.layer.feed(SIDES[lane.answer], data), out)


def miss(dissector: HttpDissector, lane: Lane, missing: int, out: Out) -> None:
    """A hole within the content of a layer; -1: nobody knows how long."""
    lane.kept = lane.body_size
    lane.layer.now = dissector.now
    give(dissector, lane, lane.layer.gap(SIDES[lane.answer], missing), out)


def give(dissector: HttpDissector, lane: Lane, found: Iterable[Message], out: Out) -> None:
    """Messages of a layer, while its exchange goes on: their bytes are not the exchange's own."""
    for made in found:
        sender = lane
        if made.side >= 0:
            sender = dissector.server if made.side else dissector.client
        own = made.size
        made.size += max(0, sender.size - sender.fed)
        sender.fed = sender.size = max(0, sender.fed - own)
        sender.gap = max(0, sender.gap - made.gap_bytes)
        made.side = int(sender.answer)
        out.append(made)


def end_layer(dissector: HttpDissector, lane: Lane, message: Message, out: Out) -> None:
    """A request or response of a layer is over: give what it makes of it."""
    layer, lane.layer = lane.layer, None
    layer.now = dissector.now
    for made in layer.end(SIDES[lane.answer], message):
        if made.kind == ONEWAY:
            message.size -= made.size
            message.gap_bytes -= made.gap_bytes
            made.side = int(lane.answer)
        out.append(made)
