# IP fragments, held until a datagram is whole. Included by fast.pyx.
#
# Bounds: `fragments` datagrams, `fragment_bytes` of data, FRAGMENT_PIECES a datagram, `fragment_wait`. Rare, therefore
# written with Python's containers.

@cython.final
cdef class Pieces:
    """The pieces of one datagram: sorted offsets and their data, without overlap."""

    cdef list offsets
    cdef list parts
    cdef list packets
    cdef int64_t since
    cdef int64_t size  # of the whole, once its last piece is here
    cdef int64_t filled
    cdef int64_t captured
    cdef int64_t cost
    cdef int proto

    def __cinit__(self, int64_t since):
        self.offsets = []
        self.parts = []
        self.packets = []
        self.since = since
        self.size = self.proto = -1

    cdef int clash(self, int64_t offset, int64_t size, bint more):
        """The counter of why a piece cannot join, or -1."""
        cdef Py_ssize_t at = bisect_left(self.offsets, offset), n = len(self.offsets)
        cdef int64_t end = offset + size, last
        if at < n and self.offsets[at] == offset and len(<bytes>self.parts[at]) == size:
            return C_DUPLICATE
        if self.size >= 0 and (end > self.size or not more):
            return C_FRAGMENT_BAD
        if at < n and <int64_t>self.offsets[at] < end:
            return C_FRAGMENT_BAD
        if at and <int64_t>self.offsets[at - 1] + len(<bytes>self.parts[at - 1]) > offset:
            return C_FRAGMENT_BAD
        if n and not more:
            last = <int64_t>self.offsets[n - 1] + len(<bytes>self.parts[n - 1])
            if last > end:
                return C_FRAGMENT_BAD
        return C_FRAGMENT_LIMIT if n >= FRAGMENT_PIECES else -1


@cython.final
cdef class Pending:
    """All datagrams under reassembly, oldest first."""

    cdef Books books
    cdef object table
    cdef int64_t limit
    cdef int64_t limit_bytes
    cdef int64_t wait
    cdef int64_t filled
    cdef int64_t memory

    def __cinit__(self, Books books, object limits):
        self.books = books
        self.table = OrderedDict()
        self.limit = max(1, limits.fragments)
        self.limit_bytes = limits.fragment_bytes
        self.wait = limits.fragment_wait

    cdef Pieces add(self, Found* piece, uint64_t number, list packets, int64_t captured):
        """Take one piece, of `captured` packets; give its datagram once whole, no longer counted as held."""
        cdef int kind = piece.proto if piece.address == 4 else 44
        cdef tuple key = (
            piece.src[:piece.address], piece.dst[:piece.address], piece.fragment, kind, number, piece.depth
        )
        cdef Pieces found = self.table.get(key)
        cdef int clash
        if found is None:
            while len(self.table) >= self.limit:
                self.drop(C_FRAGMENT_LIMIT)
            found = self.table[key] = Pieces(self.books.now)
        clash = found.clash(piece.offset, piece.length, piece.more)
        if clash >= 0:
            self.books.counts[clash] += captured
            if clash != C_DUPLICATE:
                self.release(self.table.pop(key), clash)
            return None
        self.store(found, piece, packets, captured)
        if found.filled == found.size:
            self.release(self.table.pop(key), -1)
            self.books.counts[C_DEFRAGMENTED] += 1
            return found
        while self.filled > self.limit_bytes and self.table:
            self.drop(C_FRAGMENT_LIMIT)
        return None

    cdef store(self, Pieces found, Found* piece, list packets, int64_t captured):
        cdef Py_ssize_t at = bisect_left(found.offsets, piece.offset)
        cdef int64_t cost = piece.length + HELD_COST
        for packet in packets:
            cost += len(packet.data) + PACKET_COST
        found.offsets.insert(at, piece.offset)
        found.parts.insert(at, <bytes>piece.payload[:piece.length])
        found.packets.extend(packets)
        found.captured += captured
        found.filled += piece.length
        found.cost += cost
        if piece.offset == 0:
            found.proto = piece.proto
        if not piece.more:
            found.size = piece.offset + piece.length
        self.filled += piece.length
        self.memory += cost
        self.books.counts[C_FRAGMENT_HELD] += captured

    cdef release(self, Pieces gone, int reason):
        self.filled -= gone.filled
        self.memory -= gone.cost
        self.books.counts[C_FRAGMENT_HELD] -= gone.captured
        if reason >= 0:
            self.books.counts[reason] += gone.captured

    cdef drop(self, int reason):
        """The oldest goes."""
        self.release(self.table.popitem(False)[1], reason)

    cdef expire(self):
        cdef Pieces oldest
        while self.table:
            oldest = next(iter(self.table.values()))
            if self.books.now - oldest.since < self.wait:
                return
            self.drop(C_FRAGMENT_TIMEOUT)
