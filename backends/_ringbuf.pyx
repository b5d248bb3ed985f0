"""Read a BPF ring buffer: the compiled `_ringbuf`. Its plain twin says what it does and why."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

import mmap

cdef extern from *:
    """
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "index records are little-endian: on this machine the plain twin is used"
    #endif
    /* The kernel publishes a record by its length, and writes over what we have given back: order matters. */
    static uint64_t load_position(const void *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE); }
    static uint32_t load_length(const void *p) { return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE); }
    static void store_position(void *p, uint64_t v) { __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELEASE); }
    """
    uint64_t load_position(const void *) noexcept
    uint32_t load_length(const void *) noexcept
    void store_position(void *, uint64_t) noexcept

cdef struct Head:  # struct head of bpf/ring.h
    uint64_t ns
    uint32_t wire
    uint16_t kind, iface

cdef struct Record:  # kshark.api.INDEX_FORMAT
    int64_t ns
    uint32_t offset, kept, wire
    uint16_t number, flags

assert sizeof(Head) == 16 and sizeof(Record) == 24

COMPILED = True

cdef enum:
    KINDS = 8
    HEADER = 8
    BUSY = 1 << 31
    DISCARDED = 1 << 30


cdef class Ring:
    """The ring of the map with descriptor `fd`, of `size` bytes."""

    cdef object _memory
    cdef object _view
    cdef uint8_t[::1] _mine
    cdef const uint8_t[::1] _theirs
    cdef uint64_t _next, _mask
    cdef int64_t _page
    cdef readonly long long seen, unsound

    def __init__(self, int fd, int64_t size):
        self._page = mmap.PAGESIZE
        if size < self._page or size & (size - 1):
            raise ValueError("a ring has a power of two of bytes, a page at least")
        mine = mmap.mmap(fd, self._page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        theirs = mmap.mmap(fd, self._page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=self._page)
        self._memory = (mine, theirs)
        self._view = memoryview(theirs)
        self._mine = mine
        self._theirs = theirs
        self._mask = size - 1
        self._next = load_position(&self._mine[0])

    def read(self, int64_t most, int64_t shift, indexes):
        """Records of up to `most` bytes in all: the memory they lie in, and how many of each kind."""
        cdef uint8_t[::1] index
        cdef uint8_t *places[KINDS]
        cdef int64_t rooms[KINDS]
        cdef int64_t counts[KINDS]
        cdef int kinds = len(indexes), i
        if kinds > KINDS:
            raise ValueError("too many kinds of records")
        for i in range(kinds):
            index = indexes[i]
            places[i] = &index[0]
            rooms[i] = index.shape[0] // 24
            counts[i] = 0
        cdef uint64_t start = load_position(&self._mine[0]), written = load_position(&self._theirs[0])
        cdef uint64_t at = start, end = min(written, start + <uint64_t>max(most, 0)), after
        cdef const uint8_t *data = &self._theirs[0] + self._page
        cdef const uint8_t *record
        cdef uint32_t word, length
        cdef Head head
        cdef Record row
        row.flags = 0
        while at < end and not self.unsound:
            record = data + (at & self._mask)
            word = load_length(record)
            if word & <uint32_t>BUSY:
                break
            length = word & <uint32_t>(DISCARDED - 1)
            after = at + ((length + HEADER + 7) & ~<uint64_t>7)
            if not word & <uint32_t>DISCARDED:
                if length < sizeof(Head) or after > written:
                    self.unsound += 1
                    break
                memcpy(&head, record + HEADER, sizeof(Head))
                if head.kind >= kinds:
                    self.unsound += 1
                    break
                i = head.kind
                if counts[i] >= rooms[i]:
                    break
                row.ns = <int64_t>head.ns + shift
                row.offset = <uint32_t>(at - start + HEADER + sizeof(Head))
                row.kept = min(length - <uint32_t>sizeof(Head), head.wire)
                row.wire = head.wire
                row.number = head.iface
                memcpy(places[i] + counts[i] * 24, &row, 24)
                counts[i] += 1
                self.seen += 1
            at = after
        self._next = at
        cdef int64_t first = self._page + <int64_t>(start & self._mask)
        return self._view[first : first + <int64_t>(at - start)], [counts[i] for i in range(kinds)]

    def give_back(self):
        """What `read` gave may be written over from now on."""
        store_position(&self._mine[0], self._next)

    @property
    def waiting(self):
        """Bytes that nobody has read yet."""
        return load_position(&self._theirs[0]) - load_position(&self._mine[0])

    def close(self):
        """Unmap the ring, once nobody looks at it any more."""
        mine, theirs = self._memory
        self._mine = None
        self._theirs = None
        self._view.release()
        for memory in (mine, theirs):
            try:
                memory.close()
            except BufferError:  # somebody still holds a view: it goes with the last one
                pass
