"""Types for compiling `naming.py` as it stands."""

cimport cython

from kshark cimport _digest as digest

cdef Py_ssize_t TEXTS
cdef tuple BYTES

@cython.final
cdef class Addresses:
    cdef public dict texts
    cpdef object end(self, bytes raw, int port)

cpdef str address(bytes raw)
cpdef str identity(object flow)
