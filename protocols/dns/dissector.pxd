"""Types for compiling `dissector.py` as it stands."""

cimport cython

from kshark.feeder cimport Feeder, Found
from kshark._message cimport Message, known
from kshark.protocols.dns cimport _question as question
from kshark.protocols.dns._question cimport Asked as CAsked, Question as CQuestion
from kshark.protocols.dns.walk cimport survey

cdef int REQUEST, RESPONSE, ONEWAY
cdef Py_ssize_t TRANSFERS
cdef int ANSWER, AUTHORITATIVE, TRUNCATED, RECURSION, SIX_WORDS, AXFR_TYPE, IXFR_TYPE, QUERY_CODE
cdef int CUT
cdef dict RCODE_NAMES

@cython.final
cdef class DnsDatagrams(Feeder):
    cdef public CQuestion question
    cdef public CAsked asked
    cdef public dict moving
    @cython.locals(size=Py_ssize_t, ident=cython.int, flags=cython.int, asks=bint, key=cython.longlong, more=cython.int, message=Message)
    cpdef Message read(self, bytes data)
    @cython.locals(opcode=cython.int, verb=str, target=str)
    cdef Message ask(self, bytes data, int ident, int flags, long long key, bint asks)
    @cython.locals(opcode=cython.int, verb=str, rcode=cython.int, message=Message)
    cdef Message answer(self, bytes data, int ident, int flags, long long key, bint asks, int more)
    cdef transfer(self, long long key)
