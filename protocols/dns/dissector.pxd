"""Types for compiling `dissector.py` as it stands."""

cimport cython

from kshark.feeder cimport Feeder, Found
from kshark.protocols.dns.walk cimport survey

cdef int REQUEST, RESPONSE, ONEWAY
cdef Py_ssize_t NAME, WAITING, TRANSFERS
cdef int ANSWER, AUTHORITATIVE, TRUNCATED, RECURSION, SIX_WORDS, DOT, AXFR_TYPE, IXFR_TYPE, QUERY_CODE
cdef int CUT
cdef bytes LETTERS
cdef dict TYPE_NAMES, RCODE_NAMES

@cython.final
cdef class DnsDatagrams(Feeder):
    cdef public bytes question
    cdef public int type
    cdef public unsigned long long digest
    cdef public bint local
    cdef public str verb, target
    cdef public dict asked, moving
    @cython.locals(size=Py_ssize_t, ident=cython.int, flags=cython.int, asks=bint, key=cython.longlong, more=cython.int)
    cpdef object read(self, bytes data)
    @cython.locals(size=Py_ssize_t, at=Py_ssize_t, length=cython.int, kind=cython.longlong, plain=bint, one=Py_ssize_t, end=Py_ssize_t, lower=bytes)
    cdef learn(self, bytes data)
    @cython.locals(opcode=cython.int, verb=str, target=str)
    cdef object ask(self, bytes data, int ident, int flags, long long key, bint asks)
    @cython.locals(opcode=cython.int, verb=str, rcode=cython.int)
    cdef object answer(self, bytes data, int ident, int flags, long long key, bint asks, int more)
    cdef transfer(self, long long key)

@cython.locals(text=bytearray, at=Py_ssize_t, length=cython.int, found=str)
cdef str dotted(bytes question, Py_ssize_t end)
