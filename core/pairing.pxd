from kshark cimport _message as made
from kshark._message cimport Entry, Message, known
from kshark.ledger cimport Ledger, Tally
cimport cython

cdef object NOTHING
cdef long long WAITING, PATIENCE, CALM, STEADY, MATCHED, COST

@cython.final
cdef class Emitter:
    cdef public object flow, protocol, wire, shown
    cdef public list out
    cdef public Tally tally
    cdef public bint midstream, muted
    cdef public long long seq
    @cython.locals(entry=Entry, gap=cython.longlong, capped=cython.bint)
    cpdef emit(self, Message request, Message response, object outcome, bint swapped)

@cython.final
cdef class Pairing:
    cdef public Emitter emitter
    cdef public Ledger ledger
    cdef public Tally tally
    cdef public bint swapped, stacked, pipelined, unsure, guessed
    cdef public object queue, doubt, last_ns
    cdef public dict keyed
    cdef public tuple early
    cdef public Message ahead, first, inherited
    cdef public long long late
    cpdef request(self, Message message)
    cpdef wait_keyed(self, Message message)
    @cython.locals(asked=Message)
    cpdef response(self, Message message)
    cpdef pair(self, Message asked, Message message)
    cpdef bint idle(self) except -1
    cpdef orphan_ahead(self)
    cpdef close(self, object outcome, bint over=*)
    cpdef interim(self, Message message)
    cpdef give_up(self)
    cpdef Py_ssize_t waiting(self) except -1
    @cython.locals(first=Message)
    cpdef Message turn(self)
    cpdef release(self, Message message, object outcome)
    cpdef bint matched(self, Message message) except -1

cdef long long weight(Message message) except? -1
