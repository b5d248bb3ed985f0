"""Types for compiling `walk.py` as it stands."""

cimport cython

cdef int NO, ODD, USUAL, SHORTEST, NAME, RESERVED, RA, RD, ANSWER, UNICAST, IN, ADDRESS, ADDRESS6, OPTIONS, NIMLOC, SRV
cdef int FIRST, SECOND, THIRD, QUESTIONS, RECORDS, NOTHING, BEYOND, CUT

@cython.locals(size=Py_ssize_t, opcode=cython.int, ident=cython.int, questions=cython.int, answers=cython.int, records=cython.int)
cpdef bint sane(bytes data) except -1

@cython.locals(size=Py_ssize_t, multicast=bint, verdict=cython.int, at=Py_ssize_t, seen=cython.int, section=cython.int, count=cython.int, start=Py_ssize_t, end=Py_ssize_t, kind=cython.int, cls=cython.int, length=cython.int)
cpdef int walk(bytes data, bint cut) except? -2

@cython.locals(size=Py_ssize_t, at=Py_ssize_t, found=cython.int, section=cython.int, count=cython.int, start=Py_ssize_t)
cpdef int survey(bytes data) except? -3

@cython.locals(size=Py_ssize_t, start=Py_ssize_t, length=cython.int)
cpdef Py_ssize_t after(bytes data, Py_ssize_t at) except? -3

cdef bint usual(int kind, int cls, int length, int section, bint multicast) except -1

@cython.locals(end=Py_ssize_t, length=cython.int, place=Py_ssize_t)
cdef bint asked(bytes data, Py_ssize_t at, int kind) except -1
