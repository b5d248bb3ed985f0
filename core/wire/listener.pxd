cdef class Listener:
    cpdef bint chunk(self, int side, bytes data, long long ns) except -1
