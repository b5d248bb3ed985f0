"""A flow and the reassembly of its two streams. Plain Python; the rules are those of `kshark.wire`.

Positions count bytes from the start of a stream, as plain integers: sequence numbers meet them only in
`Half.locate`, so that wrapping is one function's business. A position up to 3 GiB ahead of the expected
byte is ahead, the rest is old.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kshark.api import Packet
from kshark.limits import DUPLICATES
from kshark.wire import (
    BELIEVED,
    HELD_COST,
    PACKET_COST,
    RST_WINDOW,
    Consumer,
    WireLimits,
)
from kshark.wire._headers import ACK, FIN, PSH, SYN

MASK = 0xFFFF_FFFF
Seen = tuple[int | None, int, tuple[int, ...]]  # a packet: interface, time, mark
Octets = bytes  # `Flow.bytes` hides the type
AHEAD = 3 << 30
_IP4_PLAIN = 0x080045  # the ethertype; version 4, five words
_FRAGMENT = 0x3FFF  # "more" and offset
ANYTIME = -1  # `Held.need` of a segment that acknowledges nothing, or nonsense


@dataclass(slots=True)
class Held:
    """Payload that waits for earlier bytes of its side, or for bytes that it answers."""

    pos: int
    data: bytes
    missing: int
    need: int  # position of the other side that must be delivered before
    ns: int


class Books:
    """What all flows of one wire share."""

    def __init__(self, limits: WireLimits, counters: dict[str, int]) -> None:
        self.limits = limits
        self.counters = counters
        self.memory = 0
        self.now = 0
        self.holes: OrderedDict[Half, Flow] = OrderedDict()  # by when they last moved


@dataclass(slots=True, eq=False)
class Half:
    """One direction of a flow."""

    flow: Flow
    side: int
    expect: int = 0  # sequence number of position `next`
    next: int = 0
    acked: int = 0  # the furthest position that the other side acknowledged
    known: bool = False  # the stream's start
    seen: bool = False  # a packet of this side
    syn: bool = False
    spoke: bool = False  # payload of this side was captured
    silent: bool = False  # nothing came since a gap was declared
    twice: bool = False  # there are two SYN-ACKs: the client's ACK tells which one it took
    owed: int = 0  # 1: a skipped byte that was a FIN, unless more follows
    fin_at: int = -1
    closed: bool = False  # all up to the FIN was delivered
    held: list[Held] = field(default_factory=list)
    held_bytes: int = 0
    waits: bool = False  # in the list of holes
    since: int = 0  # of its hole
    watched: int = -1  # `next` at that time
    packets: int = 0
    bytes: int = 0
    first_at: int = 0
    recent: deque[Seen] = field(default_factory=lambda: deque(maxlen=DUPLICATES))
    remember: Callable[[Seen], None] = field(init=False)  # recent.append
    number: int | None = None  # the interface of all of `recent`, -1 if there are several
    peer: Half = field(init=False)
    kind: int = -1  # of its last packet that was plain: ethertype, IP version and so on
    frag: int = -1  # the same: fragmentation

    def __post_init__(self) -> None:
        self.remember = self.recent.append

    def plain(self, kind: int, frag: int) -> bool:
        """Whether these words are those of IPv4 without options, and of no fragment; if so, remember them."""
        if kind >> 8 != _IP4_PLAIN or frag & _FRAGMENT:
            return False
        self.kind, self.frag = kind, frag
        return True

    def ready(self) -> bool:
        """Whether the next segment, if it is in order, needs nothing but delivery."""
        peer = self.peer
        return bool(
            self.known and self.seen and self.first_at and peer.known and peer.seen
            and self.fin_at < 0 and not peer.twice
            and not (self.held or peer.held or self.owed or self.silent or self.flow.ended)
        )  # fmt: skip

    def begin(self, seq: int) -> None:
        """The stream starts at this sequence number."""
        self.known = True
        self.expect = seq
        self.next = self.acked = self.owed = 0
        self.fin_at = -1
        self.closed = self.twice = False

    def locate(self, seq: int) -> int:
        """The position of a sequence number."""
        ahead = (seq - self.expect) & MASK
        return self.next + (ahead if ahead < AHEAD else ahead - MASK - 1)

    def move(self, to: int) -> None:
        self.expect = (self.expect + to - self.next) & MASK
        self.next = to

    def uncovered(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of a range that no held segment has: the first copy wins."""
        parts = []
        for held in self.held:
            stop = held.pos + len(held.data)
            if not held.data or stop <= start:
                continue
            if held.pos >= end:
                break
            if held.pos > start:
                parts.append((start, held.pos))
            start = stop
        if start < end:
            parts.append((start, end))
        return parts


