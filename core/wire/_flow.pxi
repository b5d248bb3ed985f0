# A flow and the reassembly of its two streams. Included by fast.pyx; the rules are those of `kshark.wire`.
#
# Positions: see _half.pxi.

@cython.final
cdef class Flow:
    """A `kshark.wire.WireFlow`, and for TCP its reassembly."""

    cdef readonly int proto
    cdef readonly bytes client
    cdef readonly bytes server
    cdef readonly int client_port
    cdef readonly int server_port
    cdef readonly int64_t first_ns
    cdef readonly int64_t last_ns
    cdef readonly bint midstream
    cdef readonly bint refused
    cdef readonly str iface
    cdef Books books
    cdef object consumer
    cdef object on_chunk
    cdef Listener listener  # the consumer again, where it is one
    cdef bint opaque
    cdef bint ended
    cdef Half halves[2]
    cdef list held0
    cdef list held1
    cdef list kept
    cdef int64_t kept_bytes
    # the table's
    cdef uint64_t key[5]
    cdef uint32_t bucket
    cdef int flip  # the client is the greater end of the key
    cdef int shelf
    cdef int64_t touched
    cdef void* chain
    cdef void* older
    cdef void* newer

    def __cinit__(self):
        cdef int side
        self.held0 = []
        self.held1 = []
        for side in range(2):
            self.halves[side].flow = <void*>self
            self.halves[side].side = side
            self.halves[side].fin_at = -1
            self.halves[side].watched = -1

    # ------------------------------------------------------------ what consumers may ask

    @property
    def established(self):
        return bool(
            (self.halves[0].syn and self.halves[1].syn) or (self.halves[0].spoke and self.halves[1].spoke)
        )

    def packets(self, int side):
        return self.halves[side & 1].packets

    def bytes(self, int side):
        return self.halves[side & 1].bytes

    def first_at(self, int side):
        return self.halves[side & 1].first_at

    def take_packets(self):
        cdef list kept = self.kept
        if kept is None:
            return []
        self.kept = None
        self.books.memory -= self.kept_bytes + PACKET_COST * len(kept)
        self.kept_bytes = 0
        return kept

    cdef keep(self, list packets):
        """Keep packets within the limits; the first ones are worth more than the last."""
        cdef Py_ssize_t size
        if self.kept is None:
            self.kept = []
        for packet in packets:
            size = len(packet.data)
            if len(self.kept) >= self.books.kept_packets or self.kept_bytes + size > self.books.kept_bytes:
                self.books.counts[C_NOT_KEPT] += 1
                continue
            self.kept.append(packet)
            self.kept_bytes += size
            self.books.memory += size + PACKET_COST

    # ------------------------------------------------------------ to the consumer

    cdef inline list held(self, const Half* half):
        return self.held1 if half.side else self.held0

    cdef inline bint over(self) noexcept:
        """Nothing more is wanted."""
        return self.opaque or self.ended

    cdef give(self, Half* half, bytes data, int64_t ns):
        half.bytes += len(data)
        cdef Listener listener = self.listener
        if listener is not None:
            if listener.chunk(half.side, data, ns):
                self.shut()
        elif self.on_chunk is not None and self.on_chunk(half.side, data, ns):
            self.shut()

    cdef lose(self, Half* half, int64_t missing, int64_t ns):
        self.books.counts[C_GAPS] += 1
        self.books.counts[C_GAP_BYTES] += missing
        if self.consumer is not None and self.consumer.gap(half.side, missing, ns):
            self.shut()

    cdef shut(self):
        """No more bytes, please: what is held is only counted."""
        cdef Half* half
        cdef Held held
        cdef int side
        if self.over():
            return
        self.opaque = True
        for side in range(2):
            half = &self.halves[side]
            for held in self.held(half):
                skim(half, held.pos, len(held.data), held.missing)
            self.release(half)
            self.books.wait_no_more(half)
            half.closed = half.closed or half.fin_at >= 0

    cdef release(self, Half* half):
        cdef list held = self.held(half)
        if held:
            self.books.memory -= half.held_bytes + HELD_COST * len(held)
            half.held_bytes = 0
            held.clear()

    cdef datagram(self, Half* half, Found* found, int64_t ns):
        """UDP and ICMP."""
        half.seen = True
        if found.length:
            half.spoke = True
        half.bytes += found.missing  # cut off or not, they were sent
        if self.opaque:
            half.bytes += found.length
            return
        if found.length:
            self.give(half, found.payload[:found.length], ns)
        if found.missing and not self.opaque:
            self.lose(half, found.missing, ns)

    # ------------------------------------------------------------ TCP

    cdef segment(self, Half* me, Found* found, int64_t ns):
        """Take a segment that is no RST."""
        cdef Half* peer = &self.halves[1 - me.side]
        cdef int64_t need = ANYTIME
        cdef uint32_t seq = found.seq
        cdef bint work = found.length or found.missing or found.flags & FIN
        me.seen = True
        me.silent = False
        if found.flags & SYN:
            self.handshake(me, peer, found)
            seq += 1
        if found.flags & ACK:
            need = self.acknowledge(peer, found.ack, work or found.flags & SYN)
        if work:
            self.payload(me, peer, seq, found, need, ns)
            self.settle(me, ns)

    cdef bint closed(self) noexcept:
        return self.halves[0].closed and self.halves[1].closed

    cdef bint fresh(self, const Half* half, const Found* found) noexcept:
        """Whether a SYN with this number begins another connection: the port was used again."""
        cdef const Half* peer = &self.halves[1 - half.side]
        cdef uint32_t late
        if found.flags & ACK and peer.known and peer.expect - <uint32_t>peer.next == found.ack:
            return False  # it answers this connection's SYN
        if half.known:
            late = half.expect - <uint32_t>half.next - found.seq - 1
            if late == 0 or (self.midstream and not self.ended and late <= RST_WINDOW):
                return False
        if self.ended:
            return True
        if not half.known:  # nothing but ACKs came so far: they were another connection's last
            return self.midstream and not peer.known
        return (
            self.midstream or self.halves[0].spoke or self.halves[1].spoke
            or self.halves[0].fin_at >= 0 or self.halves[1].fin_at >= 0
        )

    cdef void handshake(self, Half* me, Half* peer, const Found* found) noexcept:
        cdef uint32_t first = found.seq + 1
        if me.known and first == me.expect - <uint32_t>me.next:
            me.syn = True
            self.midstream = self.midstream and not peer.syn
        elif me.known and found.flags & ACK and (me.syn or me.spoke):
            me.twice = True
            peer.seen = False  # its next packet is looked at closely
        elif not (self.midstream and me.known):
            if me.known and not found.flags & ACK:
                begin(peer, 0)
                peer.known = peer.syn = False
            me.syn = True
            begin(me, first)

    cdef int64_t acknowledge(self, Half* peer, uint32_t ack, bint says) noexcept:
        """Learn from an ACK number; the position that it needs to be delivered first."""
        cdef int32_t ahead
        if not peer.known:
            if self.midstream and not says:
                return ANYTIME
            begin(peer, ack)
            return 0
        if peer.twice:
            peer.twice = False
            if not peer.next and not peer.spoke:
                begin(peer, ack)
        ahead = <int32_t>(ack - peer.expect)
        if ahead > BELIEVED:
            return ANYTIME
        if ahead > 0 and peer.next + ahead > peer.acked:
            peer.acked = peer.next + ahead
            if not self.opaque:
                self.watch(peer)
        return peer.next + ahead

    cdef payload(self, Half* me, Half* peer, uint32_t seq, Found* found, int64_t need, int64_t ns):
        cdef int64_t size = found.length, missing = found.missing, pos, end
        if not me.known:  # the lone byte of a keep-alive probe comes before the stream
            begin(me, seq + (self.midstream and size == 1 and not found.flags & (PSH | FIN)))
        if size or missing:
            me.spoke = True
        pos = <int64_t><uint32_t>(seq - me.expect)
        if pos >= AHEAD:
            pos -= <int64_t>1 << 32
        pos += me.next
        end = pos + size + missing
        if me.closed and not self.opaque:
            self.books.counts[C_RETRANSMITTED] += 1
            return
        if found.flags & FIN and not self.opaque:
            self.finish_at(me, end, ns)
        if self.opaque:
            skim(me, pos, size, missing)
            me.closed = me.closed or found.flags & FIN
        elif not size and not missing:
            pass
        elif end <= me.next:
            self.books.counts[C_RETRANSMITTED] += 1
        elif not self.held(me) and pos <= me.next and may(me, peer, need):
            self.deliver(me, pos, found.payload, size, missing, None, ns)
        else:
            self.hold(me, pos, found.payload, size, missing, need, ns)

    cdef finish_at(self, Half* me, int64_t end, int64_t ns):
        """A FIN; the first one that is not old counts."""
        cdef bint owed = me.owed
        if me.fin_at >= 0 or end < me.next - owed:
            return
        me.fin_at = end
        if end < me.next:  # the byte owed was this FIN
            me.owed = False
            move(me, end)
        elif owed:
            self.lose(me, 1, ns)
            me.owed = False

    cdef deliver(
        self, Half* me, int64_t pos, const uint8_t* data, int64_t size, int64_t missing, bytes whole, int64_t ns
    ):
        """Give what is new of a segment that starts at or before the expected byte; `whole` is its data, if held."""
        cdef list held
        cdef int64_t old
        if me.owed:
            me.owed = False
            self.lose(me, 1, ns)
        if 0 <= me.fin_at < pos + size + missing:  # after a FIN comes nothing
            missing = most(0, least(missing, me.fin_at - pos - size))
            if me.fin_at < pos + size:
                size = most(0, me.fin_at - pos)
                whole = None
        old = me.next - pos
        if old < size:
            if old:
                self.books.counts[C_OVERLAP] += 1
                data += old
                size -= old
                whole = None
                old = 0
            if self.opaque:
                skim(me, me.next, size, missing)
                return
            move(me, me.next + size)
            self.give(me, data[:size] if whole is None else whole, ns)
        else:
            old -= size
        missing -= old
        held = self.held(me)
        if held:
            missing = least(missing, (<Held>held[0]).pos - me.next)
        if missing > 0 and not self.ended:
            move(me, me.next + missing)
            me.bytes += missing
            if not self.opaque:
                self.lose(me, missing, ns)

    cdef hold(
        self, Half* me, int64_t pos, const uint8_t* data, int64_t size, int64_t missing, int64_t need, int64_t ns
    ):
        """Keep the parts that are not here yet, in order: the first copy wins."""
        cdef list held = self.held(me)
        cdef Held one
        cdef int64_t end = pos + size, at = most(pos, me.next), stop, kept = 0
        cdef list parts = []
        if at < end:
            for one in held:
                stop = one.pos + len(one.data)
                if stop == one.pos or stop <= at:
                    continue
                if one.pos >= end:
                    break
                if one.pos > at:
                    parts.append(make_held(at, data[at - pos:one.pos - pos], 0, need, ns))
                    kept += one.pos - at
                at = stop
            if at < end:
                parts.append(make_held(at, data[at - pos:size], missing, need, ns))
                kept += end - at
        else:  # nothing but a missing tail
            size = 0
            at = most(at, end)
            missing = end + missing - at
            for one in held:
                if one.pos == at and not one.data:
                    missing = 0
            if missing > 0:
                parts.append(make_held(at, b"", missing, need, ns))
        if not parts:
            self.books.counts[C_RETRANSMITTED] += 1
            return
        self.books.counts[C_OUT_OF_ORDER] += 1
        if kept < size:
            self.books.counts[C_OVERLAP] += 1
        for one in parts:
            self.insert(me, held, one)

    cdef insert(self, Half* me, list held, Held new):
        cdef Py_ssize_t at = len(held)
        while at and (<Held>held[at - 1]).pos > new.pos:
            at -= 1
        held.insert(at, new)
        me.held_bytes += len(new.data)
        self.books.memory += len(new.data) + HELD_COST

    cdef pop(self, Half* half):
        """Deliver the first held segment."""
        cdef Held held = self.held(half).pop(0)
        half.held_bytes -= len(held.data)
        self.books.memory -= len(held.data) + HELD_COST
        self.deliver(
            half, held.pos, <const uint8_t*>PyBytes_AS_STRING(held.data), len(held.data), held.missing, held.data,
            held.ns,
        )

    cdef bint run(self, Half* half, Half* peer) except -1:
        """Deliver what one side has ready; whether anything moved."""
        cdef list held = self.held(half)
        cdef Held first
        cdef bint moved = False
        while not self.over() and not half.closed:
            if half.fin_at >= 0 and half.next >= half.fin_at:
                move(half, most(half.next, half.fin_at + 1))
                half.closed = moved = True
                self.release(half)
            elif held:
                first = held[0]
                if first.pos > half.next or not may(half, peer, first.need):
                    break
                self.pop(half)
                moved = True
            else:
                break
        return moved

    cdef drain(self, Half* half):
        """Deliver what is ready on either side, until neither moves."""
        cdef int idle = 0
        cdef Half* peer
        while idle < 2 and not self.over():
            peer = &self.halves[1 - half.side]
            idle = 0 if self.run(half, peer) else idle + 1
            half = peer

    cdef settle(self, Half* half, int64_t ns):
        """After news of one side: deliver, keep to the bounds, look after holes."""
        cdef int side
        cdef Half* one
        self.drain(half)
        for side in range(2):
            one = &self.halves[side]
            while not self.over() and (
                len(self.held(one)) > self.books.ooo_segments or one.held_bytes > self.books.ooo_bytes
            ):
                self.force(one)
                self.drain(one)
        self.watch(&self.halves[0])
        self.watch(&self.halves[1])

    cdef force(self, Half* half):
        """Wait no longer for what stands before the first held segment of a side."""
        cdef Half* peer = &self.halves[1 - half.side]
        cdef Held first = self.held(half)[0]
        cdef list others = self.held(peer)
        cdef Held other = others[0] if others else None
        if first.pos > half.next:
            self.skip(half, first.pos, first.ns)
        elif may(half, peer, first.need):
            self.pop(half)
        elif other is not None and other.pos <= peer.next:  # each waits for the other: nonsense
            self.pop(peer)
        elif other is not None and other.pos < first.need:
            self.skip(peer, other.pos, other.ns)
        else:
            self.skip(peer, first.need, first.ns)

    cdef skip(self, Half* half, int64_t to, int64_t ns):
        """Declare bytes lost, piece by piece: what the peer said after one piece is delivered after it."""
        cdef Half* peer = &self.halves[1 - half.side]
        cdef list held
        cdef Held heard
        if half.fin_at >= 0:
            to = least(to, half.fin_at)
        while not self.over():
            held = self.held(peer)
            heard = held[0] if held else None
            if heard is None or heard.pos > peer.next or not half.next < heard.need < to:
                self.give_up(half, to, ns)
                return
            self.give_up(half, heard.need, ns)
            half.silent = False
            self.run(peer, half)

    cdef give_up(self, Half* half, int64_t to, int64_t ns):
        """Declare bytes lost. A single acknowledged one may have been a FIN: it is owed until more comes."""
        cdef int64_t missing = to - half.next + (1 if half.owed else 0)
        if to <= half.next:
            return
        move(half, to)
        half.silent = not self.held(half)  # what is held comes next, and before what answers it
        half.owed = missing == 1 and half.silent and half.fin_at < 0
        if not half.owed:
            self.lose(half, missing, ns)

    cdef void watch(self, Half* half) noexcept:
        """Keep the list of acknowledged holes, by when they last moved."""
        if not half.known or half.acked <= half.next or half.closed or self.over():
            self.books.wait_no_more(half)
        elif not half.waits or half.watched != half.next:
            self.books.wait_for(half)

    cdef declare(self, Half* half):
        """An acknowledged hole has waited long enough."""
        cdef list held = self.held(half)
        cdef Held first = held[0] if held else None
        if first is not None and first.pos <= half.next:  # it is here, and waits for the other side
            half.watched = -1
            self.watch(half)
            return
        if first is not None and first.pos <= half.acked:
            self.skip(half, first.pos, first.ns)
        else:
            self.skip(half, half.acked, self.books.now)
        self.settle(half, self.books.now)

    cdef flush(self, int64_t ns):
        """The flow ends: deliver what is held, and declare every hole that is known."""
        cdef Half* half
        cdef int side
        cdef int64_t to
        self.drain(&self.halves[0])
        while (self.held0 or self.held1) and not self.over():
            half = &self.halves[0 if self.held0 else 1]
            self.force(half)
            self.drain(half)
        for side in range(2):
            half = &self.halves[side]
            to = most(half.acked, half.fin_at)
            if half.known and to > half.next and not half.closed and not self.over():
                self.skip(half, to, ns)
