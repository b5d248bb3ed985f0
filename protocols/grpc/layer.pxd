cimport cython

from kshark cimport _message as made
from kshark._message cimport Message, known
from kshark.feeder cimport Rider
from kshark.protocols.grpc.lane cimport Lane as CLane, lane_of
from kshark.protocols.grpc.states cimport Call, trailers_of
from kshark.protocols.grpc.verdict cimport judge

cdef Py_ssize_t BODY_KEPT, LANE_TRAILERS
cdef int START, PAYLOAD, TRAILER, OVER, LOST, BROKEN, PREFIX, BASE64, RAW
cdef tuple NONE
cdef bytes FINE
cdef str NAME, FINE_NAME
cdef dict METHODS
cdef Py_ssize_t KNOWN

@cython.locals(method=str)
cpdef str method_of(str target)

@cython.locals(made=GrpcLayer)
cpdef GrpcLayer layer(Message request)

@cython.final
@cython.freelist(32)
cdef class GrpcLayer(Rider):
    cdef public str target
    cdef public long long key, since
    cdef public bytes head
    cdef public CLane client, server
    cpdef learn(self, Message request)
    @cython.locals(size=Py_ssize_t, length=cython.longlong)
    cpdef object take(self, CLane lane, bytes data)
    @cython.locals(trailers=bytes, call=Call)
    cpdef object finish(self, CLane lane, Message message)
    @cython.locals(other=CLane)
    cpdef object one(self, CLane lane, bytes data, long long length)
    @cython.locals(pos=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t)
    cpdef run(self, CLane lane, bytes data, list out)
    @cython.locals(taken=Py_ssize_t, flag=cython.int)
    cpdef Py_ssize_t begin(self, CLane lane, bytes data, Py_ssize_t pos, list out) except? -1
    @cython.locals(flag=cython.int, other=CLane)
    cpdef begun(self, CLane lane, list out)
    cpdef complete(self, CLane lane, list out)
    @cython.locals(message=Message)
    cpdef Message shown(self, CLane lane, bint cut=*)
    cpdef break_off(self, CLane lane, list out)
    cpdef unary(self, CLane lane, Message message)
    cpdef bint web(self) except -1
    cpdef bytes unwrapped(self, CLane lane, bytes data)
