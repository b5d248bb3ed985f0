"""Types for compiling `shared.py` as it stands: a guard calls its methods at the cost of C functions."""

cimport cython

from kshark.breaker cimport ProtocolState
from kshark.identify cimport Choice, Identifier, View
from kshark.ledger cimport Ledger, Tally
from kshark.naming cimport Addresses, identity
from kshark.pairing cimport Emitter

cdef dict TRANSPORTS
cdef long long PATIENCE
cdef object NO

cdef class Shared:
    cdef public object settings, shown, clear, unread
    cdef public str backend
    cdef public bint keeps
    cdef public Tally tally
    cdef public Ledger ledger
    cdef public list out
    cdef public dict carried, assume, guards, timers, specs, states, identifiers
    cdef public long long since
    cdef public Addresses addresses
    cpdef str transport(self, object flow)
    cpdef Choice assumed(self, object flow)
    @cython.locals(identifier=Identifier)
    cpdef tuple decide(self, View view, bint last)
    cpdef ProtocolState state_of(self, object spec)
    @cython.locals(state=ProtocolState, tally=Tally)
    cpdef object probe(self, object spec, bytes data, object side)
    @cython.locals(began=object)
    cpdef object describe(self, object flow, bint flip, str protocol, str reason)
    @cython.locals(emitter=Emitter)
    cpdef Emitter emitter(self, object flow, bint midstream, object source, Emitter before)
    cpdef watch(self, object guard, long long since)
    cpdef forget(self, object guard)
    cpdef settle(self, long long packets, str reason)
