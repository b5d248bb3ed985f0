cimport cython

cdef class Charge:
    cdef public object name
    cdef public str tripped
    cdef public long long patience, errors, bytes, spent, offences, window_bytes, window_spent, window_offences

@cython.final
cdef class ProtocolState(Charge):
    cdef public object spec
    cdef public bint strict
    cdef public long long flows
