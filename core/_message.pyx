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


cdef extern from *:
    """
    static PyObject *kshark_message(PyTypeObject *type, PyObject *kind, PyObject *verb, PyObject *target,
                                    PyObject *status, PyObject *ok, PyObject *size, PyObject *head, PyObject *body,
                                    PyObject *zero, PyObject *minus, PyObject *empty) {
        KsharkMessage *m = (KsharkMessage *)type->tp_alloc(type, 0);
        if (m == NULL) return NULL;
        #define KSHARK_SET(field, value) Py_INCREF(value); m->field = value
        KSHARK_SET(body, body); KSHARK_SET(cut, Py_False); KSHARK_SET(extra, Py_None); KSHARK_SET(first_ns, zero);
        KSHARK_SET(gap_bytes, zero); KSHARK_SET(head, head); KSHARK_SET(key, zero); KSHARK_SET(kind, kind);
        KSHARK_SET(last_ns, zero); KSHARK_SET(notes, empty); KSHARK_SET(ok, ok); KSHARK_SET(side, minus);
        KSHARK_SET(size, size); KSHARK_SET(status, status); KSHARK_SET(target, target);
        KSHARK_SET(truncated, Py_False); KSHARK_SET(verb, verb);
        #undef KSHARK_SET
        return (PyObject *)m;
    }
    """
    Message kshark_message(
        type, object kind, object verb, object target, object status, object ok, object size, object head, object body,
        object zero, object minus, object empty,
    )

cdef object ZERO = 0, MINUS = -1, EMPTY = ()

plain = api.Message(0)
for name, default in (("key", 0), ("gap_bytes", 0), ("first_ns", 0), ("last_ns", 0), ("notes", ()), ("extra", None),
                      ("cut", False), ("truncated", False), ("side", -1)):
    if getattr(plain, name) != default:
        raise ImportError(f"Message.{name} is not {default} where nobody says more")


cdef Message make(
    int kind, str verb, str target, int status, bint ok, long long size, bytes head, bytes body
):
    return kshark_message(Message, kind, verb, target, status, ok, size, head, body, ZERO, MINUS, EMPTY)
