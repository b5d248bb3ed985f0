from kshark.ledger cimport Tally
from kshark.pairing cimport Emitter, Pairing
from kshark.breaker cimport ProtocolState

cdef class Guard:
    cdef public object engine, wire, dissector, feed, refused, reason, server_name
    cdef public Tally tally
    cdef public int state, flip
    cdef public bint oriented, midstream, strict, timed, replaying, proven
    cdef public object window
    cdef public long long messages, errors, reserved, settled
    cdef public ProtocolState proto
    cdef public Emitter emitter
    cdef public Pairing asked, asked_back
    cdef long long held[2]
    cdef long long since[2]
    cdef long long silent[2]
    cpdef bint chunk(self, int side, bytes data, long long ns) except -1
    cpdef bint dissect(self, int side, bytes data, long long ns) except -1
    cpdef bint accept(self, list found, int side, long long ns) except -1
    cpdef route(self, object message, int side)
    cpdef Pairing pairing(self, int asker)
    cpdef reserve(self, long long amount)
