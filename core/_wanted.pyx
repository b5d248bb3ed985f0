"""Which entries an enricher is given: the compiled twin of ``wanted.py``, equal to it.

An entry is seen through ``_message.pxd``: for most it takes three loads and a comparison to know that it is of no
interest. What is not of the usual type is wanted: the enricher may make of it what it can.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.string cimport memcmp

import kshark._message  # compares the offsets

from kshark import api
from kshark._message cimport Entry, Message, known

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef extern from "string.h":
    void *memmem(const void *text, size_t size, const void *part, size_t length) noexcept nogil

cdef object ENTRY = api.Entry, MESSAGE = api.Message
known()


cdef inline bint holds(const char *text, Py_ssize_t size, bytes part) noexcept:
    return memmem(text, size, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part)) != NULL


@cython.final
cdef class Wanted:
    """Finds them."""

    cdef frozenset protocols
    cdef tuple marks, begins, targets
    cdef bint looks

    def __init__(self, protocols, marks=(), begins=(), targets=()):
        self.protocols = frozenset(protocols)
        self.marks = tuple(marks)
        self.begins = tuple(begins)
        self.targets = tuple([target.encode() for target in targets])
        self.looks = bool(marks or begins or targets)

    def find(self, list batch):
        """The entries that are wanted, in order."""
        cdef list found = []
        cdef bint mine = not self.protocols
        cdef Entry entry
        last = None  # the protocol of the entry before
        for one in batch:
            if type(one) is not ENTRY:
                found.append(one)
                continue
            entry = <Entry>one
            if self.protocols and entry.protocol is not last:
                last = entry.protocol
                mine = last in self.protocols
            if mine and (not self.looks or self._marked(entry.request)):
                found.append(one)
        return found

    cdef bint _marked(self, request) except -1:
        cdef Message message
        cdef const char *text
        cdef Py_ssize_t size
        cdef bytes part
        if request is None:
            return False
        if type(request) is not MESSAGE:
            return True
        message = <Message>request
        if not PyBytes_CheckExact(message.body) or not PyUnicode_CheckExact(message.target):
            return True
        size = PyBytes_GET_SIZE(message.body)
        if size:
            text = PyBytes_AS_STRING(message.body)
            for part in self.begins:
                if PyBytes_GET_SIZE(part) <= size and memcmp(text, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part)) == 0:
                    return True
            for part in self.marks:
                if holds(text, size, part):
                    return True
        if not self.targets:
            return False
        try:
            text = PyUnicode_AsUTF8AndSize(message.target, &size)
        except UnicodeEncodeError:
            return True
        for part in self.targets:
            if holds(text, size, part):
                return True
        return False
