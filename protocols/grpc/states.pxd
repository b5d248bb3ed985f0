cimport cython

@cython.final
@cython.freelist(64)
cdef class Call:
    cdef public str target, coding
    cdef public bytes trailers
    cdef public bint server, streamed, body_there, web
    cdef public int flag
    cdef public long long messages, content, packed, number, length
    cpdef begin(self, str target, bint server)

@cython.locals(call=Call)
cpdef Call call_of(str target, bint server)

cpdef bytes trailers_of(object extra)
