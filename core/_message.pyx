"""Fields of a `Message` at the offsets of their slots; the twin of ``_message.py``.

Only for objects whose type is exactly `Message`: `slot` checks that, and that the field is set.
"""

from cpython.bytes cimport PyBytes_GET_SIZE, PyBytes_Check
from cpython.object cimport PyObject, PyObject_IsTrue
from cpython.ref cimport Py_DECREF, Py_INCREF, PyTypeObject

from types import MemberDescriptorType

from kshark.api import Message

cdef extern from "Python.h":
    PyTypeObject *Py_TYPE(object thing)  # borrowed: not as cpython.object declares it

cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    int T_OBJECT_EX

cdef PyTypeObject *MESSAGE = <PyTypeObject *>Message


cdef Py_ssize_t offset(str name) except -1:
    """Where a message keeps a field, by the descriptor that CPython made for it."""
    descriptor = Message.__dict__[name]
    if type(descriptor) is not MemberDescriptorType:
        raise ImportError(f"Message.{name} is not a slot")
    cdef PyMemberDef *member = (<PyMemberDescrObject *><PyObject *>descriptor).d_member
    if member.type != T_OBJECT_EX:
        raise ImportError(f"Message.{name} is not an object")
    return member.offset


cdef Py_ssize_t KIND = offset("kind")
cdef Py_ssize_t SIDE = offset("side")
cdef Py_ssize_t KEY = offset("key")
cdef Py_ssize_t SIZE = offset("size")
cdef Py_ssize_t FIRST = offset("first_ns")
cdef Py_ssize_t LAST = offset("last_ns")
cdef Py_ssize_t GAP = offset("gap_bytes")
cdef Py_ssize_t TRUNCATED = offset("truncated")
cdef Py_ssize_t CUT = offset("cut")
cdef Py_ssize_t OK = offset("ok")
cdef Py_ssize_t NOTES = offset("notes")
cdef Py_ssize_t HEAD = offset("head")
cdef Py_ssize_t BODY = offset("body")


cdef inline PyObject **slot(object message, Py_ssize_t at) except NULL:
    if Py_TYPE(message) != MESSAGE:
        raise TypeError(f"{type(message).__name__} is not a Message")
    cdef PyObject **place = <PyObject **>((<char *><PyObject *>message) + at)
    if place[0] == NULL:
        raise AttributeError("a field of a Message was deleted")
    return place


cdef inline long long number(object message, Py_ssize_t at) except? -1:
    return <long long><object>slot(message, at)[0]


cdef inline bint truth(object message, Py_ssize_t at) except -1:
    return PyObject_IsTrue(<object>slot(message, at)[0])


cdef inline int settle(object message, Py_ssize_t at, long long value) except -1:
    """Set a number that is still 0."""
    cdef PyObject **place = slot(message, at)
    if <long long><object>place[0] != 0:
        return 0
    cdef object new = value  # declared: inference would make it a C number
    old = <object>place[0]
    Py_INCREF(new)
    place[0] = <PyObject *>new
    Py_DECREF(old)
    return 0


cdef inline Py_ssize_t length(object value) except -1:
    return PyBytes_GET_SIZE(value) if PyBytes_Check(value) else len(value)


cpdef long long kind(object message) except? -1:
    return number(message, KIND)


cpdef long long side(object message) except? -2:
    return number(message, SIDE)


cpdef object key(object message):
    return <object>slot(message, KEY)[0]


cpdef long long first(object message) except? -1:
    return number(message, FIRST)


cpdef long long last(object message) except? -1:
    return number(message, LAST)


cpdef long long gap_bytes(object message) except? -1:
    return number(message, GAP)


cpdef bint truncated(object message) except -1:
    return truth(message, TRUNCATED)


cpdef bint cut(object message) except -1:
    return truth(message, CUT)


cpdef bint ok(object message) except -1:
    return truth(message, OK)


cpdef tuple notes(object message):
    return <object>slot(message, NOTES)[0]


cpdef long long date(object message, long long first_ns, long long last_ns) except? -1:
    settle(message, FIRST, first_ns)
    settle(message, LAST, last_ns)
    return number(message, SIZE)


cpdef long long weight(object message) except? -1:
    return length(<object>slot(message, HEAD)[0]) + length(<object>slot(message, BODY)[0])
