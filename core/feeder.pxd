cimport cython

from kshark._message cimport Message, known

@cython.final
cdef class Found:
    cdef public object first
    cdef public list more
    cdef public Py_ssize_t count
    cdef public long long now
    cpdef append(self, object message)
    cpdef object only(self)
    cpdef list drain(self)

cpdef object fault_of(Feeder feeder, int side, bytes data, Found found)

cdef class Feeder:
    cpdef take(self, int side, bytes data, Found found)

cdef class Rider:
    cdef public long long now
    cpdef object feed(self, int side, bytes data)
    cpdef object gap(self, int side, long long missing)
    cpdef object end(self, int side, Message message)
    cpdef slim(self, int side)
    cpdef object over(self, int side)
