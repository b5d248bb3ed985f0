cimport cython

cdef int ACK, CONTINUATION, DATA, GOAWAY, HEADERS, PADDED, PING, PRIORITIZED, PRIORITY, PUSH_PROMISE, RST_STREAM
cdef int SETTINGS, WINDOW_UPDATE
cdef tuple SIZES

@cython.locals(least=cython.longlong, fixed=cython.bint)
cpdef str fault(long long length, int kind, int flags, long long stream)
