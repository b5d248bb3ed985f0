"""Tunnels in a stream (CONNECT with ``:protocol``, RFC 8441): the heads are messages as they come, then all is content.

A layer is told each head by `end`, the content that follows by `feed`, and that a side is over by `over`: it has
ended the stream, or anybody has reset it, or the flow ends. Bytes that no message takes count for the headers that
follow on the connection. A tunnel for which there is no layer is an exchange like others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kshark.api import Item, Kind, Message, Side
from kshark.feeder import Found
from kshark.protocols._fields import value_of

if TYPE_CHECKING:
    from kshark.protocols.http2.lane import Lane
    from kshark.protocols.http2.stream import Half, Stream
    from kshark.protocols.http2.streams import Streams

Out = Found | list[Item]


def protocol_of(head: bytes) -> str:
    """What an extended CONNECT asks for, "" for a plain one."""
    value = value_of(head, b":protocol")
    return "" if value is None else value.decode("latin-1")


def establish(streams: Streams, stream: Stream, lane: Lane, half: Half, out: Out) -> None:
    """The head of a side has come, and is all of its message; unless the server refuses, or nobody knows."""
    layer = half.layer
    if lane.server and not 200 <= half.status < 300:
        refused(streams, stream, half, out)
        return
    if layer is None:
        return
    message = half.message(stream.number)
    half.given = True
    lane.kept -= half.held()
    half.head = half.trailers = b""
    half.size = half.flags = half.fed = half.kept = half.gap = 0
    side = Side.SERVER if lane.server else Side.CLIENT
    layer.now = streams.now
    for one in layer.end(side, message):
        if one.kind == Kind.ONEWAY:
            streams.take_given((one,), stream.number, side, out)
        else:
            streams.append(one, side, out)
    if not lane.server and stream.number > streams.handled:
        streams.unheeded(stream.number, out)


def refused(streams: Streams, stream: Stream, half: Half, out: Out) -> None:
    """There is no tunnel: the answer is an ordinary one, and nobody waits for what the client still says."""
    stream.tunnel = False
    stream.layer = half.layer = None
    asked, stream.asked = stream.asked, None
    if asked is not None:
        streams.retire(stream.number)
        streams.give(streams.client, asked, stream.number, out)


def leave(streams: Streams, lane: Lane, half: Half, out: Out) -> None:
    """A side of a tunnel is over: what its layer still has."""
    layer, half.layer = half.layer, None
    if layer is not None:
        side = Side.SERVER if lane.server else Side.CLIENT
        layer.now = streams.now
        for message in last_of(layer.gap(side, -1) if half.hole else (), layer.over(side)):
            streams.charge(lane, half, message)
            streams.append(message, side, out)
    half.hole = False
    lane.size += half.size
    lane.kept -= half.held()
    half.size = half.kept = 0
    half.trailers = b""


def last_of(*parts: Iterable[Message]) -> Iterable[Message]:
    """One after the other."""
    for part in parts:
        yield from part
