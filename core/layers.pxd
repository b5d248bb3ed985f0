cimport cython

from kshark.breaker cimport ProtocolState as CState
from kshark.feeder cimport Rider
from kshark.ledger cimport Tally as CTally

cdef int BEGIN, FEED, GAP, END, SLIM, OVER
cdef tuple NONE, SIDES

@cython.final
cdef class Carried:
    cdef public object engine, specs
    cdef public dict known, states
    @cython.locals(state=CState, states=list, layer=Guarded)
    cpdef object find_layer(self, str content_type, object request)

@cython.final
cdef class Guarded(Rider):
    cdef public object engine, layer
    cdef public Rider rider
    cdef public CState state
    cdef public CTally tally
    cdef public bint dated, overs, slims
    cpdef bint begin(self, object engine, CState state, object request) except -1
    @cython.locals(tally=CTally)
    cpdef object call(self, int what, int side, object told)
    cpdef object ride(self, Rider rider, int what, int side, object told)
    cpdef meet(self, object layer)
    cpdef object ask(self, int what, int side, object told)
