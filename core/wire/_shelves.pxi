# The flows of a wire by when they were last touched, how they end, and timers. Included by fast.pyx.
#
# `Wire` is the only class that stands on this one; its methods are final, which makes them plain C calls.

cdef enum:
    LINGERING = 0
    HALF_OPEN
    ACTIVE
    SHELVES

cdef struct Shelf:
    void* oldest
    void* newest
    Py_ssize_t count


cdef class Shelves:
    """The part of `Wire` that knows how old flows are."""

    cdef Books books
    cdef Pending pending
    cdef set alive  # owns the flows
    cdef void** buckets
    cdef Shelf shelves[SHELVES]
    cdef int64_t checked
    cdef int64_t most_flows, gap_wait, half_open, idle, close_linger

    # ------------------------------------------------------------ shelves: flows by when they were last touched

    @cython.final
    cdef inline int64_t count(self) noexcept:
        return self.shelves[0].count + self.shelves[1].count + self.shelves[2].count

    @cython.final
    cdef void take(self, Flow flow) noexcept:
        cdef Shelf* shelf
        if flow.shelf < 0:
            return
        shelf = &self.shelves[flow.shelf]
        if flow.older != NULL:
            (<Flow>flow.older).newer = flow.newer
        else:
            shelf.oldest = flow.newer
        if flow.newer != NULL:
            (<Flow>flow.newer).older = flow.older
        else:
            shelf.newest = flow.older
        shelf.count -= 1
        flow.older = flow.newer = NULL
        flow.shelf = -1

    @cython.final
    cdef void put(self, Flow flow, int number) noexcept:
        """To the young end of a shelf."""
        cdef Shelf* shelf = &self.shelves[number]
        self.take(flow)
        flow.touched = self.books.now
        flow.shelf = number
        flow.older = shelf.newest
        flow.newer = NULL
        if shelf.newest != NULL:
            (<Flow>shelf.newest).newer = <void*>flow
        else:
            shelf.oldest = <void*>flow
        shelf.newest = <void*>flow
        shelf.count += 1

    @cython.final
    cdef void* oldest(self) noexcept:
        """Whom to evict. Half-open flows fill at most a quarter of the table (SYN flood)."""
        cdef void* waiting = self.shelves[HALF_OPEN].oldest
        cdef void* active = self.shelves[ACTIVE].oldest
        if self.shelves[LINGERING].oldest != NULL:
            return self.shelves[LINGERING].oldest
        if waiting == NULL or active == NULL:
            return active if waiting == NULL else waiting
        if self.shelves[HALF_OPEN].count * 4 > self.most_flows or (<Flow>waiting).touched < (<Flow>active).touched:
            return waiting
        return active

    # ------------------------------------------------------------ ends

    @cython.final
    cdef end(self, Flow flow, int reason, int64_t ns):
        """Flush and end a flow; after FIN or RST it lingers, else it is gone."""
        cdef int side
        cdef object consumer
        if not flow.ended:
            flow.flush(ns)
        if flow.ended:
            if reason == END_REUSED:
                self.unlink(flow)
            return
        flow.ended = True
        for side in range(2):
            flow.release(&flow.halves[side])
            self.books.wait_no_more(&flow.halves[side])
        if reason == END_FIN or reason == END_RST:
            self.put(flow, LINGERING)
        else:
            self.unlink(flow)
        consumer = flow.consumer
        flow.consumer = flow.on_chunk = flow.listener = None
        try:
            consumer.end(reason, ns)
        finally:
            if flow.kept is not None:
                flow.take_packets()

    @cython.final
    cdef unlink(self, Flow flow):
        """Out of the table."""
        cdef void* at = self.buckets[flow.bucket]
        if flow.shelf < 0:
            return
        self.take(flow)
        if at == <void*>flow:
            self.buckets[flow.bucket] = flow.chain
        else:
            while (<Flow>at).chain != <void*>flow:
                at = (<Flow>at).chain
            (<Flow>at).chain = flow.chain
        flow.chain = NULL
        self.books.memory -= FLOW_COST
        self.alive.discard(flow)

    @cython.final
    cdef evict_one(self, Flow flow):
        if flow.ended:
            self.unlink(flow)
            return
        self.books.counts[C_EVICTED] += 1
        self.end(flow, END_EVICTED, self.books.now)

    # ------------------------------------------------------------ time

    @cython.final
    cdef run_timers(self):
        cdef int64_t now = self.books.now
        cdef Py_ssize_t n = self.books.holes
        cdef Half* half
        cdef Flow flow
        self.checked = now
        while n > 0:
            n -= 1
            half = self.books.oldest_hole
            if half == NULL or now - half.since < self.gap_wait:
                break
            flow = <Flow>half.flow
            flow.declare(half)
            if flow.closed():
                self.end(flow, END_FIN, now)
        self.timeout(HALF_OPEN, self.half_open, END_HALF_OPEN, C_HALF_OPEN)
        self.timeout(ACTIVE, self.idle, END_IDLE, C_IDLE)
        while self.shelves[LINGERING].oldest != NULL:
            flow = <Flow>self.shelves[LINGERING].oldest
            if now - flow.touched < self.close_linger:
                break
            self.unlink(flow)
        self.pending.expire()

    @cython.final
    cdef timeout(self, int number, int64_t wait, int reason, int counter):
        cdef Shelf* shelf = &self.shelves[number]
        cdef Flow flow
        while shelf.oldest != NULL:
            flow = <Flow>shelf.oldest
            if self.books.now - flow.touched < wait:
                return
            self.books.counts[counter] += 1
            self.end(flow, reason, self.books.now)
