from kshark._message cimport cut, first, gap_bytes, key, last, ok, truncated, weight
from kshark.ledger cimport Tally
cimport cython

cdef long long WAITING, PATIENCE, CALM, COST

cdef class Emitter:
    cdef public object flow, protocol, wire
    cdef public list out
    cdef public Tally tally
    cdef public bint midstream
    cdef public long long seq
    @cython.locals(gap=cython.longlong, capped=cython.bint)
    cpdef emit(self, object request, object response, object outcome, bint swapped)
    cpdef count(self, object outcome)

cdef class Pairing:
    cdef public Emitter emitter
    cdef public object ledger
    cdef public Tally tally
    cdef public bint swapped, pipelined, unsure, asked_last
    cdef public object queue
    cdef public dict keyed
    cdef public tuple early
    cdef public long long late, last_ns, calm
    cpdef request(self, object message)
    cpdef wait_keyed(self, object message)
    cpdef response(self, object message)
    cpdef interim(self, object message)
    cpdef give_up(self)
    cpdef release(self, object message, object outcome)
    cpdef bint settled(self, long long now) except? -1
