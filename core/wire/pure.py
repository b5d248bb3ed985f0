"""The wire in plain Python: the oracle of `kshark.wire.fast`, and what runs where there is no compiler.

Invariants: each captured packet ends in one place (``in_flows`` or one of `kshark.wire.DROPS`); an exception
of a consumer passes through and leaves everything ready for the next packet. Flow table: a dictionary with a
key for each direction.

What makes it bearable: nearly every packet is the next one of a TCP stream. Halves of which that may be true
have a second entry, in `Wire._ready`; whatever the slow way or a timer does to a flow ends with `Wire._sort`,
which enters or removes it. `Wire._runs` looks at one header after another and moves nothing but the number that
is expected next; what is next gathers until something else comes, and `Wire._take` then gives all of it to the
flows, packet by packet. Two short loops cost less than a long one. A consumer that raises or ends another flow
finds everything as if no packet after its own had been looked at: the numbers are put back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import repeat
from operator import length_hint
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
from kshark.wire._common import COMMON, FIELDS, HEADS, keys, mark_of
from kshark.wire._dates import alone, date_of, redated
from kshark.wire._headers import ACK, RST, SYN, TCP, Datagram, Decoded, Decoder, Fragment, tap
from kshark.wire._pieces import Pending
from kshark.wire._records import Records
from kshark.wire._stream import MASK, Books, Flow, Half, deaf

Shelf = OrderedDict[Flow, None]  # flows by when they were last touched
Next = tuple[Half, int, int, int, int, tuple[int, ...]]
"""A packet in order: its time, where it is, where in it the payload begins and ends, its fields to remember."""


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
        if self._doubted is not None and block.count > 0 and len(block.index) >= Records.SIZE:
            self._believe(self._doubted, date_of(block.index))
        self._take_in(block)

    def _take_in(self, block: Block) -> None:
        count = max(0, min(block.count, memoryview(block.index).nbytes // Records.SIZE))
        short = max(0, block.count - count)
        self._counts["received"] += short
        self._counts["bad_record"] += short
        if block.ifaces is not self._ifaces:
            self._ifaces = block.ifaces
            self._numbers = [crc32(name.encode(), at) for at, name in enumerate(block.ifaces)]
        if not count:
            return
        records = Records(block, count)
        try:
            if block.linktype == 1 and not self._keep and records.sound():
                self._runs(records)
            else:
                for row in range(count):
                    self._other(records, row)
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

    def _runs(self, records: Records) -> None:
        """Packets, one after another. Those that are next in their streams wait to be taken together."""
        find, heads = self._ready.get, HEADS
        times, places, sizes = records.columns()
        numbers, several = self._interfaces(records)
        dedupe = self._dedupe and (several or bool(self._ifaces))
        due = self._checked + bounds.TIMER_GRAIN
        rest, run = iter(times), list[Next]()
        take = run.append
        packets = zip(rest, places, sizes, records.headers(COMMON), numbers, strict=False)
        for ns, at, captured, fields, number in packets:
            kind, total, _, frag, proto, key, seq, ack, flags = fields
            half = find(key)
            head, end = heads[flags], 14 + total
            if (
                half is None or seq != half.expect or end < head or captured < end
                or (ack != half.peer.expect and (half.peer.expect - ack) & MASK > MASK >> 1)
                or proto != TCP or ns >= due
                or ((kind != half.kind or frag != half.frag) and not half.plain(kind, frag))
            ):  # fmt: skip
                row = records.count - 1 - length_hint(rest)
                self._take(records, row, run, dedupe)
                half = self._table.get(key)
                if (
                    half is None or end < head or captured < end or proto != TCP
                    or ns >= due or not half.plain(kind, frag)
                ):  # fmt: skip
                    self._other(records, row)
                    due = self._checked + bounds.TIMER_GRAIN
                else:
                    self._astray(half, fields, number, records.data[at + head : at + end], ns)
                continue
            if dedupe and number != half.number:
                row = records.count - 1 - length_hint(rest)
                self._take(records, row, run, True)
                if self._first(half, fields, number, ns):
                    half.expect = (seq + end - head) & MASK
                    self._take(records, row + 1, [(half, ns, at, head, end, ())], False)
                continue
            if head != end:
                seq += end - head
                half.expect = seq if seq <= MASK else seq & MASK
            take((half, ns, at, head, end, fields if dedupe else ()))
        self._take(records, records.count, run, dedupe)

    def _take(self, records: Records, row: int, run: list[Next], remember: bool) -> None:
        """The packets before `row`, each of which is the next of its stream: its number is expected already."""
        books, data, rest, ended = self._books, records.data, iter(run), 0
        now = books.now
        try:
            for half, ns, at, head, end, fields in rest:
                flow = half.flow
                if flow.ended:  # a consumer saw to that a moment ago
                    ended = 1
                    break
                if ns > now:
                    now = books.now = flow.last_ns = ns
                elif ns > flow.last_ns:
                    flow.last_ns = ns
                if remember:
                    half.remember((half.number, ns, fields))
                half.packets += 1
                if now >= flow.stale:
                    self._move(flow, flow.shelf)
                if head == end:
                    continue
                length = end - head
                half.next += length
                half.bytes += length
                half.spoke = True
                if not flow.opaque and flow.on_chunk(half.side, data[at + head : at + end], ns):
                    flow.shut()
                if half.waits:
                    flow.watch(half)
        finally:
            left = length_hint(rest) + ended
            done = len(run) - left
            self._counts["received"] += done
            self._counts["in_flows"] += done
            for half, _, _, head, end, _ in run[done:]:
                half.expect = (half.expect - end + head) & MASK
            run.clear()
        for late in range(row - left, row):
            self._other(records, late)

    def _first(self, half: Half, fields: tuple[int, ...], number: int, ns: int) -> bool:
        """Whether a packet is none that was seen on another interface; it is remembered, else counted."""
        if self._copy(half, mark_of(fields), number, ns):
            self._counts["received"] += 1
            self._counts["duplicate"] += 1
            self._books.now = max(self._books.now, ns)
            return False
        return True

    def _astray(
        self, half: Half, fields: tuple[int, ...], number: int, data: bytes, ns: int
    ) -> None:
        """A TCP segment of a known flow, as plain as any, that is not the next one, or not now."""
        if self._dedupe and not self._first(half, fields, number, ns):
            return
        self._counts["received"] += 1
        self._books.now = max(self._books.now, ns)
        if half.flow.ended:
            self._counts["late"] += 1
            return
        _, _, _, _, _, _, seq, ack, flags = fields
        self._counts["in_flows"] += 1
        self._account(half.flow, half, 1, ns)
        self._segment(half, seq, ack, flags & 0xFF, data, 0, ns)
        if self.memory > self._limits.memory:
            self._shrink()

    def _believe(self, doubted: Block, after: int) -> None:
        """Take the packet that was kept, now that the time of what comes after it is known."""
        self._doubted = None
        least = date_of(doubted.index) - self._limits.leap
        if after < least:
            self._counts["misdated"] += 1
            doubted = redated(doubted, self.now)
        else:
            self._books.now = max(self.now, least)  # from there it moves time itself
        self._take_in(doubted)

    def _interfaces(self, records: Records) -> tuple[Iterable[int], bool]:
        """What tells the interfaces of packets apart, and whether there are several."""
        low, high = records.interfaces()
        if low.count(low[0]) == high.count(high[0]) == records.count:
            return repeat(self._number(low[0] | high[0] << 8)), False
        return (self._number(a | b << 8) for a, b in zip(low, high, strict=True)), True

    def _other(self, records: Records, row: int) -> None:
        """Whatever is not the next segment of a stream."""
        ns, at, captured, wire, iface = records.record(row)
        if ns > self._books.now:
            if ns - self._books.now > self._limits.leap and self._books.now:
                if row + 1 == records.count:
                    found = records.index[row * Records.SIZE :]
                    self._doubted = alone(found, records.data, records.linktype, self._ifaces)
                    return
                if records.record(row + 1)[0] < ns - self._limits.leap:
                    self._counts["misdated"] += 1
                    ns = self._books.now
            self._books.now = ns
        self._counts["received"] += 1
        if ns == self._books.now and ns >= self._checked + bounds.TIMER_GRAIN:
            self._run_timers()
        if at + captured > records.size:
            self._counts["bad_record"] += 1
            return
        frame, linktype = records.data[at : at + captured], records.linktype
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
        there, back = keys(found)
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
        data = found.data[found.begin : found.begin + found.length]
        if found.proto == TCP:
            self._segment(half, found.seq, found.ack, found.flags, data, found.missing, ns)
        else:
            half.seen = True
            flow.datagram(half.side, data, found.missing, ns)

    def _segment(
        self, half: Half, seq: int, ack: int, flags: int, data: bytes, missing: int, ns: int
    ) -> None:
        """A TCP segment of a flow that goes on, by all rules."""
        flow = half.flow
        if flow.shelf is self._half_open and (
            half.peer.seen or not flags & SYN
        ):  # more than one side's SYNs
            self._move(flow, self._active)
        try:
            if flags & RST:
                self._reset(flow, half, seq, ns)
            elif flow.segment(half.side, seq, ack, flags, data, missing, ns):
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

    def _reset(self, flow: Flow, half: Half, seq: int, ns: int) -> None:
        half.seen = True
        half.silent = False
        far = (seq - half.expect) & MASK
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
                if mark == (mark_of(before) if len(before) == FIELDS else before):
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
