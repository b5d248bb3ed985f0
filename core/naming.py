"""How a flow is named: the text of addresses, its ends, its id."""

from __future__ import annotations

import socket

from kshark import digest, limits
from kshark.api import Endpoint
from kshark.digest import hexed
from kshark.inner import InnerFlow
from kshark.wire import WireFlow

TEXTS = limits.ADDRESS_TEXTS
BYTES = tuple(map(str, range(256)))
"""Each byte of an IPv4 address as text."""


class Addresses:
    """The text of addresses; those of the last flows are kept, since nearly every flow has one of them."""

    def __init__(self) -> None:
        self.texts: dict[bytes, str] = {}

    def end(self, raw: bytes, port: int) -> Endpoint:
        """One end of a flow."""
        text = self.texts.get(raw)
        if text is None:
            if len(self.texts) >= TEXTS:
                self.texts.clear()
            text = self.texts[raw] = address(raw)
        return Endpoint(text, port)


def address(raw: bytes) -> str:
    if len(raw) == 4:
        return f"{BYTES[raw[0]]}.{BYTES[raw[1]]}.{BYTES[raw[2]]}.{BYTES[raw[3]]}"
    return socket.inet_ntop(socket.AF_INET6, raw)


def identity(flow: WireFlow) -> str:
    """16 hex digits, the same in every replay: addresses, ports, protocol, first packet's time."""
    if isinstance(flow, InnerFlow):
        ports = b"%d|%d" % (flow.client_port, flow.server_port)
        rest = b"%d|%d|%d" % (flow.proto, flow.first_ns, flow.depth)
        return hexed(b"|".join((flow.client, flow.server, ports, rest)))
    return digest.flow_id(
        flow.client, flow.server, flow.client_port, flow.server_port, flow.proto, flow.first_ns
    )
