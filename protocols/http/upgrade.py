"""What comes after 101, or 2xx to CONNECT: the flow speaks another protocol."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kshark.api import Item, Kind, Switch
from kshark.feeder import Found
from kshark.protocols.http.head import UNASKED_UPGRADE
from kshark.protocols.http.lane import Lane, mark_client
from kshark.protocols.http.states import IS_CONNECT, IS_UPGRADE, OVER

if TYPE_CHECKING:
    from kshark.protocols.http.dissector import HttpDissector

RESPONSE = int(Kind.RESPONSE)
INTERIM = int(Kind.INTERIM)
Out = Found | list[Item]

NAMES = {"h2c": "http2"}
"""Protocols that have another name here."""
ANSWERING = ("h2c",)
"""Those in which the request that asked for them is answered: 101 is no answer to it."""
_UPGRADE = re.compile(rb"\n(?i:upgrade)[ \t]*:[ \t]*([^\0-\x20,]+)")


def hand_over(
    dissector: HttpDissector, lane: Lane, data: bytes, end: int, asks: int, out: Out
) -> int:
    """Give the response, and who has the flow now; -1, since all is taken."""
    client = dissector.client
    known = asks > 0 and asks & (IS_UPGRADE | IS_CONNECT) != 0
    name = ""
    if lane.status == 101:
        lane.kind = RESPONSE
        token = _UPGRADE.search(lane.raw)
        name = token[1].decode("latin-1").lower() if token else ""
        if asks >= 0 and not asks & IS_UPGRADE:
            lane.flags |= UNASKED_UPGRADE
    held = bytes(client.buffer)
    client.buffer = bytearray()
    start = len(out)
    dissector.cut(client, 0, out)
    mark_client(out, start)
    asked = dissector.upgrading if known else None  # which the cut may have given
    goes_on = name in ANSWERING and asked is not None
    if goes_on:
        lane.kind = INTERIM
    start = len(out)
    dissector.finish(lane, out)
    context = (asked, out[start : start + 1][0])
    after = NAMES.get(name, name)
    out.append(Switch(after, held, data[end:], context, request=asked if goes_on else None))
    lane.state = client.state = OVER
    return -1
