cimport cython

from kshark.feeder cimport Feeder, Found
from kshark.protocols.http._head cimport Head as CHead
from kshark.protocols.http.lane cimport Lane as CLane

cdef int REQUEST, RESPONSE, INTERIM
cdef long BAD_CHUNK, BAD_FRAMING, BARE_LF, HUGE_CHUNK, LONG_TARGET, LONG_TRAILERS
cdef long NO_BODY_ASSUMED
cdef long long CHUNK_HUGE, CHUNK_MORE, NO_LENGTH, WRONG_LENGTH
cdef int CHUNKED, CODED, MORE
cdef int CHUNK_DATA, CHUNK_END, CHUNK_LINE, COUNTED, HEAD, HELD, OVER, PEEK, SEEK, TRAILERS
cdef int UNTIL_CLOSE, NONE, IS_CONNECT, IS_HEAD, IS_LAYER, IS_UPGRADE
cdef Py_ssize_t UNDISSECTED, BODY_KEPT, TARGET, PROBE_BYTES

@cython.final
cdef class HttpDissector(Feeder):
    cdef public CLane client, server
    cdef public long long asked, answered
    cdef public object specials, fault, upgrading, layers, next_layer
    cdef public bytes plain
    cdef public long long now
    cdef public bint careful, due
    @cython.locals(out=Found)
    cpdef list gap(self, int side, object missing)
    @cython.locals(out=Found)
    cpdef list close(self)
    @cython.locals(pos=Py_ssize_t, size=Py_ssize_t)
    cpdef run(self, CLane lane, bytes data, Found out)
    @cython.locals(state=cython.int)
    cpdef Py_ssize_t step(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    @cython.locals(found=CHead, verdict=cython.int)
    cpdef Py_ssize_t take_head(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    @cython.locals(end=Py_ssize_t)
    cpdef Py_ssize_t reject(self, CLane lane, bytes data, Py_ssize_t pos, bint long) except? -1
    @cython.locals(found=CHead, end=Py_ssize_t, body=bytes, start=Py_ssize_t, stop=Py_ssize_t, length=cython.longlong, asks=cython.int)
    cpdef Py_ssize_t request(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    @cython.locals(found=CHead, end=Py_ssize_t, body=bytes, status=cython.int, length=cython.longlong, size=cython.longlong, stop=Py_ssize_t)
    cpdef Py_ssize_t response(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    @cython.locals(found=CHead, asks=cython.int, status=cython.int)
    cpdef Py_ssize_t framed(self, CLane lane, bytes data, Py_ssize_t end, Found out) except? -1
    cpdef int answers(self) except? -1
    cpdef Py_ssize_t content(self, CLane lane, bytes data, Py_ssize_t pos, Py_ssize_t end, Found out) except? -1
    @cython.locals(end=Py_ssize_t)
    cpdef Py_ssize_t take_counted(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    cpdef counted(self, CLane lane, Found out)
    @cython.locals(found=CHead, size=cython.longlong)
    cpdef Py_ssize_t take_chunk_line(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    @cython.locals(end=Py_ssize_t)
    cpdef Py_ssize_t take_chunk_end(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    cpdef Py_ssize_t take_trailers(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    cpdef Py_ssize_t peek(self, CLane lane, bytes data, Py_ssize_t pos, Found out) except? -1
    cpdef unpeek(self, CLane lane, Found out)
    cpdef finish(self, CLane lane, Found out)
    cpdef unbounded(self, CLane lane, Found out)
    cpdef Py_ssize_t break_off(self, CLane lane, long flag, Py_ssize_t pos, Found out) except? -1
    cpdef cut(self, CLane lane, long long missing, Found out)
    cpdef bint skip(self, CLane lane, long long missing, Found out) except -1
    cpdef seek_from(self, CLane lane)
    cpdef Py_ssize_t seek(self, CLane lane, bytes data, Py_ssize_t pos) except? -1
    cpdef late(self, CLane lane)
    cpdef doubt(self)
    cpdef hold(self, CLane lane, bytes data, Found out)
    cpdef release(self, Found out)
    cpdef drain(self, CLane lane, Found out)
