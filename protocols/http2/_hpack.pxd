cdef class Seen:
    cdef bytes block, head
    cdef long long changes
    cdef int status
    cdef bint fits(self, const unsigned char *p, Py_ssize_t size, long long changes) noexcept

cdef class Decoder:
    cdef public list entries
    cdef public long long size, room
    cdef public bint partial
    cdef public int flags, status
    cdef public bytes head
    cdef public str verb, target
    cdef Seen one, other
    cdef long long changes
    cpdef reset(self)
    cpdef forget(self)
    cpdef widen(self, long long room)
    cpdef resize(self, long long room)
    cpdef int decode(self, bytes block, Py_ssize_t start, Py_ssize_t end) except? -1
    cdef bint again(self, const unsigned char *p, Py_ssize_t size)
    cdef keep(self, const unsigned char *p, Py_ssize_t size)
    cdef int parts(self, bytes block, Py_ssize_t pos, Py_ssize_t end) except -2
    cdef bytes entry(self, long long index)
    cdef add(self, bytes entry)
    cdef evict(self, long long size)
    cdef pseudo(self, bytes head)
    cdef void three(self, const unsigned char *p) noexcept
