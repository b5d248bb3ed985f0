cimport cython

from kshark.protocols.http2._hpack cimport Decoder as CDecoder
from kshark.protocols.http2.stream cimport Half as CHalf

cdef int HEADERS, END_STREAM, FRAME, START, SEEK
cdef int BAD, LONG, PARTLY
cdef long BAD_HEADERS, LONG_HEADERS, UNKNOWN_HEADERS
cdef Py_ssize_t HEADER_BLOCK, HEADER_FRAMES

@cython.final
cdef class Lane:
    cdef public bint server, holed, end, block_end
    cdef public int state, block_kind
    cdef public long block_flags
    cdef public bytearray buffer
    cdef public Py_ssize_t need, kept, patience
    cdef public long long size, largest, room, stream, left, pad, promised, block_stream, block_size
    cdef public Py_ssize_t block_frames
    cdef public object search
    cdef public CHalf half
    cdef public CDecoder decoder
    cdef public list block
    cpdef stash(self, bytes data, Py_ssize_t pos, Py_ssize_t need)
    cpdef bytes unstash(self)
    cpdef begin_block(self, int kind, long long stream, int flags)
    cpdef add_block(self, bytes piece)
    cpdef spoil(self, long flag)
    @cython.locals(whole=bytes, block=list)
    cpdef long decode(self) except? -1
    @cython.locals(flags=long, said=cython.int)
    cpdef long unpack(self, bytes data, Py_ssize_t start, Py_ssize_t end) except? -1
    cpdef lose(self, bytes rest=*)
    cpdef bytes seek(self, bytes data)
    cpdef Py_ssize_t held(self) except -1
