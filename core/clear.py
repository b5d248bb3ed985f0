"""What connections carry in clear, as a backend has it beside their packets: TLS before it is encrypted.

It comes as packets of the same ends in blocks of their own (`Block.within`), with sequence numbers that begin at 1 a
side, and becomes a flow within the connection's. That lasts a moment longer than the connection: what was received
last is told when it is read. Of a connection that nobody sees, it stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING

from kshark import limits
from kshark.api import INDEX_FORMAT, Block, Packet
from kshark.inner import InnerFlow
from kshark.unknown import emit_flow
from kshark.wire import END_CAPTURE, END_EVICTED, END_IDLE, WireFlow
from kshark.wire._headers import TCP, Datagram, Decoder

if TYPE_CHECKING:
    from kshark.engine import Engine
    from kshark.flow import Guard

End = tuple[bytes, int]
Key = tuple[End, End]
HALF = 1 << 31  # of the sequence numbers
INDEX = Struct(INDEX_FORMAT)


class Unseen:
    """Stands for a connection of which no packet was seen; a `kshark.wire.WireFlow`."""

    proto = TCP
    midstream = True
    refused = False
    established = True
    iface = ""

    def __init__(self, client: End, server: End, ns: int) -> None:
        self.client, self.client_port = client
        self.server, self.server_port = server
        self.first_ns = self.last_ns = ns

    def packets(self, side: int) -> int:
        return 0

    def bytes(self, side: int) -> int:
        return 0

    def first_at(self, side: int) -> int:
        return self.first_ns

    def take_packets(self) -> Sequence[Packet]:
        return ()


class Carried:
    """One connection, and the flow within it once there is one."""

    def __init__(self, outer: Guard | None) -> None:
        self.outer = outer
        self.inner: Guard | None = None
        self.next: list[int | None] = [None, None]
        self.over = 0  # ns: when the connection ended
        self.reason = END_CAPTURE
        self.unshown = False  # it ended without an entry

    def ended(self, reason: int, ns: int, unshown: bool) -> None:
        """The connection is over."""
        self.over, self.reason, self.unshown = ns, reason, unshown

    def begin(self, engine: Engine, around: WireFlow, within: str, ns: int) -> Guard:
        """The first bytes in clear."""
        outer = self.outer
        flip = outer is not None and bool(outer.flip)
        name = outer.server_name if outer is not None else ""
        inner = engine.guarded(InnerFlow(around, flip, within, ns, name))
        inner.oriented = outer is not None and outer.oriented
        if not around.midstream:
            self.next = [1, 1]
        self.inner = inner
        return inner

    def take(self, inner: Guard, segment: Datagram, ns: int) -> None:
        """The next bytes of a side, or a later part of them."""
        wire, tally = inner.wire, inner.tally
        assert isinstance(wire, InnerFlow)
        side = int((segment.src, segment.sport) != (wire.client, wire.client_port))
        wire.last_ns = max(wire.last_ns, ns)
        expected = self.next[side]
        lost = 0 if expected is None else (segment.seq - expected) % (2 * HALF)
        if lost >= HALF:
            return  # it was told
        if lost:
            inner.gap(side, lost, ns)
        if data := bytes(segment.data[segment.begin : segment.begin + segment.length]):
            wire.size[side] += len(data)
            inner.chunk(side, data, ns)
            tally.chunks -= 1  # they are counted already, as what they are wrapped in
            tally.payload -= len(data)
        if segment.missing:
            inner.gap(side, segment.missing, ns)
        self.next[side] = (segment.seq + segment.length + segment.missing) % (2 * HALF)

    def end(self) -> None:
        """Nothing more is waited for."""
        if self.inner is not None:
            self.inner.end(self.reason, self.inner.wire.last_ns)
        elif self.unshown and self.outer is not None:
            emit_flow(self.outer, self.reason)


class Clear:
    """All of them, of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._decoder = Decoder(0)
        self._carried: dict[Key, Carried] = {}
        self._alone: dict[Key, Carried] = {}  # of connections that nobody sees
        self._ending: dict[Key, Carried] = {}
        self._looked = 0
        for guard in list(engine.guards):
            self.opened(guard)

    def feed(self, block: Block) -> None:
        """Packets of a block `within` something."""
        rows, data = memoryview(block.index).cast("B"), memoryview(block.data).cast("B")
        for ns, at, captured, size, _, _ in INDEX.iter_unpack(rows[: block.count * INDEX.size]):
            found = self._decoder.frame(bytes(data[at : at + captured]), block.linktype, size)
            if isinstance(found, Datagram) and found.proto == TCP:
                self._segment(found, ns, block.within)

    def opened(self, guard: Guard) -> None:
        """A connection is there."""
        if guard.wire.proto != TCP:
            return
        key = key_of(guard.wire)
        before = self._carried.get(key)
        if before is not None and before.outer is None:  # it is seen now
            del self._alone[key]
            before.outer, guard.clear = guard, before
            return
        if before is not None:
            self._end(key, before)
        self._carried[key] = guard.clear = Carried(guard)

    def closed(self, guard: Guard) -> None:
        """It is over."""
        carried = guard.clear
        if carried is None:
            return
        key = key_of(guard.wire)
        if carried.reason == END_EVICTED:
            self._end(key, carried)
        elif self._carried.get(key) is carried:
            self._ending[key] = carried

    def expire(self, now: int) -> None:
        """Time passes."""
        for key, carried in list(self._ending.items()):
            if now - carried.over < limits.CLOSE_LINGER:
                break
            self._end(key, carried)
        if now - self._looked < limits.SECOND:
            return
        self._looked = now
        for key, carried in list(self._alone.items()):
            if carried.inner is not None and now - carried.inner.wire.last_ns >= limits.IDLE:
                carried.reason = END_IDLE
                self._end(key, carried)

    def finish(self) -> None:
        """Nothing more comes."""
        for key, carried in list(self._carried.items()):
            self._end(key, carried)

    def _segment(self, found: Datagram, ns: int, within: str) -> None:
        source, target = (found.src, found.sport), (found.dst, found.dport)
        key = (source, target) if source < target else (target, source)
        carried = self._carried.get(key)
        if carried is None:
            if len(self._alone) >= limits.CLEAR_FLOWS:
                self._make_room()
            carried = self._carried[key] = self._alone[key] = Carried(None)
        inner = carried.inner
        if inner is None:
            outer = carried.outer
            around: WireFlow = Unseen(source, target, ns) if outer is None else outer.wire
            inner = carried.begin(self._engine, around, within, ns)
        carried.take(inner, found, ns)

    def _make_room(self) -> None:
        """The oldest of those that stand alone goes."""
        self._engine.ledger.count(self._engine.ledger.limits, "clear_flows")
        key, carried = next(iter(self._alone.items()))
        carried.reason = END_EVICTED
        self._end(key, carried)

    def _end(self, key: Key, carried: Carried) -> None:
        for table in (self._carried, self._alone, self._ending):
            if table.get(key) is carried:
                del table[key]
        carried.end()


def key_of(wire: WireFlow) -> Key:
    client, server = (wire.client, wire.client_port), (wire.server, wire.server_port)
    return (client, server) if client < server else (server, client)
