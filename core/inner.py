"""A flow within another one's bytes, as its guard sees it: TLS's plaintext between the same two ends."""

from __future__ import annotations

from collections.abc import Sequence

from kshark.api import Packet
from kshark.wire import WireFlow


class InnerFlow:
    """A `kshark.wire.WireFlow` without packets of its own: the outer flow counts these."""

    def __init__(
        self, outer: WireFlow, flip: bool, carrier: str, now: int, server_name: str
    ) -> None:
        self.outer = outer
        self.server_name = server_name
        self.carrier = carrier  # the protocol around it
        self.depth: int = outer.depth + 1 if isinstance(outer, InnerFlow) else 1
        self.proto = outer.proto
        ends = [(outer.client, outer.client_port), (outer.server, outer.server_port)]
        (self.client, self.client_port), (self.server, self.server_port) = ends[
            :: -1 if flip else 1
        ]
        self.first_ns = self.last_ns = now
        self.began_ns: int = outer.began_ns if isinstance(outer, InnerFlow) else outer.first_ns
        self.midstream = outer.midstream
        self.refused = False
        self.established = True
        self.iface = outer.iface
        self.size = [0, 0]

    def packets(self, side: int) -> int:
        return 0

    def bytes(self, side: int) -> int:
        return self.size[side]

    def first_at(self, side: int) -> int:
        return self.first_ns

    def take_packets(self) -> Sequence[Packet]:
        return self.outer.take_packets()
