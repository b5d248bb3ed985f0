cimport cython

from kshark cimport _message as made
from kshark._message cimport Message, known
from kshark.protocols.grpc.states cimport Call, call_of

cdef int ONEWAY
cdef Py_ssize_t BODY_KEPT, PIECES
cdef int START, PAYLOAD

@cython.final
@cython.freelist(64)
cdef class Lane:
    cdef public bint server, streamed, ended, held, short
    cdef public int state, text, flag
    cdef public long long count, content, packed, length, left, size, gap, first_ns, last_ns
    cdef public Py_ssize_t kept
    cdef public bytes rest, trailers, prefix
    cdef public list pieces
    cpdef begin(self, bint server)
    cpdef clear(self)
    @cython.locals(room=Py_ssize_t)
    cpdef keep(self, bytes piece)
    cpdef bytes body(self)
    cpdef bint under_way(self) except -1
    cpdef whole(self, long long now)
    @cython.locals(there=cython.bint, call=Call)
    cpdef Call call(self, str target, bytes trailers)
    @cython.locals(number=cython.longlong, message=Message, call=Call)
    cpdef Message message(self, str target, long long key, str coding, bint cut)

@cython.locals(lane=Lane)
cpdef Lane lane_of(bint server)
