"""Types for compiling `window.py` as it stands."""

cimport cython

@cython.final
cdef class Window:
    cdef public long long seen, held
    cdef public int number, speaker
    cdef public list pieces
    cdef public tuple first, counts
    @cython.locals(shown=bytes, count=cython.int)
    cpdef bint add(self, int side, bytes data, long long ns) except -1
    cpdef _append(self, tuple piece)
    cpdef bint keep(self, int side, bytes data, long long ns) except -1
    cpdef replay(self, list pieces)
    cpdef bint again(self, int side) except -1
    cpdef bint passes(self, int side, long long size) except -1
    cpdef clear(self)
    cpdef bint spoken(self) except -1
    cpdef bint both(self) except -1
