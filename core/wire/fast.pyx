"""The wire, compiled: see `kshark.wire` for the contract and `kshark.wire.pure` for its oracle.

Raw pointers live in this module alone. What keeps them safe: a set owns the flows, all else borrows them, and who works on one
holds a reference; every read of a frame is checked against what was captured; the block's buffers are exported while
they are read. Consumers may do what they like while they are called: nothing here trusts what it knew before.

Limits: those of `WireLimits`; a chain of the hash table holds CHAIN flows, so that flooding it evicts instead of looping.
"""

# In parts, for reading: frames to datagrams, a side's stream, a flow, fragments, keys of the table, shelves and timers.

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from kshark.wire.listener cimport Listener

from bisect import bisect_left
from collections import OrderedDict
from sys import byteorder
from zlib import crc32

from kshark import limits as bounds
from kshark import wire
from kshark.api import Packet
from kshark.wire._dates import alone, date_of, redated

cdef extern from *:
    """
    #include <stdint.h>
    #define AHEAD ((int64_t)3 << 30)
    #define ANYTIME ((int64_t)-1)
    /* 64 x 64 -> 128 bits, folded: the step of wyhash */
    static inline uint64_t fold(uint64_t a, uint64_t b) {
    #ifdef __SIZEOF_INT128__
        __uint128_t r = (__uint128_t)a * b;
        return (uint64_t)r ^ (uint64_t)(r >> 64);
    #else
        a = (a ^ (a >> 32)) * 0x9E3779B97F4A7C15ULL;
        b = (b ^ (b >> 29)) * 0xBF58476D1CE4E5B9ULL;
        return a ^ (b << 1 | b >> 63);
    #endif
    }
    """
    const int64_t AHEAD
    const int64_t ANYTIME
    uint64_t fold(uint64_t a, uint64_t b) noexcept nogil
    void prefetch "__builtin_prefetch"(const void* p) noexcept nogil

cdef enum:
    DUPLICATES = 4
    CHAIN = 32
    BUCKETS = 1 << 22  # at most: 32 MiB of pointers
    RECORD = 24
    # kshark.wire.COUNTERS, in that order
    C_RECEIVED = 0
    C_IN_FLOWS
    C_BAD_RECORD
    C_LINKTYPE
    C_NON_IP
    C_TRUNCATED
    C_BAD_IP
    C_BAD_L4
    C_OTHER_L4
    C_TUNNEL_DEPTH
    C_DUPLICATE
    C_FRAGMENT_HELD
    C_FRAGMENT_TIMEOUT
    C_FRAGMENT_LIMIT
    C_FRAGMENT_BAD
    C_LATE
    C_FAILED
    C_FLOWS
    C_DEFRAGMENTED
    C_SNAPPED
    C_RETRANSMITTED
    C_OVERLAP
    C_OUT_OF_ORDER
    C_GAPS
    C_GAP_BYTES
    C_RST_IGNORED
    C_REUSED
    C_IDLE
    C_HALF_OPEN
    C_EVICTED
    C_MISDATED
    C_NOT_KEPT
    C_END

cdef int END_FIN = wire.END_FIN, END_RST = wire.END_RST, END_IDLE = wire.END_IDLE
cdef int END_HALF_OPEN = wire.END_HALF_OPEN, END_EVICTED = wire.END_EVICTED
cdef int END_REUSED = wire.END_REUSED, END_CAPTURE = wire.END_CAPTURE
cdef int64_t FLOW_COST = wire.FLOW_COST, HELD_COST = wire.HELD_COST, PACKET_COST = wire.PACKET_COST
cdef int32_t BELIEVED = wire.BELIEVED
cdef uint32_t RST_WINDOW = wire.RST_WINDOW
cdef int64_t TIMER_GRAIN = bounds.TIMER_GRAIN
cdef int VLAN_TAGS = bounds.VLAN_TAGS, MPLS_LABELS = bounds.MPLS_LABELS
cdef int EXTENSION_HEADERS = bounds.EXTENSION_HEADERS
cdef Py_ssize_t FRAGMENT_PIECES = bounds.FRAGMENT_PIECES

if len(wire.COUNTERS) != C_END or bounds.DUPLICATES != DUPLICATES:
    raise ImportError("kshark.wire.fast was compiled from another version: build it again")
if byteorder != "little":
    raise ImportError("kshark.wire.fast reads index records as little-endian memory")

