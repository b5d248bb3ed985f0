cdef class Frame:
    cdef public int first
    cdef public long long length, reads
    cdef public bytes key
    cdef public Py_ssize_t end
    cdef public bint odd
    cpdef Py_ssize_t read(self, bytes data, Py_ssize_t at, bint client, int rsv, bint lenient=*) except? -1

cpdef str fault(int first, int second, bint client, int rsv)
cpdef bytes unmask(bytes data, bytes key, long long done)
