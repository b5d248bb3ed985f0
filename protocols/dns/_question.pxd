# `kshark.protocols.dns.question`, compiled.

from kshark._message cimport Message

cdef class Question:
    cdef readonly bytes raw
    cdef readonly int type
    cdef readonly unsigned long long digest
    cdef readonly bint local
    cdef readonly str verb, target
    cpdef read(self, bytes data)

cdef struct Waiting:
    long long key
    int ident

cdef class Asked:
    cdef Waiting* waiting  # in the order of their coming
    cdef Py_ssize_t count, room
    cdef Py_ssize_t at(self, int ident) noexcept
    cdef void drop(self, Py_ssize_t at) noexcept
    cpdef put(self, int ident, long long key)
    cpdef long long find(self, int ident, long long otherwise) except? -1
    cpdef answered(self, int ident, long long key)

cpdef bytes piece(bytes data, Py_ssize_t start, Py_ssize_t end)
cpdef Message message(int kind, str verb, str target, int status, bint ok, long long key, bytes data)
