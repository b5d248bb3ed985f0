"""Types for compiling `dissector.py` as it stands."""

cimport cython

cdef int REQUEST, RESPONSE, ONEWAY, PLAIN, STAR, DOLLAR, PUSH, PLUS, PIPE, LF, SKIP, OFF, ORPHAN, NOBODY
cdef Py_ssize_t KEPT
cdef dict KNOWN, VERBS, STATUS

cdef class Due:
    cdef public Py_ssize_t index, count, misses
    cdef public int act
    cdef public object verb

@cython.final
cdef class Half:
    cdef public object scan, search, fault
    cdef public bytearray held
    cdef public bint began, intact, resync, slim
    cdef public Py_ssize_t size, skipped
    cdef public long long gap
    cpdef fresh(self)
    cpdef hold(self, bytes data, Py_ssize_t pos, Py_ssize_t end)

@cython.final
cdef class RedisDissector:
    cdef public object answers, last
    cdef public Half client, server
    cdef public list out, channels, totals, due, back
    cdef public Py_ssize_t at, sent, answered, more
    cdef public bint subscribed, monitor, stream, multi, calm
    cdef public int mute
    @cython.locals(half=Half, out=list)
    cpdef list feed(self, object side, bytes data)
    @cython.locals(size=Py_ssize_t, end=Py_ssize_t, found=tuple, head=bytes)
    cdef commands(self, Half half, bytes data, Py_ssize_t pos)
    @cython.locals(size=Py_ssize_t, end=Py_ssize_t, pos=Py_ssize_t)
    cdef replies(self, Half half, bytes data)
    cdef whole(self, Half half, bytes head)
    cdef emit(self, Half half, object message)
    cdef doubt(self, Half half, object message)
    @cython.locals(kind=int)
    cdef request(self, Half half, bytes head, bytes name, bytes first, Py_ssize_t size)
    cdef plausible(self, Half half, bytes line)
    cdef tuple special(self, object known, Half half, bytes head)
    @cython.locals(kind=int, role=int, key=int, value=bytes, ok=bint, at=Py_ssize_t)
    cdef reply(self, Half half, bytes head, Py_ssize_t size)
    cdef tuple judge(self, int kind, bytes value)
    cdef settle(self)
    cdef lose(self, Half half)

cdef bint fits(int act, int kind, bytes value)
cdef str label(bytes raw)