include "_decode.pxi"
include "_lent.pxi"
include "_half.pxi"
include "_flow.pxi"
include "_fragments.pxi"
include "_key.pxi"
include "_shelves.pxi"


cdef struct Record:
    int64_t ns
    uint32_t at
    uint32_t captured
    uint32_t wire
    uint16_t iface
    uint16_t flags

cdef struct Arrival:  # a captured packet on its way to its place
    const uint8_t* frame
    int64_t captured
    int64_t wire
    int64_t ns
    uint64_t number  # of its interface, the same from block to block
    int iface
    int linktype

@cython.final
cdef class Wire(Shelves):
    """See `kshark.wire`."""

    cdef object on_flow
    cdef object limits
    cdef bint dedupe
    cdef bint twice  # packets of this block may have been seen before, on another interface
    cdef bint keep
    cdef uint32_t mask
    cdef int64_t most_memory, duplicate_wait, leap
    cdef object doubted  # the last packet of a block, whose date the next packet confirms or not
    cdef int64_t doubted_ns
    cdef int tunnels
    cdef tuple ifaces
    cdef list numbers
    cdef Lender lender
    cdef int iface  # of the last packet
    cdef uint64_t number  # ... and what `numbers` has for it

    def __cinit__(self, on_flow, limits=wire.WireLimits(), bint dedupe=True, bint keep_packets=False):
        cdef uint32_t size = 64
        self.on_flow = on_flow
        self.limits = limits
        self.dedupe = dedupe
        self.keep = keep_packets
        self.books = Books.__new__(Books)
        self.books.ooo_segments = limits.ooo_segments
        self.books.ooo_bytes = limits.ooo_bytes
        self.books.kept_packets = limits.kept_packets
        self.books.kept_bytes = limits.kept_bytes
        self.pending = Pending(self.books, limits)
        self.alive = set()
        self.most_flows = max(1, limits.flows)
        self.most_memory = limits.memory
        self.gap_wait = limits.gap_wait
        self.half_open = limits.half_open
        self.idle = limits.idle
        self.close_linger = limits.close_linger
        self.duplicate_wait = limits.duplicate_wait
        self.leap = limits.leap
        self.tunnels = limits.tunnels
        self.ifaces = ()
        self.lender = Lender.__new__(Lender)
        self.numbers = []
        self.iface = -1
        while size < self.most_flows and size < BUCKETS:
            size *= 2
        self.mask = size - 1
        self.buckets = <void**>calloc(size, sizeof(void*))
        if self.buckets == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buckets)

    # ------------------------------------------------------------ face

    @property
    def flows(self):
        return self.count()

    @property
    def memory(self):
        return self.books.memory + self.pending.memory

    @property
    def now(self):
        return self.books.now

    def counters(self):
        cdef int i
        return {name: self.books.counts[i] for i, name in enumerate(wire.COUNTERS)}

    def feed(self, block):
        """Decode a block and push what it completes."""
        if self.doubted is not None and block.count > 0 and len(memoryview(block.index).cast("B")) >= RECORD:
            self.believe(date_of(block.index))
        self.take_in(block)

    cdef take_in(self, block):
        cdef Py_buffer data, index
        cdef int64_t count, wanted = max(0, block.count)
        PyObject_GetBuffer(block.data, &data, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(block.index, &index, PyBUF_SIMPLE)
            try:
                count = least(wanted, index.len // RECORD)
                self.books.counts[C_RECEIVED] += wanted - count
                self.books.counts[C_BAD_RECORD] += wanted - count
                self.name_ifaces(block.ifaces)
                self.twice = self.dedupe and (len(self.ifaces) > 0 or block.linktype in (113, 276))
                self.records(
                    <const uint8_t*>data.buf, data.len, <const uint8_t*>index.buf, count, block.linktype
                )
            except BaseException:
                self.balance()
                raise
            finally:
                PyBuffer_Release(&index)
        finally:
            PyBuffer_Release(&data)

    def tick(self, int64_t now_ns):
        """Time has passed."""
        if self.doubted is not None and now_ns >= self.doubted_ns - self.leap:
            self.believe(now_ns)
        self.books.now = most(self.books.now, now_ns)
        self.run_timers()

    def finish(self, Py_ssize_t most=0):
        """The capture is over."""
        cdef int shelf
        if self.doubted is not None:
            self.checked = self.doubted_ns  # no timer is due: it ends nothing
            self.believe(self.doubted_ns)
        while self.pending.table:
            self.pending.drop(C_FRAGMENT_TIMEOUT)
        for shelf in (LINGERING, HALF_OPEN, ACTIVE, LINGERING):  # what was held back may end a flow by FIN
            while self.shelves[shelf].oldest != NULL:
                if shelf == LINGERING:
                    self.unlink(<Flow>self.shelves[shelf].oldest)
                    continue
                self.end(<Flow>self.shelves[shelf].oldest, END_CAPTURE, self.books.now)
                most -= 1
                if most == 0:
                    return self.count() > 0
        return False

    def evict(self, Py_ssize_t n):
        """The oldest idle flows go, those that have ended first."""
        cdef void* oldest
        n = least(n, self.count())
        while n > 0:
            n -= 1
            oldest = self.oldest()
            if oldest != NULL:
                self.evict_one(<Flow>oldest)

    # ------------------------------------------------------------ frames

    cdef records(self, const uint8_t* data, int64_t size, const uint8_t* index, int64_t count, int linktype):
        cdef Record record, ahead
        cdef Found found
        cdef Arrival packet
        cdef int64_t i
        cdef int outcome
        cdef Books books = self.books
        packet.linktype = linktype
        for i in range(count):
            memcpy(&record, index + i * RECORD, RECORD)
            if i + 1 < count:  # the next headers are on their way while this packet is worked on
                memcpy(&ahead, index + (i + 1) * RECORD, RECORD)
                if ahead.at < size:
                    prefetch(data + ahead.at)
            if record.ns > books.now:
                if record.ns - books.now > self.leap and books.now:
                    if i + 1 == count:
                        self.doubted = alone(
                            index[i * RECORD:(i + 1) * RECORD], data[:size], linktype, self.ifaces
                        )
                        self.doubted_ns = record.ns
                        return
                    elif ahead.ns < record.ns - self.leap:
                        books.counts[C_MISDATED] += 1
                        record.ns = books.now
                books.now = record.ns
            books.counts[C_RECEIVED] += 1
            if books.now - self.checked >= TIMER_GRAIN:
                self.run_timers()
            if <int64_t>record.at + record.captured > size:
                books.counts[C_BAD_RECORD] += 1
                continue
            packet.frame = data + record.at
            packet.captured = record.captured
            packet.wire = most(record.wire, record.captured)
            packet.ns = record.ns
            packet.iface = record.iface
            outcome = decode(&found, packet.frame, packet.captured, packet.wire, linktype, self.tunnels)
            if outcome >= 0:
                books.counts[outcome] += 1
            else:
                if record.iface != self.iface:
                    self.change_iface(record.iface)
                packet.number = self.number | tap(packet.frame, packet.captured, linktype)
                if outcome == DATAGRAM:
                    self.datagram(&found, 1, &packet, None)
                else:
                    self.fragment(&found, &packet)
            if books.memory + self.pending.memory > self.most_memory:
                self.shrink()

    cdef believe(self, int64_t after):
        """Take that packet, now that the time of what comes after it is known."""
        block, self.doubted = self.doubted, None
        if after < self.doubted_ns - self.leap:
            self.books.counts[C_MISDATED] += 1
            block = redated(block, self.books.now)
        else:
            self.books.now = most(self.books.now, self.doubted_ns - self.leap)  # from there it moves time itself
        self.take_in(block)

    cdef name_ifaces(self, tuple ifaces):
        if ifaces is not self.ifaces:
            self.ifaces = ifaces
            self.numbers = [crc32(name.encode(), at) for at, name in enumerate(ifaces)]
            self.iface = -1

    cdef change_iface(self, int iface):
        """What tells interfaces apart, from block to block."""
        self.iface = iface
        self.number = self.numbers[iface] if iface < len(self.numbers) else iface

    cdef str name(self, int iface):
        return self.ifaces[iface] if iface < len(self.ifaces) else ""

    cdef object packet(self, Arrival* packet):
        """The packet, to be kept."""
        return Packet(
            packet.ns, packet.frame[:packet.captured], packet.wire, packet.linktype, self.name(packet.iface)
        )

    cdef fragment(self, Found* found, Arrival* packet):
        """A piece, and what it completes: which may be a piece again, in a tunnel."""
        cdef list packets = []
        cdef int64_t captured = 1
        cdef int outcome = FRAGMENT
        cdef Pieces pieces
        cdef bytes whole, src, dst
        if self.keep and found.depth <= self.tunnels:
            packets.append(self.packet(packet))
        while outcome == FRAGMENT:
            if found.depth > self.tunnels:
                outcome = C_TUNNEL_DEPTH
                break
            pieces = self.pending.add(found, packet.number, packets, captured)
            if pieces is None:
                return
            packets = pieces.packets
            captured = pieces.captured
            src = found.src[:found.address]  # they may lie in what is put together here
            dst = found.dst[:found.address]
            whole = b"".join(pieces.parts)
            found.src = <const uint8_t*>PyBytes_AS_STRING(src)
            found.dst = <const uint8_t*>PyBytes_AS_STRING(dst)
            found.depth += 1
            outcome = upper(
                found, pieces.proto, <const uint8_t*>PyBytes_AS_STRING(whole), len(whole), len(whole), self.tunnels
            )
        if outcome >= 0:
            self.books.counts[outcome] += captured
        else:
            self.datagram(found, captured, packet, packets)

    # ------------------------------------------------------------ flows

    cdef datagram(self, Found* found, int64_t captured, Arrival* packet, list packets):
        """A whole transport datagram of `captured` packets."""
        cdef uint64_t key[5]
        cdef bint swapped = make_key(found, key)
        cdef uint32_t bucket = spread(key) & self.mask
        cdef void* at = self.buckets[bucket]
        cdef Flow flow = None
        cdef Half* half = NULL
        cdef bint tcp = found.proto == PROTO_TCP
        while at != NULL:
            if same_key((<Flow>at).key, key):
                flow = <Flow>at
                break
            at = (<Flow>at).chain
        if flow is not None:
            half = &flow.halves[swapped ^ flow.flip]
            if self.twice and self.copied(half, found, packet):
                self.books.counts[C_DUPLICATE] += captured
                return
            if tcp and found.flags & (SYN | RST) == SYN and flow.fresh(half, found):
                self.books.counts[C_REUSED] += 1
                self.end(flow, END_REUSED, packet.ns)
                flow = None
        if flow is None:
            flow = self.open(found, key, swapped, bucket, packet)
            half = &flow.halves[swapped ^ flow.flip]
            if self.twice:
                self.copied(half, found, packet)
        if flow.ended:
            self.books.counts[C_LATE] += captured
            return
        self.books.counts[C_IN_FLOWS] += captured
        self.account(flow, half, captured, packet.ns)
        if found.missing > 0:
            self.books.counts[C_SNAPPED] += 1
        if self.keep:
            flow.keep([self.packet(packet)] if packets is None else packets)
        if flow.shelf == HALF_OPEN and not (found.flags & SYN and not flow.halves[1 - half.side].seen):
            self.put(flow, ACTIVE)
        if tcp:
            self.segment(flow, half, found, packet.ns)
        else:
            flow.datagram(half, found, packet.ns)

    cdef segment(self, Flow flow, Half* half, Found* found, int64_t ns):
        """TCP. In order, with nothing held and nothing special about it: the common case, in few steps."""
        cdef Half* peer = &flow.halves[1 - half.side]
        if (
            found.flags & (SYN | FIN | RST | ACK) == ACK and found.seq == half.expect
            and half.known and peer.known and half.seen and half.fin_at < 0 and not half.owed
            and not peer.twice and not found.missing
            and <int32_t>(found.ack - peer.expect) <= 0 and not flow.held0 and not flow.held1
        ):
            half.silent = False
            if found.length:
                half.spoke = True
                half.expect += <uint32_t>found.length
                half.next += found.length
                if flow.opaque:
                    half.bytes += found.length
                else:
                    flow.give(half, self.lender.payload(found), ns)
                if half.waits:
                    flow.watch(half)
        elif found.flags & RST:
            self.reset(flow, half, found, ns)
        else:
            flow.segment(half, found, ns)
            if flow.closed():
                self.end(flow, END_FIN, ns)

    cdef reset(self, Flow flow, Half* half, Found* found, int64_t ns):
        cdef uint32_t far = found.seq - half.expect
        half.seen = True
        half.silent = False
        if half.known and RST_WINDOW < far < -RST_WINDOW:
            self.books.counts[C_RST_IGNORED] += 1
            return
        flow.refused = half.side == 1 and flow.halves[0].syn and not (
            flow.halves[1].syn or flow.halves[0].spoke or flow.halves[1].spoke
        )
        self.end(flow, END_RST, ns)

    cdef bint copied(self, Half* half, const Found* found, const Arrival* packet) noexcept:
        """Whether this very packet was seen on another interface a moment ago; remember it."""
        cdef Mark* mark
        cdef uint64_t apart
        cdef int i
        if half.marks and (half.mixed or half.recent[0].number != packet.number):
            for i in range(half.marks):
                mark = &half.recent[i]
                if mark.one != found.mark or mark.two != found.mark2 or mark.number == packet.number:
                    continue
                if packet.ns >= mark.ns:
                    apart = <uint64_t>packet.ns - <uint64_t>mark.ns
                else:
                    apart = <uint64_t>mark.ns - <uint64_t>packet.ns
                if apart <= <uint64_t>self.duplicate_wait:
                    return True
            half.mixed = True
        mark = &half.recent[half.mark_at]
        half.mark_at = (half.mark_at + 1) % DUPLICATES
        half.marks = <int>least(half.marks + 1, DUPLICATES)
        mark.one = found.mark
        mark.two = found.mark2
        mark.number = packet.number
        mark.ns = packet.ns
        return False

    cdef Flow open(self, const Found* found, const uint64_t* key, bint swapped, uint32_t bucket, Arrival* packet):
        """A new flow, oriented: who sent the SYN, else who has the higher port, else who came first."""
        cdef Flow flow
        cdef int side = 0
        if self.count() >= self.most_flows:
            self.evict(1)
        self.shorten(bucket)
        flow = Flow.__new__(Flow)
        flow.books = self.books
        flow.proto = found.proto
        flow.first_ns = flow.last_ns = packet.ns
        flow.iface = self.name(packet.iface)
        if found.proto == PROTO_TCP:
            if found.flags & (SYN | RST) == SYN:
                side = 1 if found.flags & ACK else 0
            else:
                flow.midstream = True
                side = 1 if found.sport < found.dport else 0
        flow.flip = swapped ^ side
        flow.client = (found.dst if side else found.src)[:found.address]
        flow.server = (found.src if side else found.dst)[:found.address]
        flow.client_port = found.dport if side else found.sport
        flow.server_port = found.sport if side else found.dport
        memcpy(flow.key, key, sizeof(flow.key))
        flow.bucket = bucket
        flow.shelf = -1
        flow.consumer = self.on_flow(flow)
        if isinstance(flow.consumer, Listener):
            flow.listener = flow.consumer
        else:
            flow.on_chunk = flow.consumer.chunk
        self.alive.add(flow)
        flow.chain = self.buckets[bucket]
        self.buckets[bucket] = <void*>flow
        self.put(flow, HALF_OPEN if found.proto == PROTO_TCP and not flow.midstream else ACTIVE)
        self.books.counts[C_FLOWS] += 1
        self.books.memory += FLOW_COST
        return flow

    cdef shorten(self, uint32_t bucket):
        """Keep a chain of the table short: its flow that was idle longest goes."""
        cdef void* at = self.buckets[bucket]
        cdef void* oldest = at
        cdef int n = 0
        while at != NULL:
            n += 1
            if (<Flow>at).touched < (<Flow>oldest).touched:
                oldest = at
            at = (<Flow>at).chain
        if n >= CHAIN:
            self.evict_one(<Flow>oldest)

    cdef inline void account(self, Flow flow, Half* half, int64_t captured, int64_t ns) noexcept:
        half.packets += captured
        if half.first_at == 0:
            half.first_at = ns
        if ns > flow.last_ns:
            flow.last_ns = ns
        if self.books.now - flow.touched >= TIMER_GRAIN:
            self.put(flow, flow.shelf)

    # ------------------------------------------------------------ bounds and books

    cdef shrink(self):
        """Back under the memory bound: the oldest idle flows go, then fragments."""
        while self.books.memory + self.pending.memory > self.most_memory and self.count():
            self.evict(1)
        while self.books.memory + self.pending.memory > self.most_memory and self.pending.table:
            self.pending.drop(C_FRAGMENT_LIMIT)

    cdef balance(self):
        """After an exception: the packet that it befell has its place, too."""
        cdef int64_t placed = 0
        cdef int i
        for i in range(C_IN_FLOWS, C_FLOWS):
            placed += self.books.counts[i]
        self.books.counts[C_FAILED] += self.books.counts[C_RECEIVED] - placed
