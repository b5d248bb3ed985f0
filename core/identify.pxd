"""Types for compiling `identify.py` as it stands."""

cimport cython

cdef int MORE, LIKELY, CERTAIN
cdef object CLIENT, SERVER
cdef tuple REASONS

@cython.final
@cython.no_gc
cdef class Choice:
    cdef public object spec
    cdef public str reason
    cdef public bint flip, certain

@cython.final
@cython.no_gc
cdef class View:
    cdef public tuple first, ports
    cdef public bint oriented
    cdef public str transport, hint
    cdef public object refused

@cython.final
cdef class Prefixes:
    cdef public list tables

cdef class Identifier:
    cdef public dict by_name, assume
    cdef public object probe
    cdef public list probes
    cdef public tuple prefixes
    @cython.locals(more=bint, seen=list, prefixes=Prefixes, verdict=cython.int, flip=bint)
    cpdef tuple decide(self, View view, bint last)
    @cython.locals(best=Choice, best_rank=cython.int, more=bint, verdict=cython.int, rank=cython.int, flip=bint)
    cpdef tuple probe_all(self, View view, list seen)
    cpdef int ask(self, object spec, bytes data, object side) except? -1

cdef bint hinted(object spec, View view) except -1
cdef list looks(View view)
