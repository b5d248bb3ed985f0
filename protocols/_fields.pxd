cimport cython

from kshark cimport _message as made
from kshark._message cimport known

cdef long long _UNKNOWN

@cython.locals(at=Py_ssize_t, end=Py_ssize_t, size=cython.longlong, length=cython.longlong)
cpdef bytes value_of(bytes head, bytes wanted)

@cython.locals(size=cython.longlong)
cpdef long long length_at(bytes head, Py_ssize_t at) except? -1
