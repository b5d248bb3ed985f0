"""Types for compiling `identify.py` as it stands."""

cimport cython

from kshark.protocols.dns.walk cimport sane, walk

cdef int ANSWER, NO, USUAL, SHORTEST
cdef Py_ssize_t PROBE_BYTES
cdef object CERTAIN, LIKELY

cpdef object probe_datagram(bytes data, int side)
@cython.locals(found=cython.int)
cdef object opinion(bytes data, int side, bint cut)
