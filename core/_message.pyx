"""Checks that `Message` and `Entry` lie in memory as ``_message.pxd`` says. Whoever cimports `known` imports this first."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
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


cdef Py_ssize_t offset(kind, str name) except -1:
    """Where a struct keeps a field, by the descriptor that CPython made for it."""
    descriptor = kind.__dict__[name]
    if type(descriptor) is not MemberDescriptorType:
        raise ImportError(f"{kind.__name__}.{name} is not a slot")
    cdef PyMemberDef *member = (<PyMemberDescrObject *><PyObject *>descriptor).d_member
    if member.type != T_OBJECT_EX:
        raise ImportError(f"{kind.__name__}.{name} is not an object")
    return member.offset


cdef void known() noexcept:
    """Nothing; what counts is that it comes from here."""


MESSAGE = (
    "body cut extra first_ns gap_bytes head key kind last_ns notes ok protocol side size status target truncated verb"
)
ENTRY = "extra flow gap_bytes midstream outcome packets protocol request response seq swapped truncated"

for struct, fields in ((api.Message, MESSAGE.split()), (api.Entry, ENTRY.split())):  # of the structs in _message.pxd
    if sorted(struct.__struct_fields__) != fields:
        raise ImportError("kshark's compiled modules are of another version: build them again")
    for at, name in enumerate(fields):
        if offset(struct, name) != object.__basicsize__ + at * sizeof(void *):
            raise ImportError(f"{struct.__name__}.{name} is not where the compiled modules look for it")


cdef extern from *:
    """
    static PyObject *kshark_message(PyTypeObject *type, PyObject *kind, PyObject *verb, PyObject *target,
                                    PyObject *status, PyObject *ok, PyObject *size, PyObject *head, PyObject *body,
                                    PyObject *zero, PyObject *minus, PyObject *empty, PyObject *nothing) {
        KsharkMessage *m = (KsharkMessage *)type->tp_alloc(type, 0);
        if (m == NULL) return NULL;
        #define KSHARK_SET(field, value) Py_INCREF(value); m->field = value
        KSHARK_SET(body, body); KSHARK_SET(cut, Py_False); KSHARK_SET(extra, Py_None); KSHARK_SET(first_ns, zero);
        KSHARK_SET(gap_bytes, zero); KSHARK_SET(head, head); KSHARK_SET(key, zero); KSHARK_SET(kind, kind);
        KSHARK_SET(last_ns, zero); KSHARK_SET(notes, empty); KSHARK_SET(ok, ok);
        KSHARK_SET(protocol, nothing); KSHARK_SET(side, minus);
        KSHARK_SET(size, size); KSHARK_SET(status, status); KSHARK_SET(target, target);
        KSHARK_SET(truncated, Py_False); KSHARK_SET(verb, verb);
        return (PyObject *)m;
    }
    static PyObject *kshark_entry(PyTypeObject *type, PyObject *flow, PyObject *seq, PyObject *protocol,
                                  PyObject *request, PyObject *response, PyObject *outcome,
                                  PyObject *zero, PyObject *empty) {
        KsharkEntry *m = (KsharkEntry *)type->tp_alloc(type, 0);
        if (m == NULL) return NULL;
        KSHARK_SET(extra, Py_None); KSHARK_SET(flow, flow); KSHARK_SET(gap_bytes, zero);
        KSHARK_SET(midstream, Py_False); KSHARK_SET(outcome, outcome); KSHARK_SET(packets, empty);
        KSHARK_SET(protocol, protocol); KSHARK_SET(request, request); KSHARK_SET(response, response);
        KSHARK_SET(seq, seq); KSHARK_SET(swapped, Py_False); KSHARK_SET(truncated, Py_False);
        return (PyObject *)m;
    }
    #undef KSHARK_SET
    """
    Message kshark_message(
        type, object kind, object verb, object target, object status, object ok, object size, object head, object body,
        object zero, object minus, object empty, object nothing,
    )

    Entry kshark_entry(
        type, object flow, object seq, object protocol, object request, object response, object outcome,
        object zero, object empty,
    )

cdef object ZERO = 0, MINUS = -1, EMPTY = (), NOTHING = ""

DEFAULTS = {"key": 0, "gap_bytes": 0, "first_ns": 0, "last_ns": 0, "notes": (), "packets": (), "extra": None, "cut": False,
            "truncated": False, "side": -1, "protocol": "", "midstream": False, "swapped": False}
for plain in (api.Message(0), api.Entry(None, 0, "", None, None, None)):
    for name in plain.__struct_fields__:
        if name in DEFAULTS and getattr(plain, name) != DEFAULTS[name]:
            raise ImportError(f"{type(plain).__name__}.{name} is not {DEFAULTS[name]} where nobody says more")


cdef Message make(
    int kind, str verb, str target, int status, bint ok, long long size, bytes head, bytes body
):
    return kshark_message(Message, kind, verb, target, status, ok, size, head, body, ZERO, MINUS, EMPTY, NOTHING)


cdef Message message(
    int kind, str verb, str target, int status, bint ok, long long key, long long size, bytes head, bytes body
):
    cdef Message made = kshark_message(
        Message, kind, verb, target, status, ok, size, head, body, ZERO, MINUS, EMPTY, NOTHING
    )
    if key:
        made.key = key
    return made


cdef bytes piece(bytes data, Py_ssize_t start, Py_ssize_t end):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if start == 0 and end == size:
        return data
    if not 0 <= start <= end <= size:
        raise IndexError("a piece that is not within its bytes")
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, end - start)


cdef Entry entry(flow, long long seq, protocol, Message request, Message response, outcome):
    return kshark_entry(Entry, flow, seq, protocol, request, response, outcome, ZERO, EMPTY)
