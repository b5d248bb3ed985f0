"""The wire in plain Python: the oracle of `kshark.wire.fast`, and what runs where there is no compiler.

Invariants: each captured packet ends in one place (``in_flows`` or one of `kshark.wire.DROPS`); an exception
of a consumer passes through and leaves everything ready for the next packet. Flow table: a dictionary with a
key for each direction.

What makes it bearable: nearly every packet is the next one of a TCP stream. Halves of which that may be true
have a second entry, in `Wire._ready`; `Wire._records` knows them by one lookup and does all in place, without
calls. Whatever the slow way or a timer does to a flow ends with `Wire._sort`, which enters or removes it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from operator import length_hint
from struct import Struct
from zlib import crc32

from kshark import limits as bounds
from kshark.api import Block, Packet
from kshark.wire import (
    COUNTERS,
    DROPS,
    END_CAPTURE,
    END_EVICTED,
    END_FIN,
    END_HALF_OPEN,
    END_IDLE,
    END_REUSED,
    END_RST,
    FLOW_COST,
    RST_WINDOW,
    Consumer,
    WireFlow,
    WireLimits,
)
from kshark.wire._dates import RECORD as _RECORD
from kshark.wire._dates import alone, date_of, dated, in_order, redated
from kshark.wire._headers import ACK, FIN, RST, SYN, TCP, Datagram, Decoded, Decoder, Fragment, tap
from kshark.wire._pieces import Pending
from kshark.wire._stream import MASK, Books, Flow, Half, deaf

_PLACES = Struct("<qII8x")  # the first half of it: time, offset, captured length
_COMMON = Struct(">12xIHHHxB2x12sIIH")  # Ethernet, IPv4 without options, TCP: bytes 12 to 47
FIELDS = 9  # of _COMMON; no mark of a packet has so many
_SPECIAL = SYN | FIN | RST | ACK
_ROW = {
    words: bytes(34 + 4 * words if flags & _SPECIAL == ACK else 0 for flags in range(256))
    for words in range(5, 16)
}
# By the 16 bits of a TCP header with its length and flags: where in such a packet its payload begins; 0 where a flag
# is special, or the length impossible.
_HEADS = tuple(b"".join(_ROW.get(bits >> 4, bytes(256)) for bits in range(256)))
Shelf = OrderedDict[Flow, None]  # flows by when they were last touched


class Wire:
    """See `kshark.wire`."""

    def __init__(
        self,
        on_flow: Callable[[WireFlow], Consumer],
        limits: WireLimits = WireLimits(),  # noqa: B008 - frozen
        dedupe: bool = True,
        keep_packets: bool = False,
    ) -> None:
        self._on_flow = on_flow
        self._limits = limits
        self._most_flows = max(1, limits.flows)
        self._dedupe = dedupe
        self._keep = keep_packets
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._books = Books(limits, self._counts)
        self._decoder = Decoder(limits.tunnels)
        self._pending = Pending(limits, self._counts)
        self._table: dict[bytes, Half] = {}
        self._ready: dict[bytes, Half] = {}  # of TCP over IPv4: nothing is special about them now
        self._active: Shelf = OrderedDict()
        self._half_open: Shelf = OrderedDict()
        self._lingering: Shelf = OrderedDict()
        self._checked = 0
        self._doubted: Block | None = None  # the last packet of a block: see `_believe`
        self._ifaces: tuple[str, ...] = ()
        self._numbers: list[int] = []

    # ------------------------------------------------------------ face

    @property
    def flows(self) -> int:
        return len(self._active) + len(self._half_open) + len(self._lingering)

    @property
    def memory(self) -> int:
        return self._books.memory + self._pending.memory

    @property
    def now(self) -> int:
        return self._books.now

    def counters(self) -> dict[str, int]:
        return dict(self._counts)

    def feed(self, block: Block) -> None:
        """Decode a block and push what it completes."""
        index = memoryview(block.index).cast("B")
        if self._doubted is not None and block.count > 0 and len(index) >= _RECORD.size:
            self._believe(self._doubted, date_of(index))
        self._take_in(block, index)

    def _take_in(self, block: Block, index: memoryview) -> None:
        data = block.data if type(block.data) is bytes else bytes(block.data)  # cheap to cut
        count = max(0, min(block.count, len(index) // _RECORD.size))
        short = max(0, block.count - count)
        self._counts["received"] += short
        self._counts["bad_record"] += short
        if block.ifaces is not self._ifaces:
            self._ifaces = block.ifaces
            self._numbers = [crc32(name.encode(), at) for at, name in enumerate(block.ifaces)]
        if count:
            try:
                self._records(index[: count * _RECORD.size], count, data, block.linktype)
            except BaseException:
                self._balance()
                raise

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        doubted = self._doubted
        if doubted is not None and now_ns >= date_of(doubted.index) - self._limits.leap:
            self._believe(doubted, now_ns)
        self._books.now = max(self._books.now, now_ns)
        self._run_timers()

    def finish(self, most: int = 0) -> bool:
        """The capture is over."""
        if self._doubted is not None:
            self._checked = date_of(self._doubted.index)  # no timer is due: it ends nothing
            self._believe(self._doubted, self._checked)
        self._pending.finish()
        while self._lingering:
            self._forget(next(iter(self._lingering)))
        for shelf in (self._half_open, self._active):
            while shelf:
                self._end(next(iter(shelf)), END_CAPTURE, self.now)
                most -= 1
                if not most:
                    return self.flows > 0
        while self._lingering:  # what was held back held a FIN
            self._forget(next(iter(self._lingering)))
        return False

    def evict(self, n: int) -> None:
        """The oldest idle flows go, those that have ended first."""
        for _ in range(min(n, self.flows)):
            flow = self._oldest()
            if flow is not None:
                self._evict(flow)

    def _oldest(self) -> Flow | None:
        """Whom to evict. Half-open flows fill at most a quarter of the table (SYN flood)."""
        if self._lingering:
            return next(iter(self._lingering))
        waiting, active = next(iter(self._half_open), None), next(iter(self._active), None)
        if waiting is None or active is None:
            return waiting or active
        flooded = len(self._half_open) * 4 > self._most_flows
        return waiting if flooded or waiting.touched < active.touched else active

    # ------------------------------------------------------------ frames

    def _records(self, index: memoryview, count: int, data: bytes, linktype: int) -> None:
        """Packets, one after another; those that are next in their stream here and now."""
        books, heads, find, common = self._books, _HEADS, self._ready.get, _COMMON.unpack_from
        size, dedupe, grain = len(data), self._dedupe, bounds.TIMER_GRAIN
        leap = self._limits.leap
        least = 54 if linktype == 1 and not self._keep else 1 << 29
        now, due, others = (
            books.now,
            self._checked + grain,
            0,
        )  # others: not placed in this function
        calm = in_order(index, now, due)
        number, numbers = self._interfaces(index, count)
        rows = _PLACES.iter_unpack(index)
        try:
            for ns, at, captured in rows:
                if calm:
                    now = books.now = ns
                elif ns > now:
                    if ns - now > leap and now:
                        others += 1
                        if self._misdated(ns, index, length_hint(rows), data, linktype):
                            if numbers is not None:
                                next(numbers)
                            continue
                        others -= 1
                    now = books.now = ns
                    if ns >= due:
                        others += 1
                        self._run_timers()
                        others -= 1
                        due = ns + grain
                if numbers is not None:
                    number = next(numbers)
                if captured < least or at + captured > size:
                    others += 1
                    self._slow(data, linktype, index, length_hint(rows))
                    continue
                fields = kind, total, _, frag, proto, key, seq, ack, flags = common(data, at)
                half = find(key)
                head, end = heads[flags], 14 + total
                if (
                    half is None or seq != half.expect or head == 0 or end < head or captured < end
                    or (ack != half.peer.expect and (half.peer.expect - ack) & MASK > MASK >> 1)
                    or proto != TCP
                    or ((kind != half.kind or frag != half.frag) and not half.plain(kind, frag))
                ):  # fmt: skip
                    others += 1
                    self._slow(data, linktype, index, length_hint(rows))
                    continue
                if dedupe:
                    if number == half.number:
                        remember = half.remember
                        remember((number, ns, fields))
                    elif self._copy(half, _mark(fields), number, ns):
                        others += 1
                        self._counts["duplicate"] += 1
                        continue
                half.packets += 1
                flow = half.flow
                if calm or ns > flow.last_ns:
                    flow.last_ns = ns
                if now >= flow.stale:
                    self._move(flow, flow.shelf)
                if head == end:
                    continue
                length = end - head
                seq += length
                half.expect = seq if seq <= MASK else seq & MASK
                half.next += length
                half.bytes += length
                half.spoke = True
                if not flow.opaque:
                    give = flow.on_chunk
                    if give(half.side, data[at + head : at + end], ns):
                        flow.shut()
                if half.waits:
                    flow.watch(half)
        finally:
            seen = count - length_hint(rows)
            self._counts["received"] += seen
            self._counts["in_flows"] += seen - others

    def _misdated(self, ns: int, index: memoryview, left: int, data: bytes, linktype: int) -> bool:
        """Whether a packet is far ahead of the time so far, and not because time has passed; if so, deal with it."""
        start = len(index) - _RECORD.size * (left + 1)
        row = index[start : start + _RECORD.size]
        if not left:
            self._doubted = alone(row, data, linktype, self._ifaces)
            self._counts["received"] -= 1  # not yet
            return True
        if date_of(index, start + _RECORD.size) >= ns - self._limits.leap:
            return False
        self._counts["misdated"] += 1
        self._slow(data, linktype, memoryview(dated(row, self.now)), 0)
        return True

    def _believe(self, doubted: Block, after: int) -> None:
        """Take the packet that was kept, now that the time of what comes after it is known."""
        self._doubted = None
        least = date_of(doubted.index) - self._limits.leap
        if after < least:
            self._counts["misdated"] += 1
            doubted = redated(doubted, self.now)
        else:
            self._books.now = max(self.now, least)  # from there it moves time itself
        self._take_in(doubted, memoryview(doubted.index))

    def _interfaces(self, index: memoryview, count: int) -> tuple[int, Iterator[int] | None]:
        """What tells the interfaces of a block's packets apart: one number for all, or one for each."""
        low, high = bytes(index[20 :: _RECORD.size]), bytes(index[21 :: _RECORD.size])
        if low.count(low[0]) == high.count(high[0]) == count:
            return self._number(low[0] | high[0] << 8), None
        numbers = (self._number(a | b << 8) for a, b in zip(low, high, strict=True))
        return 0, numbers

    def _slow(self, data: bytes, linktype: int, index: memoryview, left: int) -> None:
        """Whatever is not the next segment of a stream; `left` packets come after it."""
        ns, at, captured, wire, iface, _ = _RECORD.unpack_from(
            index, len(index) - _RECORD.size * (left + 1)
        )
        if at + captured > len(data):
            self._counts["bad_record"] += 1
            return
        frame = data[at : at + captured]
        decoded = self._decoder.frame(frame, linktype, wire)
        number = self._number(iface) | tap(frame, linktype) << 32
        self._place(decoded, number, iface, Packing(self, frame, linktype, wire, iface, ns))
        if self.memory > self._limits.memory:
            self._shrink()

    def _place(self, decoded: Decoded, number: int, iface: int, packing: Packing) -> None:
        """Bring a packet to its one place; fragments wait for the packet that completes them."""
        packets: list[Packet] | None = None
        captured = 1
        while isinstance(decoded, Fragment):
            if decoded.depth > self._limits.tunnels:
                decoded = "tunnel_depth"
                break
            if packets is None:
                packets = [packing.packet()] if self._keep else []
            found = self._pending.add(decoded, number, self.now, packets, captured)
            if found is None:
                return
            captured, packets = found.captured, found.packets
            whole = found.join()
            decoded = self._decoder.upper(
                whole, decoded.version, found.proto, 0, len(whole), len(whole),
                decoded.src, decoded.dst, decoded.ident, decoded.depth + 1,
            )  # fmt: skip
        if isinstance(decoded, str):
            self._counts[decoded] += captured
            return
        if packets is None:
            packets = [packing.packet()] if self._keep else []
        self._datagram(decoded, captured, number, iface, packets, packing.ns)

    # ------------------------------------------------------------ flows

    def _datagram(
        self,
        found: Datagram,
        captured: int,
        number: int,
        iface: int,
        packets: list[Packet],
        ns: int,
    ) -> None:
        """A whole transport datagram of `captured` packets."""
        there, back = _keys(found)
        half = self._table.get(there)
        if half is not None and self._dedupe and self._copy(half, found.mark, number, ns):
            self._counts["duplicate"] += captured
            return
        opens = found.flags & (SYN | RST) == SYN
        if (
            half is not None
            and opens
            and half.flow.fresh(half.side, found.seq, found.ack, found.flags)
        ):
            self._counts["reused"] += 1
            self._end(half.flow, END_REUSED, ns)
            half = None
        if half is None:
            half = self._open(found, there, back, iface, ns)
            if self._dedupe:
                self._copy(half, found.mark, number, ns)
        flow = half.flow
        if flow.ended:
            self._counts["late"] += captured
            return
        self._counts["in_flows"] += captured
        self._counts["snapped"] += found.missing > 0
        self._account(flow, half, captured, ns)
        if self._keep:
            flow.keep(packets)
        self._settle_shelf(flow, half, found)
        data = found.data[found.begin : found.begin + found.length]
        if found.proto != TCP:
            half.seen = True
            flow.datagram(half.side, data, found.missing, ns)
            return
        try:
            if found.flags & RST:
                self._reset(flow, half, found, ns)
            elif flow.segment(
                half.side, found.seq, found.ack, found.flags, data, found.missing, ns
            ):
                self._end(flow, END_FIN, ns)
        finally:
            self._sort(flow)

    def _sort(self, flow: Flow) -> None:
        """Whether the next packets of a TCP flow may be taken the quick way."""
        for key, half in zip(flow.keys, flow.order, strict=True):
            if half.ready():
                self._ready[key] = half
            else:
                self._ready.pop(key, None)

    def _reset(self, flow: Flow, half: Half, found: Datagram, ns: int) -> None:
        half.seen = True
        half.silent = False
        far = (found.seq - half.expect) & MASK
        if half.known and RST_WINDOW < far < MASK + 1 - RST_WINDOW:
            self._counts["rst_ignored"] += 1
            return
        one, two = flow.halves
        flow.refused = half is two and one.syn and not two.syn and not (one.spoke or two.spoke)
        self._end(flow, END_RST, ns)

    def _copy(self, half: Half, mark: tuple[int, ...], number: int, ns: int) -> bool:
        """Whether this very packet was seen on another interface a moment ago; remember it."""
        if number != half.number:
            for there, when, before in half.recent:
                if there == number or abs(ns - when) > self._limits.duplicate_wait:
                    continue
                if mark == (_mark(before) if len(before) == FIELDS else before):
                    return True
            half.number = -1 if half.recent else number
        half.remember((number, ns, mark))
        return False

    def _open(self, found: Datagram, there: bytes, back: bytes, iface: int, ns: int) -> Half:
        """A new flow, oriented: who sent the SYN, else who has the higher port, else who came first."""
        if self.flows >= self._most_flows:
            self.evict(1)
        flow = Flow(self._books, found.proto, self._name(iface), ns)
        side = 0
        if found.proto == TCP:
            if found.flags & SYN and not found.flags & RST:
                side = int(found.flags & ACK != 0)
            else:
                flow.midstream = True
                side = int(found.sport < found.dport)
        ends = [(found.src, found.sport), (found.dst, found.dport)]
        (flow.client, flow.client_port), (flow.server, flow.server_port) = (
            ends if side == 0 else ends[::-1]
        )
        flow.consumer = self._on_flow(flow)
        flow.on_chunk = flow.consumer.chunk
        flow.keys = (there, back)
        flow.order = (flow.halves[side], flow.halves[1 - side])
        self._table[back] = flow.halves[1 - side]
        self._table[there] = flow.halves[side]
        self._counts["flows"] += 1
        self._books.memory += FLOW_COST
        flow.touched, flow.stale = self.now, self.now + bounds.TIMER_GRAIN
        flow.shelf = self._half_open if found.proto == TCP and not flow.midstream else self._active
        flow.shelf[flow] = None
        return flow.halves[side]

    def _account(self, flow: Flow, half: Half, captured: int, ns: int) -> None:
        half.packets += captured
        half.first_at = half.first_at or ns
        flow.last_ns = max(flow.last_ns, ns)
        if self.now >= flow.stale:
            self._move(flow, flow.shelf)

    def _settle_shelf(self, flow: Flow, half: Half, found: Datagram) -> None:
        """A flow is half-open while it is one side's SYNs."""
        if flow.shelf is self._half_open and (
            flow.halves[1 - half.side].seen or not found.flags & SYN
        ):
            self._move(flow, self._active)

    def _move(self, flow: Flow, shelf: Shelf) -> None:
        del flow.shelf[flow]
        flow.shelf = shelf
        flow.touched, flow.stale = self.now, self.now + bounds.TIMER_GRAIN
        flow.touched = self.now
        shelf[flow] = None

    # ------------------------------------------------------------ ends

    def _end(self, flow: Flow, reason: int, ns: int) -> None:
        """Flush and end a flow; after FIN or RST it lingers, else it is gone."""
        if not flow.ended:
            flow.flush(ns)
        if flow.ended:
            if reason == END_REUSED:
                self._forget(flow)
            return
        flow.ended = True
        self._sort(flow)
        for half in flow.halves:
            flow.release(half)
            self._books.holes.pop(half, None)
        if reason in (END_FIN, END_RST):
            self._move(flow, self._lingering)
        else:
            self._unlink(flow)
        consumer, flow.consumer, flow.on_chunk = flow.consumer, None, deaf
        try:
            if consumer is not None:
                consumer.end(reason, ns)
        finally:
            flow.take_packets()

    def _unlink(self, flow: Flow) -> None:
        del flow.shelf[flow]
        self._books.memory -= FLOW_COST
        for key in set(flow.keys):
            del self._table[key]

    def _forget(self, flow: Flow) -> None:
        """A flow that has ended leaves the table."""
        if flow in flow.shelf:
            self._unlink(flow)

    def _evict(self, flow: Flow) -> None:
        if flow.ended:
            self._forget(flow)
            return
        self._counts["evicted"] += 1
        self._end(flow, END_EVICTED, self.now)

    def _shrink(self) -> None:
        """Back under the memory bound: the oldest idle flows go, then fragments."""
        while self.memory > self._limits.memory and self.flows:
            self.evict(1)
        while self.memory > self._limits.memory and self._pending.table:
            self._pending.drop("fragment_limit")

    # ------------------------------------------------------------ time

    def _run_timers(self) -> None:
        books = self._books
        self._checked = now = books.now
        for _ in range(len(books.holes)):
            half = next(iter(books.holes), None)
            if half is None or now - half.since < self._limits.gap_wait:
                break
            flow = half.flow
            try:
                flow.declare(half)
            finally:
                self._sort(flow)
            if flow.halves[0].closed and flow.halves[1].closed:
                self._end(flow, END_FIN, now)
        self._timeout(self._half_open, self._limits.half_open, END_HALF_OPEN, "half_open")
        self._timeout(self._active, self._limits.idle, END_IDLE, "idle")
        while self._lingering:
            flow = next(iter(self._lingering))
            if now - flow.touched < self._limits.close_linger:
                break
            self._forget(flow)
        self._pending.expire(now)

    def _timeout(self, shelf: Shelf, wait: int, reason: int, counter: str) -> None:
        while shelf:
            flow = next(iter(shelf))
            if self.now - flow.touched < wait:
                return
            self._counts[counter] += 1
            self._end(flow, reason, self.now)

    def _balance(self) -> None:
        """After an exception: the packet that it befell has its place, too."""
        counts = self._counts
        placed = counts["in_flows"] + sum(counts[name] for name in DROPS)
        counts["failed"] += counts["received"] - placed

    def _number(self, iface: int) -> int:
        """What tells interfaces apart, from block to block."""
        return self._numbers[iface] if iface < len(self._numbers) else iface

    def _name(self, iface: int) -> str:
        return self._ifaces[iface] if iface < len(self._ifaces) else ""


class Packing:
    """A captured packet that may have to be kept."""

    __slots__ = ("frame", "iface", "linktype", "ns", "wire")

    def __init__(
        self, owner: Wire, frame: bytes, linktype: int, wire: int, iface: int, ns: int
    ) -> None:
        self.frame, self.linktype, self.ns = frame, linktype, ns
        self.wire, self.iface = max(wire, len(frame)), owner._name(iface)

    def packet(self) -> Packet:
        return Packet(self.ns, self.frame, self.wire, self.linktype, self.iface)


def _mark(fields: tuple[int, ...]) -> tuple[int, ...]:
    """What `Decoder.tcp` makes of the packet with these fields of _COMMON."""
    _, total, ident, _, _, _, seq, ack, flags = fields
    return ident, seq, ack, flags & 0xFF, total - 20 - (flags >> 12 << 2)


def _keys(found: Datagram) -> tuple[bytes, bytes]:
    """The table's keys of both directions."""
    tail = b"" if found.proto == TCP else bytes((found.proto,))
    one, two = found.sport.to_bytes(2, "big"), found.dport.to_bytes(2, "big")
    return (
        b"".join((found.src, found.dst, one, two, tail)),
        b"".join((found.dst, found.src, two, one, tail)),
    )
