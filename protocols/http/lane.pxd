from kshark.protocols.http._head cimport Head as CHead

cdef int REQUEST, RESPONSE, INTERIM
cdef int BAD
cdef long BARE_CR, BARE_LF
cdef long RESYNC
cdef int CHUNK_LINE, HEAD, SEEK, TRAILERS
cdef Py_ssize_t UNDISSECTED, BODY_KEPT, TARGET, LINE, SEEK_LINE

cdef class Lane:
    cdef public CHead head
    cdef public bint answer, started, fresh, line_start, hole
    cdef public int state, after, then
    cdef public bytearray buffer, body
    cdef public bytes trailers
    cdef public object message
    cdef public long flags
    cdef public long long size, left, body_size, gap
    cdef public Py_ssize_t searched
    cpdef clear(self)
    cpdef Py_ssize_t stash(self, bytes data, Py_ssize_t pos) except? -1
    cpdef bint complete(self, bytes data) except -1
    cpdef bint complete_head(self) except -1
    cpdef int start_line(self, bytes data) except? -1
    cpdef bint trusted(self, bytes data, Py_ssize_t pos) except -1
    cpdef half_head(self, bytes held)
    cpdef Py_ssize_t keep(self, bytes data, Py_ssize_t pos, Py_ssize_t end) except? -1
    cpdef Py_ssize_t seek(self, bytes data, Py_ssize_t pos) except? -1
