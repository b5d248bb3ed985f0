"""What is done to every entry on its way to the sinks, compiled: rows, and the search for secrets.

`Rows` is the twin of ``rows.py``, equal byte for byte; `suspects` that of ``redact.py``. Rows are written into
the bytes that are given away, which grow; fields of msgspec structs are read at the offsets that their
member descriptors declare. Whatever is out of the ordinary (integers beyond 64 bits, times before 1970,
lone surrogates, other types) is left to the plain twin, one row at a time: here is no second opinion.

Bounds: `need` grows the buffer or raises `MemoryError`. It precedes every write of what has no fixed size, and
leaves room for all of a row that has.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_Check
from cpython.object cimport PyObject, PyObject_IsTrue
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uintptr_t
from libc.string cimport memchr, memcmp, memcpy, memset

from types import MemberDescriptorType

from kshark import rows
from kshark.api import Endpoint, Entry, Flow, Message
from kshark.entry_json import date_time
from kshark.limits import ROW_FLOWS

cdef extern from "Python.h":
    ctypedef struct PyTypeObject
    bint PyObject_TypeCheck(object o, PyTypeObject *kind)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *text, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject **text, Py_ssize_t size) except -1
    char *text_of "PyBytes_AS_STRING"(PyObject *text)
    void Py_CLEAR(PyObject *text)

cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long value) noexcept nogil

cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    int T_OBJECT_EX

cdef long long SECOND = 1000000000
cdef Py_ssize_t LEAST = 64 << 10  # bytes that a batch begins with
cdef enum:
    DATE_TIME = 19  # bytes of 2026-01-02T03:04:05
    FIXED = 1024  # bytes of a row that are constants, numbers and times, with room to spare
cdef bytes _pairs = b"".join(b"%02d" % n for n in range(100))
cdef const char *PAIRS = _pairs
cdef unsigned long long[20] POWERS
cdef int _power
for _power in range(20):
    POWERS[_power] = int("1" + "0" * _power)

# Sets of two: the one used before the last is replaced. A power of two.
cdef Py_ssize_t SLOTS = 2
while SLOTS < 2 * ROW_FLOWS:
    SLOTS *= 2


cdef Py_ssize_t offset(object kind, str name) except -1:
    """Where a struct keeps a field, by the descriptor that CPython made for it."""
    descriptor = kind.__dict__[name]
    if type(descriptor) is not MemberDescriptorType:
        raise ImportError(f"{kind.__name__}.{name} is not a slot")
    cdef PyMemberDef *member = (<PyMemberDescrObject *><PyObject *>descriptor).d_member
    if member.type != T_OBJECT_EX:
        raise ImportError(f"{kind.__name__}.{name} is not an object")
    return member.offset


cdef Py_ssize_t E_FLOW = offset(Entry, "flow")
cdef Py_ssize_t E_SEQ = offset(Entry, "seq")
cdef Py_ssize_t E_PROTOCOL = offset(Entry, "protocol")
cdef Py_ssize_t E_REQUEST = offset(Entry, "request")
cdef Py_ssize_t E_RESPONSE = offset(Entry, "response")
cdef Py_ssize_t E_OUTCOME = offset(Entry, "outcome")
cdef Py_ssize_t E_GAP = offset(Entry, "gap_bytes")
cdef Py_ssize_t E_MIDSTREAM = offset(Entry, "midstream")
cdef Py_ssize_t E_TRUNCATED = offset(Entry, "truncated")
cdef Py_ssize_t E_SWAPPED = offset(Entry, "swapped")
cdef Py_ssize_t F_CLIENT = offset(Flow, "client")
cdef Py_ssize_t P_IP = offset(Endpoint, "ip")
cdef Py_ssize_t P_PORT = offset(Endpoint, "port")
cdef Py_ssize_t P_NAME = offset(Endpoint, "name")
cdef Py_ssize_t P_PID = offset(Endpoint, "pid")
cdef Py_ssize_t P_COMM = offset(Endpoint, "comm")
cdef Py_ssize_t P_DNS = offset(Endpoint, "dns")
cdef Py_ssize_t P_TID = offset(Endpoint, "tid")
cdef Py_ssize_t P_CGROUP = offset(Endpoint, "cgroup")
cdef Py_ssize_t P_NETNS = offset(Endpoint, "netns")
cdef Py_ssize_t F_SERVER = offset(Flow, "server")
cdef Py_ssize_t M_VERB = offset(Message, "verb")
cdef Py_ssize_t M_TARGET = offset(Message, "target")
cdef Py_ssize_t M_STATUS = offset(Message, "status")
cdef Py_ssize_t M_OK = offset(Message, "ok")
cdef Py_ssize_t M_SIZE = offset(Message, "size")
cdef Py_ssize_t M_NOTES = offset(Message, "notes")
cdef Py_ssize_t M_HEAD = offset(Message, "head")
cdef Py_ssize_t M_BODY = offset(Message, "body")
cdef Py_ssize_t M_FIRST = offset(Message, "first_ns")
cdef Py_ssize_t M_LAST = offset(Message, "last_ns")

cdef PyTypeObject *ENTRY = <PyTypeObject *>Entry  # the imports above keep them alive
cdef PyTypeObject *FLOW = <PyTypeObject *>Flow
cdef PyTypeObject *MESSAGE = <PyTypeObject *>Message


class Unusual(Exception):
    """This row is the plain twin's."""


