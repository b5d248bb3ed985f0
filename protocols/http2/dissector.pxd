cimport cython

from kshark cimport _message as made
from kshark.feeder cimport Feeder, Found
from kshark.protocols.http2.faults cimport fault
from kshark.protocols.http2.lane cimport Lane as CLane
from kshark.protocols.http2.stream cimport Half as CHalf
from kshark.protocols.http2.streams cimport Streams as CStreams

cdef int ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEAD, HEADER_TABLE_SIZE, HEADERS
cdef int MAX_FRAME_SIZE, PADDED, PRIORITIZED, PUSH_PROMISE, RST_STREAM, SETTINGS
cdef int BODY, FRAME, SEEK, SKIP
cdef long LONG_HEADERS, UNKNOWN_HEADERS
cdef long long MOST, SMALLEST_LIMIT
cdef Py_ssize_t HEADER_BLOCK
cdef bytes PREFACE

@cython.final
cdef class Http2Dissector(Feeder):
    cdef public CLane client, server
    cdef public CStreams streams
    cdef public bint started
    @cython.locals(out=Found, lane=CLane)
    cpdef list gap(self, int side, object missing)
    @cython.locals(out=Found)
    cpdef list close(self)
    @cython.locals(pos=Py_ssize_t, size=Py_ssize_t)
    cpdef run(self, CLane lane, bytes data, Found out)
    @cython.locals(head=bytes)
    cpdef Py_ssize_t start(self, CLane lane, bytes data, Py_ssize_t pos) except? -1
    @cython.locals(size=Py_ssize_t, length=cython.longlong, kind=cython.int, flags=cython.int, number=cython.longlong, end=Py_ssize_t, wrong=str)
    cpdef Py_ssize_t frame(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    cpdef Py_ssize_t most(self, CLane lane) except -1
    @cython.locals(at=Py_ssize_t)
    cpdef Py_ssize_t whole(self, CLane lane, bytes data, Py_ssize_t pos, int kind, int flags, long long number, Py_ssize_t end, Found out) except? -1
    cpdef pass_over(self, CLane lane, long long length, int kind, int flags, long long number, Found out)
    @cython.locals(end=Py_ssize_t)
    cpdef Py_ssize_t skip(self, CLane lane, Py_ssize_t size, Py_ssize_t pos) except? -1
    @cython.locals(other=CLane, name=cython.int, value=cython.longlong)
    cpdef settings(self, CLane lane, bytes data, Py_ssize_t pos, Py_ssize_t end, int flags)
    @cython.locals(padded=cython.int, pad=cython.int, half=CHalf)
    cpdef Py_ssize_t data(self, CLane lane, bytes data, Py_ssize_t pos, long long length, int flags, long long number, Found out) except? -1
    @cython.locals(half=CHalf, end=Py_ssize_t)
    cpdef Py_ssize_t body(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    @cython.locals(half=CHalf)
    cpdef body_end(self, CLane lane, Found out)
    @cython.locals(at=Py_ssize_t, stop=Py_ssize_t)
    cpdef Py_ssize_t headers(self, CLane lane, bytes data, Py_ssize_t pos, int kind, int flags, long long number, Py_ssize_t end, Found out) except? -1
    cpdef spoiled(self, CLane lane, int kind, int flags, long long number, long why, Found out)
    @cython.locals(kind=cython.int, number=cython.longlong)
    cpdef block(self, CLane lane, long flags, Found out)
    cpdef Py_ssize_t refuse(self, CLane lane, bytes data, Py_ssize_t pos, str text) except? -1
    cpdef lose(self, CLane lane, bytes rest=*)
    @cython.locals(rest=cython.longlong, kind=cython.int, held=bytes, begun=bytearray)
    cpdef bint bridge(self, CLane lane, long long missing, Found out) except -1
    @cython.locals(content=cython.longlong, half=CHalf)
    cpdef bint bridge_body(self, CLane lane, long long missing, Found out) except -1
