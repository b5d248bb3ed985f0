cimport cython

@cython.final
cdef class ProtocolState:
    cdef public object spec, name, tripped
    cdef public bint strict
    cdef public long long flows, bytes, errors, samples, offences, window_bytes, window_samples