cdef inline object field(object owner, Py_ssize_t at):
    """A field of a struct whose type was checked."""
    cdef PyObject *value = (<PyObject **>((<char *><PyObject *>owner) + at))[0]
    if value == NULL:
        raise Unusual
    return <object>value


cdef inline long long number(object value) except? -1:
    if not PyLong_Check(value):
        raise Unusual
    return value  # or OverflowError


@cython.final
cdef class Pieces:
    """`kshark.rows.FlowPieces` as bytes. `swapped` is made when an entry asks for it, which few do."""

    cdef object flow, client, server, protocol
    cdef bytes head, ends, swapped, backend

    cdef inline bint fits(self, object flow, object protocol):
        return (
            self.flow is flow
            and self.protocol is protocol
            and self.client is field(flow, F_CLIENT)
            and self.server is field(flow, F_SERVER)
        )


@cython.final
cdef class Rows:
    """Renders rows; keeps what the next ones are likely to share."""

    cdef PyObject *_lines  # the bytes under construction: nobody else knows them
    cdef char *_buffer  # ... their content
    cdef Py_ssize_t _size, _used
    cdef list _flows
    cdef long long _second
    cdef char[DATE_TIME] _date_time
    cdef object _plain

    def __cinit__(self):
        self._lines = NULL
        self._buffer = NULL
        self._size = self._used = 0
        self._flows = [None] * SLOTS
        self._second = -1
        self._plain = rows.Rows()

    def __dealloc__(self):
        Py_CLEAR(self._lines)

    def encode(self, batch, objects=()):
        """One line an entry; `objects`, if given, are members that go before each closing brace."""
        cdef Py_ssize_t start
        cdef bytes members, row
        cdef bint plain = not objects
        self._begin()
        others = iter(objects)
        for entry in batch:
            start = self._used
            self.need(0)
            try:
                self._row(entry)
            except (Unusual, OverflowError, UnicodeEncodeError):
                self._used = start
                row = self._plain.encode([entry])
                self._bytes(row[: len(row) - 2])
            if not plain:
                members = next(others)
                self._bytes(members)
            self._raw(b"}\n", 2)
        return self._done()

    cdef int _begin(self) except -1:
        """Room for as much as the last batch took, and an eighth more."""
        cdef Py_ssize_t size = LEAST
        if self._used > LEAST:
            size = self._used + (self._used >> 3)
        Py_CLEAR(self._lines)  # of a batch that failed
        self._size = self._used = 0
        self._lines = new_bytes(NULL, size)
        self._buffer = text_of(self._lines)
        self._size = size
        return 0

    cdef bytes _done(self):
        """The lines; they are this object's no more."""
        self._size = 0
        _PyBytes_Resize(&self._lines, self._used)
        done = <bytes>self._lines
        Py_CLEAR(self._lines)
        return done

    # -- writing

    cdef int need(self, Py_ssize_t more) except -1:
        """Room for so many bytes more, and FIXED beyond them."""
        more += FIXED
        if more <= self._size - self._used:
            return 0
        cdef Py_ssize_t size = 2 * self._size + more
        self._size = 0  # where there is no memory, there are no lines either
        _PyBytes_Resize(&self._lines, size)
        self._buffer = text_of(self._lines)
        self._size = size
        return 0

    cdef inline void _raw(self, const char *text, Py_ssize_t size) noexcept:
        """A constant: part of what FIXED is for."""
        memcpy(self._buffer + self._used, text, size)
        self._used += size

    cdef inline int _bytes(self, bytes text) except -1:
        self.need(PyBytes_GET_SIZE(text))
        self._raw(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        return 0

    cdef inline int _bool(self, object value) except -1:
        if value is True or (value is not False and PyObject_IsTrue(value)):
            self._raw(b"true", 4)
        else:
            self._raw(b"false", 5)
        return 0

    cdef void _number(self, long long value) noexcept:
        cdef char *out = self._buffer + self._used
        cdef unsigned long long rest = <unsigned long long>value
        cdef int digits
        if value < 0:
            out[0] = 45
            self._used += 1
            out += 1
            rest = 0 - rest
        digits = ((64 - leading_zeros(rest | 1)) * 1233) >> 12  # 1233 / 4096 is log10(2), a little more
        digits += rest >= POWERS[digits]
        digits += digits == 0
        self._used += digits
        while digits > 2:
            digits -= 2
            memcpy(out + digits, PAIRS + 2 * (rest % 100), 2)
            rest //= 100
        if digits == 2:
            memcpy(out, PAIRS + 2 * rest, 2)
        else:
            out[0] = <char>(48 + rest)

    cdef int _string(self, object text) except -1:
        """The inside of a JSON string."""
        cdef Py_ssize_t size, i
        cdef unsigned char c, odd = 0
        if not PyUnicode_Check(text):
            raise Unusual
        cdef const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size)
        for i in range(size):  # without a branch, so that it is done by vectors
            c = <unsigned char>utf8[i]
            odd |= (c < 32) | (c == 34) | (c == 92)
        if not odd:
            self.need(size)
            self._raw(utf8, size)
            return 0
        self.need(6 * size)
        for i in range(size):
            self._char(<unsigned char>utf8[i])
        return 0

    cdef inline void _char(self, unsigned char c) noexcept:
        """One byte of a string, escaped; `need` made room for six."""
        cdef char *out = self._buffer + self._used
        cdef const char *hexadecimal = b"0123456789abcdef"
        cdef char letter = 0
        if c >= 32 and c != 34 and c != 92:
            out[0] = <char>c
            self._used += 1
            return
        out[0] = 92
        if c == 34 or c == 92:
            letter = <char>c
        elif c == 8:
            letter = 98
        elif c == 9:
            letter = 116
        elif c == 10:
            letter = 110
        elif c == 12:
            letter = 102
        elif c == 13:
            letter = 114
        if letter:
            out[1] = letter
            self._used += 2
            return
        memcpy(out + 1, b"u00", 3)
        out[4] = hexadecimal[c >> 4]
        out[5] = hexadecimal[c & 15]
        self._used += 6

    cdef int _time(self, long long ns) except -1:
        """RFC 3339; the date and time of the last second are kept."""
        cdef long long second = ns // SECOND
        cdef unsigned int rest = <unsigned int>(ns - second * SECOND)
        cdef char *out
        cdef int at
        if ns < 0:
            raise Unusual
        if second != self._second:
            text = date_time(second).encode()
            if len(text) != DATE_TIME:
                raise Unusual  # the year 10000
            memcpy(self._date_time, PyBytes_AS_STRING(text), DATE_TIME)
            self._second = second
        out = self._buffer + self._used
        memcpy(out, self._date_time, DATE_TIME)
        out += DATE_TIME
        for at in range(8, 0, -2):
            memcpy(out + at, PAIRS + 2 * (rest % 100), 2)
            rest //= 100
        out[0] = 46
        out[1] = <char>(48 + rest)
        out[10] = 90
        self._used += DATE_TIME + 11
        return 0

    # -- a row

    cdef Pieces _pieces(self, object flow, object protocol):
        """The shared parts of a flow's rows; they hold the flow, so its address stays its own."""
        cdef uintptr_t mixed = <uintptr_t><PyObject *>flow
        mixed = (mixed >> 4) * 0x9E3779B1UL
        cdef Py_ssize_t at = <Py_ssize_t>((mixed >> 8) & <uintptr_t>(SLOTS - 1)) & ~1
        first = self._flows[at]
        if first is not None and (<Pieces>first).fits(flow, protocol):
            return <Pieces>first
        second = self._flows[at + 1]
        if second is None or not (<Pieces>second).fits(flow, protocol):
            second = self._made(flow, protocol)
        self._flows[at], self._flows[at + 1] = second, first
        return <Pieces>second

    cdef Pieces _made(self, object flow, object protocol):
        """Written where the row would be, and taken away again; `encode` knows where that begins."""
        cdef Pieces made = Pieces.__new__(Pieces)
        made.flow, made.protocol = flow, protocol
        made.client, made.server = field(flow, F_CLIENT), field(flow, F_SERVER)
        cdef Py_ssize_t start = self._used
        self._raw(b'{"id":"', 7)
        self._string(flow.id)
        self._raw(b"-", 1)
        made.head = self._taken(start)
        made.ends = self._ends(flow, protocol, made.client, made.server)
        self._raw(b',"backend":"', 12)
        self._string(flow.backend)
        self._raw(b'"', 1)
        made.backend = self._taken(start)
        return made

    cdef bytes _taken(self, Py_ssize_t start):
        """What was written since then."""
        found = PyBytes_FromStringAndSize(self._buffer + start, self._used - start)
        self._used = start
        self.need(0)
        return found

    cdef bytes _ends(self, object flow, object protocol, object source, object target):
        """From the protocol to the two ends."""
        cdef Py_ssize_t start = self._used
        self._raw(b'","protocol":"', 14)
        self._string(protocol)
        self._raw(b'","transport":"', 15)
        self._string(flow.transport)
        self._raw(b'","src":', 8)
        self._end(source)
        self._raw(b',"dst":', 7)
        self._end(target)
        self._raw(b',"request":', 11)
        return self._taken(start)

    cdef int _end(self, object end) except -1:
        """One end of a flow."""
        if type(end) is not Endpoint:
            raise Unusual
        name, dns = field(end, P_NAME), field(end, P_DNS)
        pid, comm = field(end, P_PID), field(end, P_COMM)
        tid, cgroup, netns = field(end, P_TID), field(end, P_CGROUP), field(end, P_NETNS)
        self._raw(b'{"ip":"', 7)
        self._string(field(end, P_IP))
        self._raw(b'","port":', 9)
        self._number(number(field(end, P_PORT)))
        self._raw(b',"name":', 8)
        if name is None:
            self._raw(b"null", 4)
        else:
            self._raw(b'"', 1)
            self._string(name)
            self._raw(b'"', 1)
        if dns is not None:
            self._raw(b',"dns":"', 8)
            self._string(dns)
            self._raw(b'"', 1)
        if pid is not None:
            self._raw(b',"pid":', 7)
            self._number(number(pid))
        if comm is not None:
            self._raw(b',"comm":"', 9)
            self._string(comm)
            self._raw(b'"', 1)
        if tid is not None:
            self._raw(b',"tid":', 7)
            self._number(number(tid))
        if cgroup is not None:
            self._raw(b',"cgroup":"', 11)
            self._string(cgroup)
            self._raw(b'"', 1)
        if netns is not None:
            self._raw(b',"netns":', 9)
            self._number(number(netns))
        self._raw(b"}", 1)
        return 0

    cdef int _row(self, object entry) except -1:
        """All of a row but its closing brace."""
        if not PyObject_TypeCheck(entry, ENTRY):
            raise Unusual
        flow = field(entry, E_FLOW)
        request, response = field(entry, E_REQUEST), field(entry, E_RESPONSE)
        if not PyObject_TypeCheck(flow, FLOW) or not (is_half(request) and is_half(response)):
            raise Unusual
        cdef Pieces shared = self._pieces(flow, field(entry, E_PROTOCOL))
        cdef long long asked = 0, answered = 0
        if response is not None:
            answered = asked = number(field(response, M_FIRST))
        if request is not None:
            asked = number(field(request, M_FIRST))
        self._bytes(shared.head)
        self._number(number(field(entry, E_SEQ)))
        self._raw(b'","time":"', 10)
        self._time(asked)
        if PyObject_IsTrue(field(entry, E_SWAPPED)):
            if shared.swapped is None:
                shared.swapped = self._ends(flow, shared.protocol, shared.server, shared.client)
            self._bytes(shared.swapped)
        else:
            self._bytes(shared.ends)
        self._request(request, asked)
        self._raw(b',"response":', 12)
        self._response(response, answered)
        self._spans(request, response, asked, answered)
        self._raw(b',"outcome":"', 12)
        self._string(field(entry, E_OUTCOME))
        self._raw(b'","gap_bytes":', 14)
        self._number(number(field(entry, E_GAP)))
        self._raw(b',"midstream":', 13)
        self._bool(field(entry, E_MIDSTREAM))
        self._raw(b',"truncated":', 13)
        self._bool(field(entry, E_TRUNCATED))
        self._bytes(shared.backend)
        return self._notes(request, response)

    cdef int _request(self, object half, long long first) except -1:
        if half is None:
            self._raw(b"null", 4)
            return 0
        self._raw(b'{"verb":"', 9)
        self._string(field(half, M_VERB))
        self._raw(b'","target":"', 12)
        self._string(field(half, M_TARGET))
        self._raw(b'","size":', 9)
        self._number(number(field(half, M_SIZE)))
        self._raw(b',"time":"', 9)
        self._time(first)
        self._raw(b'"}', 2)
        return 0

    cdef int _response(self, object half, long long first) except -1:
        if half is None:
            self._raw(b"null", 4)
            return 0
        cdef long long status = number(field(half, M_STATUS))
        error = field(half, M_TARGET)
        self._raw(b'{"status":', 10)
        if status:
            self._number(status)
        else:
            self._raw(b"null", 4)
        self._raw(b',"ok":', 6)
        self._bool(field(half, M_OK))
        self._raw(b',"size":', 8)
        self._number(number(field(half, M_SIZE)))
        self._raw(b',"time":"', 9)
        self._time(first)
        if error != "" and not PyObject_IsTrue(field(half, M_OK)):
            self._raw(b'","error":"', 11)
            self._string(error)
        self._raw(b'"}', 2)
        return 0

    cdef int _spans(self, object request, object response, long long asked, long long answered) except -1:
        """Latency and duration; no time is negative here, so no difference overflows."""
        if request is None or response is None:
            self._raw(b',"latency_ns":null,"duration_ns":null', 37)
            return 0
        cdef long long last = number(field(response, M_LAST))
        if last < 0:
            raise Unusual
        self._raw(b',"latency_ns":', 14)
        self._number(answered - asked)
        self._raw(b',"duration_ns":', 15)
        self._number(last - asked)
        return 0

    cdef int _notes(self, object request, object response) except -1:
        if no_notes(request) and no_notes(response):
            return 0
        return self._bytes(rows.notes(request, response).encode())


cdef inline bint is_half(object half):
    return half is None or PyObject_TypeCheck(half, MESSAGE)


cdef inline bint no_notes(object half) except -1:
    if half is None:
        return True
    notes = field(half, M_NOTES)
    return PyTuple_CheckExact(notes) and PyTuple_GET_SIZE(notes) == 0


def weigh(batch):
    """Bytes of heads and bodies."""
    cdef Py_ssize_t total = 0
    for entry in batch:
        if not PyObject_TypeCheck(entry, ENTRY):
            return rows.weigh(batch)
        total += weight(field(entry, E_REQUEST)) + weight(field(entry, E_RESPONSE))
    return total


cdef Py_ssize_t weight(object half) except -1:
    if half is None:
        return 0
    if not PyObject_TypeCheck(half, MESSAGE):
        raise TypeError(f"half of an entry is {type(half).__name__}")
    return len(field(half, M_HEAD)) + len(field(half, M_BODY))


include "_suspects.pxi"
