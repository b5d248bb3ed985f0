cimport cython

from kshark.protocols.grpc.lane cimport Lane as CLane

cdef Py_ssize_t BODY_KEPT, LANE_TRAILERS
cdef int START, PAYLOAD, TRAILER, OVER, LOST, BROKEN, PREFIX, BASE64, RAW
cdef tuple NONE
cdef bytes FINE

@cython.final
cdef class GrpcLayer:
    cdef public str target, verb
    cdef public object key
    cdef public bytes head
    cdef public long long since, now
    cdef public bint web
    cdef public CLane client, server
    @cython.locals(lane=CLane, size=Py_ssize_t, length=cython.longlong)
    cpdef object feed(self, int side, bytes data)
    @cython.locals(lane=CLane)
    cpdef object gap(self, int side, long long missing)
    @cython.locals(lane=CLane)
    cpdef slim(self, int side)
    @cython.locals(lane=CLane, trailers=bytes)
    cpdef object end(self, int side, object message)
    @cython.locals(other=CLane)
    cpdef object one(self, CLane lane, bytes data, long long length)
    @cython.locals(pos=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t)
    cpdef run(self, CLane lane, bytes data, list out)
    @cython.locals(taken=Py_ssize_t, flag=cython.int)
    cpdef Py_ssize_t begin(self, CLane lane, bytes data, Py_ssize_t pos, list out) except? -1
    @cython.locals(flag=cython.int, other=CLane)
    cpdef begun(self, CLane lane, list out)
    cpdef complete(self, CLane lane, list out)
    cpdef object shown(self, CLane lane, bint cut=*)
    cpdef break_off(self, CLane lane, list out)
    cpdef unary(self, CLane lane, object message)
    cpdef bytes unwrapped(self, CLane lane, bytes data)
