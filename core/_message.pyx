"""Checks that a `Message` lies in memory as ``_message.pxd`` says. Whoever cimports `known` imports this first."""

from cpython.object cimport PyObject

from types import MemberDescriptorType

from kshark import api

cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    int T_OBJECT_EX


cdef Py_ssize_t offset(str name) except -1:
    """Where a message keeps a field, by the descriptor that CPython made for it."""
    descriptor = api.Message.__dict__[name]
    if type(descriptor) is not MemberDescriptorType:
        raise ImportError(f"Message.{name} is not a slot")
    cdef PyMemberDef *member = (<PyMemberDescrObject *><PyObject *>descriptor).d_member
    if member.type != T_OBJECT_EX:
        raise ImportError(f"Message.{name} is not an object")
    return member.offset


cdef void known() noexcept:
    """Nothing; what counts is that it comes from here."""


FIELDS = (
    "body cut extra first_ns gap_bytes head key kind last_ns notes ok side size status target truncated verb"
).split()  # of the struct in _message.pxd

if sorted(api.Message.__struct_fields__) != FIELDS:
    raise ImportError("kshark's compiled modules are of another version: build them again")
for at, name in enumerate(FIELDS):
    if offset(name) != object.__basicsize__ + at * sizeof(void *):
        raise ImportError(f"Message.{name} is not where the compiled modules look for it")
