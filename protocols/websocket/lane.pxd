cimport cython

from kshark.feeder cimport Found
from kshark.protocols.websocket.frames cimport Frame

cdef int HEAD, PAYLOAD, SEEK, OVER
cdef Py_ssize_t KEPT

cdef class Building:
    cdef public int opcode
    cdef public bytes head
    cdef public bint packed, hole
    cdef public long long first_ns, frames, size, payload, gap
    cdef public Py_ssize_t kept
    cdef public list pieces
    cdef public tuple notes
    cpdef keep(self, bytes data)

cdef class Lane:
    cdef public bint client, resync
    cdef public int state, rsv
    cdef public bytes buffer
    cdef public long long now, searched, skipped, left
    cdef public Frame frame
    cdef public Building data, control
    cdef public object terms, deflate, inflater
    cpdef agree(self, terms)
    @cython.locals(at=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t)
    cpdef take(self, bytes data, Found found)
    @cython.locals(frame=Frame, opcode=cython.int, one=Building)
    cpdef begin(self, bytes head, Found found)
    @cython.locals(frame=Frame, one=Building, part=bytes)
    cpdef content(self, bytes data, Found found)
    @cython.locals(one=Building)
    cpdef ended(self, Found found)
    cpdef message(self, Building one, bint cut=*)
    @cython.locals(one=Building)
    cpdef gap(self, long long missing, Found found)
    cpdef cut(self, long long missing, Found found)
    cpdef close(self, Found found)
    @cython.locals(drop=Py_ssize_t, start=Py_ssize_t, pending=Py_ssize_t)
    cpdef Py_ssize_t seek(self, bytes data, Py_ssize_t at) except? -1
    cpdef Py_ssize_t slim(self) except? -1
