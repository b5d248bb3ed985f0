"""Which entries an enricher is given: the compiled twin of ``wanted.py``, equal to it.

An entry is seen through ``_message.pxd``: for most it takes three loads and a comparison to know that it is of no
interest. A mark is searched by the rarest of its bytes, which `memchr` finds 32 at a time. What is not of the usual
type is wanted: the enricher may make of it what it can.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.string cimport memchr, memcmp

import kshark._message  # compares the offsets

from kshark import api
from kshark._message cimport Entry, Message, known

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef object ENTRY = api.Entry, MESSAGE = api.Message
known()

cdef enum:
    LETTERS = 8  # distinct rarest bytes that are looked for at once
cdef bytes COMMON = b' "etaoinsrhldcumfpg,:wyb0123456789.-_/={}[]vkxjqz'  # the bytes of JSON, from frequent to rare


@cython.final
cdef class Part:
    """What is searched."""

    cdef bytes held
    cdef const char *text
    cdef Py_ssize_t size, at  # ... of the rarest byte
    cdef int rare

    def __cinit__(self, bytes text):
        self.held = text
        self.text = PyBytes_AS_STRING(text)
        self.size = PyBytes_GET_SIZE(text)
        ranks = [COMMON.find(byte) if byte in COMMON else 256 for byte in text]
        self.at = ranks.index(max(ranks))
        self.rare = <unsigned char>self.text[self.at]

    cdef bint within(self, const char *text, Py_ssize_t size) noexcept:
        cdef const char *at = text + self.at
        cdef const char *last = text + size - self.size + self.at
        while at <= last:
            at = <const char *>memchr(at, self.rare, last - at + 1)
            if at == NULL:
                return False
            if memcmp(at - self.at, self.text, self.size) == 0:
                return True
            at += 1
        return False


@cython.final
cdef class Parts:
    """Some of them, one of which is enough. Where none of their rarest bytes is, none of them is."""

    cdef list parts
    cdef unsigned char[LETTERS] rare
    cdef int count

    def __cinit__(self, texts):
        self.parts = [Part(text) for text in texts]
        letters = {(<Part>part).rare for part in self.parts}
        self.count = -1 if len(letters) > LETTERS else 0
        for letter in sorted(letters) if self.count == 0 else ():
            self.rare[self.count] = letter
            self.count += 1

    cdef inline bint within(self, const char *text, Py_ssize_t size):
        cdef int i
        for i in range(self.count):
            if memchr(text, self.rare[i], size) != NULL:
                return self.closely(text, size)
        return self.count < 0 and self.closely(text, size)

    cdef bint closely(self, const char *text, Py_ssize_t size):
        for part in self.parts:
            if (<Part>part).within(text, size):
                return True
        return False


@cython.final
cdef class Wanted:
    """Finds them."""

    cdef frozenset protocols
    cdef tuple begins
    cdef bint[256] first  # bytes that one of `begins` has first
    cdef Parts marks, targets
    cdef bint looks

    def __init__(self, protocols, marks=(), begins=(), targets=()):
        self.protocols = frozenset(protocols)
        self.marks = Parts(marks)
        self.begins = tuple(begins)
        for byte in range(256):
            self.first[byte] = any([start[0] == byte for start in begins])
        self.targets = Parts([target.encode() for target in targets])
        self.looks = bool(marks or begins or targets)

    def find(self, list batch):
        """The entries that are wanted, in order."""
        cdef list found = []
        cdef bint all = not self.protocols
        cdef bint mine = all
        cdef Entry entry
        last = None  # the protocol of the entry before
        for one in batch:
            if type(one) is not ENTRY:
                found.append(one)
                continue
            entry = <Entry>one
            if not all and entry.protocol is not last:
                last = entry.protocol
                mine = last in self.protocols
            if mine and (not self.looks or self._marked(entry.request)):
                found.append(one)
        return found

    cdef bint _marked(self, request) except -1:
        cdef Message message
        cdef const char *text
        cdef Py_ssize_t size
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
            if self.first[<unsigned char>text[0]] and (<bytes>message.body).startswith(self.begins):
                return True
            if self.marks.within(text, size):
                return True
        if not self.targets.count:
            return False
        try:
            text = PyUnicode_AsUTF8AndSize(message.target, &size)
        except UnicodeEncodeError:
            return True
        return self.targets.within(text, size)
