cimport cython

from kshark.breaker cimport ProtocolState as CState
from kshark.ledger cimport Tally as CTally

cdef int BEGIN, FEED, GAP, END, SLIM

@cython.final
cdef class Carried:
    cdef public object engine, specs
    cdef public dict known, states
    @cython.locals(state=CState, layer=Guarded)
    cpdef object find_layer(self, str content_type, object request)

@cython.final
cdef class Guarded:
    cdef public object engine, layer
    cdef public CState state
    cdef public CTally tally
    cdef public long long now
    cdef public bint dated, slims
    cpdef bint begin(self, object spec, object request) except -1
    cpdef object feed(self, object side, bytes data)
    cpdef object gap(self, object side, object missing)
    cpdef object end(self, object side, object message)
    cpdef slim(self, object side)
    @cython.locals(tally=CTally)
    cpdef object call(self, int what, object first, object second)
    cpdef object ask(self, int what, object first, object second)