def deaf(side: int, data: bytes, ns: int) -> bool:
    """Nobody listens (any more)."""
    return False


class Flow:
    """A `kshark.wire.WireFlow`, and for TCP its reassembly."""

    __slots__ = (
        "books",
        "client",
        "client_port",
        "consumer",
        "ended",
        "first_ns",
        "halves",
        "iface",
        "kept",
        "kept_bytes",
        "keys",
        "last_ns",
        "midstream",
        "on_chunk",
        "opaque",
        "order",
        "proto",
        "refused",
        "server",
        "server_port",
        "shelf",
        "stale",
        "touched",
    )  # fmt: skip

    consumer: Consumer | None
    on_chunk: Callable[[int, Octets, int], bool]

    def __init__(self, books: Books, proto: int, iface: str, ns: int) -> None:
        self.books = books
        self.proto = proto
        self.iface = iface
        self.first_ns = self.last_ns = ns
        self.halves = one, two = Half(self, 0), Half(self, 1)
        one.peer, two.peer = two, one
        self.order = self.halves  # as `keys` are
        self.client = self.server = b""
        self.client_port = self.server_port = 0
        self.midstream = self.refused = self.opaque = self.ended = False
        self.kept: list[Packet] = []
        self.kept_bytes = 0
        self.touched = 0
        self.stale = 0  # from when on its place among the idle ones is out of date
        self.keys: tuple[bytes, bytes] = (b"", b"")
        self.shelf: OrderedDict[Flow, None] = OrderedDict()
        self.consumer = None
        self.on_chunk = deaf

    # ------------------------------------------------------------ what consumers may ask

    @property
    def established(self) -> bool:
        one, two = self.halves
        return (one.syn and two.syn) or (one.spoke and two.spoke)

    def packets(self, side: int) -> int:
        return self.halves[side].packets

    def bytes(self, side: int) -> int:
        return self.halves[side].bytes

    def first_at(self, side: int) -> int:
        return self.halves[side].first_at

    def take_packets(self) -> Sequence[Packet]:
        kept, self.kept = self.kept, []
        self.books.memory -= self.kept_bytes + PACKET_COST * len(kept)
        self.kept_bytes = 0
        return kept

    def keep(self, packets: Sequence[Packet]) -> None:
        """Keep packets within the limits; the first ones are worth more than the last."""
        limits = self.books.limits
        for packet in packets:
            size = len(packet.data)
            if len(self.kept) >= limits.kept_packets or self.kept_bytes + size > limits.kept_bytes:
                self.books.counters["not_kept"] += 1
                continue
            self.kept.append(packet)
            self.kept_bytes += size
            self.books.memory += size + PACKET_COST

    # ------------------------------------------------------------ to the consumer

    def chunk(self, half: Half, data: Octets, ns: int) -> None:
        half.bytes += len(data)
        if self.on_chunk(half.side, data, ns):
            self.shut()

    def lost(self, half: Half, missing: int, ns: int) -> None:
        self.books.counters["gaps"] += 1
        self.books.counters["gap_bytes"] += missing
        consumer = self.consumer
        if consumer is not None and consumer.gap(half.side, missing, ns):
            self.shut()

    def shut(self) -> None:
        """No more bytes, please: what is held is only counted."""
        if self.ended or self.opaque:
            return
        self.opaque = True
        for half in self.halves:
            for held in half.held:
                self.skim(half, held.pos, len(held.data), held.missing)
            self.release(half)
            self.books.holes.pop(half, None)
            half.closed = half.closed or half.fin_at >= 0

    def release(self, half: Half) -> None:
        self.books.memory -= half.held_bytes + HELD_COST * len(half.held)
        half.held.clear()
        half.held_bytes = 0

    def skim(self, half: Half, pos: int, size: int, missing: int) -> None:
        """Count bytes that advance the stream, without looking after holes; a FIN may be early and says nothing."""
        size += missing  # cut off or not, they were sent
        half.bytes += max(0, min(size, pos + size - half.next))
        if size and pos + size > half.next:
            half.move(pos + size)

    def datagram(self, side: int, data: Octets, missing: int, ns: int) -> None:
        """UDP and ICMP."""
        half = self.halves[side]
        half.spoke = half.spoke or bool(data)
        half.bytes += missing  # cut off or not, they were sent
        if self.opaque:
            half.bytes += len(data)
            return
        if data:
            self.chunk(half, data, ns)
        if missing and not self.opaque:
            self.lost(half, missing, ns)

    # ------------------------------------------------------------ TCP

    def segment(
        self, side: int, seq: int, ack: int, flags: int, data: Octets, missing: int, ns: int
    ) -> bool:
        """Take a segment that is no RST; true when both sides are closed."""
        me, peer = self.halves[side], self.halves[1 - side]
        me.seen = True
        me.silent = False
        if flags & SYN:
            self.handshake(me, seq, flags)
            seq = (seq + 1) & MASK
        work = bool(data or missing or flags & FIN)
        need = (
            self.acknowledge(me, peer, ack, work or bool(flags & SYN)) if flags & ACK else ANYTIME
        )
        if work:
            self.payload(me, peer, seq, flags, data, missing, need, ns)
            self.settle(me, ns)
        return me.closed and peer.closed

    def fresh(self, side: int, seq: int, ack: int, flags: int) -> bool:
        """Whether a SYN with this number begins another connection: the port was used again."""
        half, peer = self.halves[side], self.halves[1 - side]
        if flags & ACK and peer.known and (peer.expect - peer.next - ack) & MASK == 0:
            return False  # it answers this connection's SYN
        if half.known:
            start = (half.expect - half.next) & MASK
            late = (start - seq - 1) & MASK
            if late == 0 or (self.midstream and not self.ended and late <= RST_WINDOW):
                return False
        if self.ended:
            return True
        if not half.known:  # nothing but ACKs came so far: they were another connection's last
            return self.midstream and not peer.known
        return self.midstream or any(h.spoke or h.fin_at >= 0 for h in self.halves)

    def handshake(self, me: Half, seq: int, flags: int) -> None:
        first, other = (seq + 1) & MASK, me.peer
        if me.known and first == (me.expect - me.next) & MASK:
            me.syn = True
            self.midstream = self.midstream and not other.syn
        elif me.known and flags & ACK and (me.syn or me.spoke):
            me.twice = True
            other.seen = False  # its next packet is looked at closely
        elif not self.midstream or not me.known:
            if me.known and not flags & ACK:
                other.begin(0)
                other.known = other.syn = False
            me.syn = True
            me.begin(first)

    def acknowledge(self, me: Half, peer: Half, ack: int, says: bool) -> int:
        """Learn from an ACK number; the position that it needs to be delivered first."""
        if not peer.known:
            if not says and self.midstream:
                return ANYTIME
            peer.begin(ack)
            return 0
        if peer.twice:
            peer.twice = False
            if not (peer.next or peer.spoke):
                peer.begin(ack)
        ahead = (ack - peer.expect) & MASK
        if ahead > MASK >> 1:
            ahead -= MASK + 1
        if ahead > BELIEVED:
            return ANYTIME
        pos = peer.next + ahead
        if ahead > 0 and pos > peer.acked:
            peer.acked = pos
            if not self.opaque:
                self.watch(peer)
        return pos

    def payload(
        self,
        me: Half,
        peer: Half,
        seq: int,
        flags: int,
        data: Octets,
        missing: int,
        need: int,
        ns: int,
    ) -> None:
        size = len(data)
        if not me.known:  # the lone byte of a keep-alive probe comes before the stream
            me.begin((seq + (self.midstream and size == 1 and not flags & (PSH | FIN))) & MASK)
        me.spoke = me.spoke or bool(size or missing)
        pos = me.locate(seq)
        end = pos + size + missing
        if me.closed and not self.opaque:
            self.books.counters["retransmitted"] += 1
            return
        if flags & FIN and not self.opaque:
            self.finish_at(me, end, ns)
        if self.opaque:
            self.skim(me, pos, size, missing)
            me.closed = me.closed or bool(flags & FIN)
            return
        if not size and not missing:
            return
        if end <= me.next:
            self.books.counters["retransmitted"] += 1
        elif not me.held and pos <= me.next and self.may(me, peer, need):
            self.deliver(me, pos, data, missing, ns)
        else:
            self.hold(me, Held(pos, data, missing, need, ns))

    def finish_at(self, me: Half, end: int, ns: int) -> None:
        """A FIN; the first one that is not old counts."""
        if me.fin_at >= 0 or end < me.next - me.owed:
            return
        me.fin_at = end
        if end < me.next:  # the byte owed was this FIN
            me.move(end)
        elif me.owed:
            self.lost(me, 1, ns)
        me.owed = 0

    def may(self, me: Half, peer: Half, need: int) -> bool:
        """Causality: an answer is delivered after what it answers."""
        return not peer.seen or peer.silent or peer.closed or need <= peer.next

    def deliver(self, me: Half, pos: int, data: Octets, missing: int, ns: int) -> None:
        """Give what is new of a segment that starts at or before the expected byte."""
        if me.owed:
            me.owed = 0
            self.lost(me, 1, ns)
        if 0 <= me.fin_at < pos + len(data) + missing:  # after a FIN comes nothing
            missing = max(0, min(missing, me.fin_at - pos - len(data)))
            data = data[: max(0, me.fin_at - pos)]
        old = me.next - pos
        if old < len(data):
            if old:
                self.books.counters["overlap"] += 1
                data = data[old:]
                old = 0
            if self.opaque:
                self.skim(me, me.next, len(data), missing)
                return
            me.move(me.next + len(data))
            self.chunk(me, data, ns)
        else:
            old -= len(data)
        missing -= old
        if me.held:
            missing = min(missing, me.held[0].pos - me.next)
        if missing > 0 and not self.ended:
            me.move(me.next + missing)
            me.bytes += missing
            if not self.opaque:
                self.lost(me, missing, ns)

    def hold(self, me: Half, new: Held) -> None:
        """Keep the parts that are not here yet, in order."""
        counters = self.books.counters
        start, end, offered = max(new.pos, me.next), new.pos + len(new.data), len(new.data)
        if offered and start < end:
            parts = me.uncovered(start, end)
        else:
            start = max(start, end)
            twice = any(h.pos == start and not h.data for h in me.held)
            new.missing, new.pos, new.data = new.pos + offered + new.missing - start, start, b""
            parts = [] if twice or new.missing <= 0 else [(start, start)]
            end = start
        if not parts:
            counters["retransmitted"] += 1
            return
        counters["out_of_order"] += 1
        counters["overlap"] += sum(b - a for a, b in parts) < len(new.data)
        for a, b in parts:
            tail = new.missing if b == end else 0
            piece = Held(a, new.data[a - new.pos : b - new.pos], tail, new.need, new.ns)
            at = len(me.held)
            while at and me.held[at - 1].pos > a:
                at -= 1
            me.held.insert(at, piece)
            me.held_bytes += b - a
            self.books.memory += b - a + HELD_COST

    def pop(self, half: Half) -> None:
        """Deliver the first held segment."""
        held = half.held.pop(0)
        half.held_bytes -= len(held.data)
        self.books.memory -= len(held.data) + HELD_COST
        self.deliver(half, held.pos, held.data, held.missing, held.ns)

    def run(self, half: Half, peer: Half) -> bool:
        """Deliver what one side has ready; whether anything moved."""
        moved = False
        while not (self.opaque or self.ended or half.closed):
            if half.fin_at >= 0 and half.next >= half.fin_at:
                half.move(max(half.next, half.fin_at + 1))
                half.closed = moved = True
                self.release(half)
            elif (
                half.held
                and half.held[0].pos <= half.next
                and self.may(half, peer, half.held[0].need)
            ):
                self.pop(half)
                moved = True
            else:
                break
        return moved

    def drain(self, half: Half) -> None:
        """Deliver what is ready on either side, until neither moves."""
        idle = 0
        while idle < 2 and not (self.opaque or self.ended):
            peer = self.halves[1 - half.side]
            idle = 0 if self.run(half, peer) else idle + 1
            half = peer

    def settle(self, half: Half, ns: int) -> None:
        """After news of one side: deliver, keep to the bounds, look after holes."""
        bounds = self.books.limits
        one, two = self.halves
        if one.held or two.held or one.fin_at >= 0 or two.fin_at >= 0:
            self.drain(half)
            for side in self.halves:
                while not (self.opaque or self.ended) and (
                    len(side.held) > bounds.ooo_segments or side.held_bytes > bounds.ooo_bytes
                ):
                    self.force(side)
                    self.drain(side)
        self.watch(one)
        self.watch(two)

    def force(self, half: Half) -> None:
        """Wait no longer for what stands before the first held segment of a side."""
        first, peer = half.held[0], self.halves[1 - half.side]
        if first.pos > half.next:
            self.skip(half, first.pos, first.ns)
        elif self.may(half, peer, first.need):
            self.pop(half)
        elif peer.held and peer.held[0].pos <= peer.next:  # each waits for the other: nonsense
            self.pop(peer)
        elif peer.held and peer.held[0].pos < first.need:
            self.skip(peer, peer.held[0].pos, peer.held[0].ns)
        else:
            self.skip(peer, first.need, first.ns)

    def skip(self, half: Half, to: int, ns: int) -> None:
        """Declare bytes lost, piece by piece: what the peer said after one piece is delivered after it."""
        peer = half.peer
        if half.fin_at >= 0:
            to = min(to, half.fin_at)
        while not (self.opaque or self.ended):
            heard = peer.held[0] if peer.held else None
            if heard is None or heard.pos > peer.next or not half.next < heard.need < to:
                self.give_up(half, to, ns)
                return
            self.give_up(half, heard.need, ns)
            half.silent = False
            self.run(peer, half)

    def give_up(self, half: Half, to: int, ns: int) -> None:
        """Declare bytes lost. A single acknowledged one may have been a FIN: it is owed until more comes."""
        missing = to - half.next + half.owed
        if to <= half.next:
            return
        half.move(to)
        half.silent = not half.held  # what is held comes next, and before what answers it
        half.owed = int(missing == 1 and half.silent and half.fin_at < 0)
        if not half.owed:
            self.lost(half, missing, ns)

    def watch(self, half: Half) -> None:
        """Keep the list of acknowledged holes, by when they last moved."""
        holes = self.books.holes
        hole = (
            half.known and half.acked > half.next and not (half.closed or self.opaque or self.ended)
        )
        if not hole:
            holes.pop(half, None)
            half.waits = False
        elif half not in holes or half.watched != half.next:
            half.since, half.watched, half.waits = self.books.now, half.next, True
            holes[half] = self
            holes.move_to_end(half)

    def declare(self, half: Half) -> None:
        """An acknowledged hole has waited long enough."""
        first = half.held[0] if half.held else None
        if first is not None and first.pos <= half.next:  # it is here, and waits for the other side
            half.watched = -1
            self.watch(half)
            return
        if first is not None and first.pos <= half.acked:
            self.skip(half, first.pos, first.ns)
        else:
            self.skip(half, half.acked, self.books.now)
        self.settle(half, self.books.now)

    def flush(self, ns: int) -> None:
        """The flow ends: deliver what is held, and declare every hole that is known."""
        one, two = self.halves
        self.drain(one)
        while (one.held or two.held) and not (self.opaque or self.ended):
            half = one if one.held else two
            self.force(half)
            self.drain(half)
        for half in self.halves:
            to = max(half.acked, half.fin_at)
            if half.known and to > half.next and not (half.closed or self.opaque or self.ended):
                self.skip(half, to, ns)
