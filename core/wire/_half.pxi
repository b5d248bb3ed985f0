# One side of a flow: its numbers, what it holds, and what all flows share. Included by fast.pyx.
#
# Positions are 64-bit counts of bytes from the start of a stream; `expect` is the sequence number of position `next`.

cdef struct Mark:
    uint64_t one
    uint64_t two
    uint64_t number
    int64_t ns

cdef struct Half:
    void* flow  # borrowed: the half lies inside it
    int side
    bint known  # the stream's start
    bint seen  # a packet of this side
    bint syn
    bint spoke  # payload of this side was captured
    bint silent  # nothing came since a gap was declared
    bint twice  # there are two SYN-ACKs: the client's ACK tells which one it took
    bint owed  # a skipped byte that was a FIN, unless more follows
    bint closed  # all up to the FIN was delivered
    bint waits  # in the list of holes
    uint32_t expect
    int64_t next
    int64_t acked
    int64_t fin_at
    int64_t held_bytes
    int64_t since  # of its hole
    int64_t watched  # `next` at that time
    int64_t packets
    int64_t bytes
    int64_t first_at
    int marks  # remembered
    int mark_at  # the oldest of them
    bint mixed  # they come from several interfaces
    Mark recent[DUPLICATES]
    Half* earlier  # in the list of holes
    Half* later


@cython.final
@cython.freelist(256)
cdef class Held:
    """Payload that waits for earlier bytes of its side, or for bytes that it answers."""

    cdef int64_t pos
    cdef bytes data
    cdef int64_t missing
    cdef int64_t need  # position of the other side that must be delivered before
    cdef int64_t ns


cdef Held make_held(int64_t pos, bytes data, int64_t missing, int64_t need, int64_t ns):
    cdef Held held = Held.__new__(Held)
    held.pos = pos
    held.data = data
    held.missing = missing
    held.need = need
    held.ns = ns
    return held


@cython.final
cdef class Books:
    """What all flows of one wire share: bounds, counters, memory, and the acknowledged holes, oldest first."""

    cdef int64_t counts[C_END]
    cdef int64_t memory
    cdef int64_t now
    cdef Half* oldest_hole
    cdef Half* newest_hole
    cdef Py_ssize_t holes
    cdef int64_t ooo_segments
    cdef int64_t ooo_bytes
    cdef int64_t kept_packets
    cdef int64_t kept_bytes

    cdef void wait_for(self, Half* half) noexcept:
        """To the end of the list of holes."""
        if half.waits:
            self.wait_no_more(half)
        half.since = self.now
        half.watched = half.next
        half.waits = True
        half.later = NULL
        half.earlier = self.newest_hole
        if self.newest_hole != NULL:
            self.newest_hole.later = half
        else:
            self.oldest_hole = half
        self.newest_hole = half
        self.holes += 1

    cdef void wait_no_more(self, Half* half) noexcept:
        if not half.waits:
            return
        half.waits = False
        if half.earlier != NULL:
            half.earlier.later = half.later
        else:
            self.oldest_hole = half.later
        if half.later != NULL:
            half.later.earlier = half.earlier
        else:
            self.newest_hole = half.earlier
        half.earlier = half.later = NULL
        self.holes -= 1


cdef inline bint may(const Half* me, const Half* peer, int64_t need) noexcept:
    """Causality: an answer is delivered after what it answers."""
    return not peer.seen or peer.silent or peer.closed or need <= peer.next


cdef inline void move(Half* half, int64_t to) noexcept:
    half.expect += <uint32_t>(to - half.next)
    half.next = to


cdef inline void begin(Half* half, uint32_t seq) noexcept:
    """The stream starts at this sequence number."""
    half.known = True
    half.expect = seq
    half.next = half.acked = 0
    half.owed = half.closed = half.twice = False
    half.fin_at = -1


cdef void skim(Half* half, int64_t pos, int64_t size, int64_t missing) noexcept:
    """Count bytes that advance the stream, without looking after holes; a FIN may be early and says nothing."""
    size += missing  # cut off or not, they were sent
    half.bytes += most(0, least(size, pos + size - half.next))
    if size and pos + size > half.next:
        move(half, pos + size)
