"""Types for compiling `namer.py` as it stands."""

cimport cython

from kshark._message cimport Entry, Message, known
from kshark.protocols.dns.answers cimport addresses

cdef str PROTOCOL
cdef Py_ssize_t HALF
cdef int BEFORE
cdef long long LONGEST, FOLLOWS, SECOND

@cython.final
cdef class Known:
    cdef public str name
    cdef public long long since, until
    cdef public Known before

@cython.final
cdef class Namer:
    cdef public object say
    cdef public dict young, old
    cdef public Py_ssize_t count
    cdef public bint full
    @cython.locals(entry=Entry, asked=Message, told=Message, seq=cython.longlong)
    cpdef list enrich(self, list batch)
    @cython.locals(found=list, raw=bytes, ttl=cython.longlong, since=cython.longlong, kept=cython.longlong, young=dict, last=Known)
    cpdef learn(self, str client, Message asked, Message told)
    @cython.locals(young=dict, found=Known)
    cpdef Known find(self, str client, bytes raw)
    @cython.locals(old=dict)
    cpdef Known before(self, str client, bytes raw)
    @cython.locals(new=Known, one=Known)
    cpdef Known after(self, Known old, str name, long long since, long long until)
    @cython.locals(one=Known, began=cython.longlong)
    cpdef name(self, object flow)
