from kshark.protocols.http._head cimport Head as CHead

cimport cython

cdef int REQUEST, RESPONSE, INTERIM, NONE
cdef int BAD
cdef long BARE_CR, BARE_LF
cdef long RESYNC, LOSSY
cdef int CHUNK_LINE, HEAD, SEEK, TRAILERS
cdef Py_ssize_t UNDISSECTED, BODY_KEPT, TARGET, LINE, SEEK_LINE, PIECES

@cython.final
cdef class Lane:
    cdef public CHead head
    cdef public bint answer, started, fresh, line_start, hole, broken
    cdef public int state, after, then, kind, status
    cdef public bytearray buffer
    cdef public bytes trailers, raw
    cdef public str verb, target
    cdef public list pieces
    cdef public long flags
    cdef public long long size, left, body_size, gap, fed
    cdef public object layer
    cdef public Py_ssize_t searched, kept
    cpdef begin(self, int kind, str verb, str target, int status, bytes raw)
    cpdef clear(self)
    @cython.locals(pieces=list, body=bytes)
    cpdef message(self)
    @cython.locals(partial=cython.bint)
    cpdef mark(self, object message)
    cpdef Py_ssize_t stash(self, bytes data, Py_ssize_t pos) except? -1
    cpdef bint complete(self, bytes data) except -1
    cpdef bint complete_head(self) except -1
    cpdef int start_line(self, bytes data) except? -1
    cpdef bint trusted(self, bytes data, Py_ssize_t pos) except -1
    cpdef half_head(self, bytes held)
    @cython.locals(room=Py_ssize_t, stop=Py_ssize_t, pieces=list)
    cpdef Py_ssize_t keep(self, bytes data, Py_ssize_t pos, Py_ssize_t end) except? -1
    cpdef Py_ssize_t seek(self, bytes data, Py_ssize_t pos) except? -1
