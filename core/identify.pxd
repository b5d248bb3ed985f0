"""Types for compiling `identify.py` as it stands."""

cimport cython

cdef int MORE, LIKELY, CERTAIN
cdef tuple REASONS

@cython.final
cdef class Prefixes:
    cdef public list tables

cdef class Identifier:
    cdef public dict by_name, assume
    cdef public object probe
    cdef public list probes
    cdef public tuple prefixes
    @cython.locals(more=bint, seen=list, prefixes=Prefixes, verdict=cython.int, flip=bint)
    cpdef tuple decide(self, object view, bint last)
    @cython.locals(best_rank=cython.int, more=bint, verdict=cython.int, rank=cython.int, flip=bint)
    cpdef tuple probe_all(self, object view, list seen)
    cpdef int ask(self, object spec, bytes data, object side) except? -1

cdef bint hinted(object spec, object view) except -1
cdef list looks(object view)
