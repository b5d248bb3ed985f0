from kshark.feeder cimport Found
cimport cython

@cython.final
cdef class Tally:
    cdef public long long chunks, payload, messages, requests, responses, interim, oneway
    cdef public long long settled, dissected, reserved, dissectors
    cdef public long long ok, error, unanswered, orphan, cut
    cdef public long long feeds
    cdef public object current
    cdef public Found found

@cython.final
cdef class Ledger:
    cdef public Tally tally
    cdef public object wire
    cdef public dict opaque, flows, limits, errors
    cpdef count(self, dict table, str name, long long amount=*)
