from kshark._message cimport Message, known
from kshark.identify cimport Choice, View
from kshark.ledger cimport Tally
from kshark.pairing cimport Emitter, Pairing
from kshark.breaker cimport ProtocolState
from kshark.feeder cimport Feeder, Found, fault_of
from kshark.given cimport checked, gather
from kshark.shared cimport Shared
from kshark.window cimport Window
from kshark.wire.listener cimport Listener
cimport cython

cdef int IDENTIFY, DISSECT, OPAQUE, ENDED
cdef int REQUEST, RESPONSE, INTERIM
cdef long long SILENT_BYTES, EARLY_MESSAGES, MESSAGES, REPLAYED, HELD
cdef tuple SIDES, NO_NOTES

cdef class Guard(Listener):
    cdef public Shared engine
    cdef public object wire, dissector, feed, refused, reason, server_name, hint, inner, passed, clear, familiar
    cdef public Tally tally
    cdef public Feeder feeder
    cdef public int state, flip
    cdef public bint oriented, midstream, strict, timed, replaying, proven
    cdef public Window window
    cdef public long long messages, switches, errors, spared, reserved, settled
    cdef public ProtocolState proto
    cdef public Emitter emitter
    cdef public Pairing asked, asked_back
    cdef long long held[2]
    cdef long long since[2]
    cdef long long silent[2]
    cpdef bint chunk(self, int side, bytes data, long long ns) except -1
    @cython.locals(into=Found)
    cpdef bint dissect(self, int side, bytes data, long long ns) except -1
    cpdef bint accept(self, list found, int side, long long ns) except -1
    @cython.locals(first=cython.longlong, last=cython.longlong, size=cython.longlong, stamp=object, sender=cython.int, message=Message)
    cpdef bint heard(self, object item, int side, long long ns) except -1
    cpdef bint rest(self, int side, long long ns) except -1
    @cython.locals(what=cython.int)
    cpdef route(self, Message message, int side)
    cpdef Pairing pairing(self, int asker)
    cpdef reserve(self, long long amount)
    cpdef bint identify(self, int side, bytes data, long long ns) except -1
    cpdef View view(self, tuple first)
    cpdef forget_window(self)
    @cython.locals(proto=ProtocolState, side=cython.int)
    cpdef bint begin(self, Choice choice, object after=*) except -1
    cpdef Choice fresh(self, int side, bytes data, long long ns)
    cpdef prove(self)
    cpdef bint running(self) except -1
    @cython.locals(side=cython.int)
    cpdef leave(self)
    cpdef str name(self)
    @cython.locals(asked=Pairing, asked_back=Pairing)
    cpdef close_pairs(self, object outcome, bint over=*)
    @cython.locals(count=cython.longlong)
    cpdef settle(self, str reason)
    cpdef Pairing new_pairing(self, Emitter emitter, bint swapped)
