cimport cython

from kshark cimport _message as made
from kshark._message cimport Message, known
from kshark.feeder cimport Rider

cdef int RESPONSE
cdef Py_ssize_t BODY_KEPT, TARGET, PIECES
cdef long LONG_TARGET, LOSSY, RESET

@cython.final
@cython.freelist(64)
cdef class Half:
    cdef public int kind, status
    cdef public long flags
    cdef public long long first_ns, last_ns, body_size, size, gap, fed
    cdef public Py_ssize_t kept
    cdef public bint headed, broken, error, missed, hole, given
    cdef public str verb, target
    cdef public bytes head, trailers
    cdef public list pieces
    cdef public tuple interim
    cdef public Rider layer
    cdef public Message told
    cpdef begin(self, int kind, long long first_ns)
    cpdef keep(self, bytes piece)
    cpdef Py_ssize_t held(self) except -1
    cpdef bytes body(self)
    @cython.locals(target=str, message=Message)
    cpdef Message message(self, long long key)
    @cython.locals(message=Message)
    cpdef Message asked(self, long long key)
    cpdef Message completed(self, Message message)
    cpdef Message finished(self, Message message)
    @cython.locals(partial=cython.bint, unsure=cython.bint, short=cython.bint)
    cpdef mark(self, Message message)

@cython.final
@cython.freelist(64)
cdef class Stream:
    cdef public long long number
    cdef public Half asked, answer
    cdef public Rider layer
    cdef public bint ready, lossy, told, tunnel
    cpdef begin(self, long long number)

@cython.locals(half=Half)
cpdef Half half_of(int kind, long long first_ns)

@cython.locals(stream=Stream)
cpdef Stream stream_of(long long number)
