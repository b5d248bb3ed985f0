"""Types for compiling `window.py` as it stands."""

cimport cython

cdef Py_ssize_t PROBE_BYTES, REPLAYED
cdef int PROBE_CHUNKS
cdef long long COST
cdef tuple NOTHING, NONE

@cython.final
@cython.no_gc
cdef class Window:
    cdef public long long seen, held
    cdef public int number, speaker
    cdef public list pieces
    cdef public tuple first, counts
    @cython.locals(before=bytes, shown=bytes, room=Py_ssize_t, count=cython.int)
    cpdef bint add(self, int side, bytes data, long long ns) except -1
    @cython.locals(data=bytes)
    cpdef _append(self, tuple piece)
    cpdef bint keep(self, int side, bytes data, long long ns) except -1
    cpdef replay(self, list pieces)
    cpdef bint again(self, int side) except -1
    cpdef bint passes(self, int side, long long size) except -1
    cpdef clear(self)
    cpdef bint spoken(self) except -1
    cpdef bint both(self) except -1
