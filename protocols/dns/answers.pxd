"""Types for compiling `answers.py` as it stands."""

cimport cython

from kshark.protocols.dns cimport _question as question
from kshark.protocols.dns.walk cimport after

cdef int CNAME, IN, ADDRESS, ADDRESS6, INCOMPLETE, POINTER, SHORTEST

@cython.locals(size=Py_ssize_t, at=Py_ssize_t, start=Py_ssize_t, kind=cython.int, length=cython.int, ttl=cython.longlong, found=list)
cpdef list addresses(bytes data)
