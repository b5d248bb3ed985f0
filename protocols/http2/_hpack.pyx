# cython: language_level=3
"""The compiled twin of `kshark.protocols.http2.hpack`, equal field by field; that module says what it means.

Strings and lists are unpacked into scratch buffers of this module: nothing else runs while a block is decoded.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.string cimport memcmp, memcpy

from kshark.protocols.http2 import hpack as oracle
from kshark.protocols.http2 import tables

cdef enum:
    SCRATCH = 1 << 17  # a block of HEADER_BLOCK bytes unpacks to 8/5 of them at most
    LIMIT = 1 << 16
    NODES = 256
    SHORT = 64  # bytes of a block that is known again
    PATHS = 64  # paths whose text is at hand, each in the one place that its bytes give
    PATH = 128  # bytes of the longest of them
    LIST = 1 << 18  # HEADER_LIST

cdef extern from "Python.h":
    int cut_list "PyList_SetSlice"(PyObject *found, Py_ssize_t low, Py_ssize_t high, PyObject *items) except -1

cdef struct Jump:
    # What a byte does to the machine: two nibbles, so two steps at most.
    short next  # the node after it, -1 where there is none
    unsigned char count  # of bytes found
    unsigned char[2] found

cdef unsigned char _list[LIST]
cdef unsigned char _one[SCRATCH]
cdef unsigned char _other[SCRATCH]
cdef Jump _jumps[NODES * 256]
cdef bint _ends[NODES]

cdef long long HPACK_TABLE = oracle.HPACK_TABLE
cdef long long HEADER_LIST = oracle.HEADER_LIST
cdef long long LARGEST = oracle.LARGEST
cdef int BAD = oracle.BAD
cdef int PARTLY = oracle.PARTLY
cdef int LONG = oracle.LONG
cdef tuple FIXED = oracle.FIXED
cdef Py_ssize_t STATIC = len(oracle.FIXED)
cdef bytes NOBODY = oracle.NOBODY
cdef dict VERBS = oracle.VERBS
cdef str POST = VERBS[b"POST"]

if len(tables.NEXT) != NODES * 16 or STATIC != 61 or oracle.limits.HEADER_BLOCK > LIMIT or HEADER_LIST > LIST:
    raise ImportError("the tables of HPACK are not those that this module was compiled for")


cdef fill():
    """The machine by bytes, from that by nibbles."""
    cdef int node, byte, step, half, at
    cdef short following[NODES * 16]
    cdef short given[NODES * 16]
    cdef Jump jump
    for step in range(NODES * 16):
        following[step] = tables.NEXT[step]
        given[step] = tables.FOUND[step]
    for node in range(NODES):
        _ends[node] = tables.ENDS[node]
        for byte in range(256):
            jump.count = jump.found[0] = jump.found[1] = 0
            at = node
            for half in range(2):
                if at >= 0:
                    step = (at << 4) | (byte & 15 if half else byte >> 4)
                    at = following[step]
                    if given[step] >= 0 and at >= 0:
                        jump.found[jump.count] = <unsigned char>given[step]
                        jump.count += 1
            jump.next = at
            _jumps[(node << 8) | byte] = jump

fill()


cdef Py_ssize_t unpack(const unsigned char *p, Py_ssize_t size, unsigned char *out) noexcept nogil:
    """Decode a Huffman string: the bytes written, or -1. There is room for one more than that."""
    cdef Py_ssize_t i, length = 0
    cdef int at = 0
    cdef const Jump *jump
    for i in range(size):
        jump = &_jumps[(at << 8) | p[i]]
        at = jump.next
        if at < 0:
            return -1
        out[length] = jump.found[0]
        out[length + 1] = jump.found[1]
        length += jump.count
    return length if _ends[at] else -1


def unhuff(bytes data):
    """Decode a Huffman string."""
    cdef Py_ssize_t size
    if len(data) > LIMIT:
        raise oracle.BadBlock
    size = unpack(<const unsigned char *>PyBytes_AS_STRING(data), len(data), _one)
    if size < 0:
        raise oracle.BadBlock
    return PyBytes_FromStringAndSize(<char *>_one, size)


cdef inline long long integer(
    const unsigned char *p, Py_ssize_t *pos, Py_ssize_t end, unsigned char mask
) noexcept nogil:
    """The integer at `pos`, which moves on; -1 where it is none."""
    cdef long long value = p[pos[0]] & mask
    cdef int shift = 0
    cdef unsigned char byte
    pos[0] += 1
    if value < mask:
        return value
    while pos[0] < end and shift <= 28:
        byte = p[pos[0]]
        pos[0] += 1
        value += <long long>(byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value if value <= LARGEST else -1
    return -1


cdef inline const unsigned char *string(
    const unsigned char *p, Py_ssize_t *pos, Py_ssize_t end, unsigned char *scratch, Py_ssize_t *size
) noexcept nogil:
    """The string at `pos`, which moves on: where it is, or NULL."""
    cdef bint packed
    cdef long long length
    cdef const unsigned char *at
    if pos[0] >= end:
        return NULL
    packed = p[pos[0]] & 0x80
    length = integer(p, pos, end, 0x7F)
    if length < 0 or length > end - pos[0] or length > LIMIT:
        return NULL
    at = p + pos[0]
    pos[0] += length
    if not packed:
        size[0] = length
        return at
    size[0] = unpack(at, length, scratch)
    return scratch if size[0] >= 0 else NULL


cdef inline unsigned int number(const unsigned char *p) noexcept nogil:
    return (<unsigned int>p[0] << 24) | (p[1] << 16) | (p[2] << 8) | p[3]


cdef inline void put(unsigned char *p, unsigned int value) noexcept nogil:
    p[0] = value >> 24
    p[1] = (value >> 16) & 0xFF
    p[2] = (value >> 8) & 0xFF
    p[3] = value & 0xFF


cdef inline void write(
    unsigned char *out, const unsigned char *name, Py_ssize_t size, const unsigned char *value, Py_ssize_t length
) noexcept nogil:
    """A field of a list; its name is unknown where it is NULL, and then has no bytes."""
    put(out, <unsigned int>size if name != NULL else 0xFFFFFFFFu)
    put(out + 4, <unsigned int>length)
    if name != NULL:
        memcpy(out + 8, name, size)
        out += size
    memcpy(out + 8, value, length)


cdef list _paths = [None] * PATHS
cdef list _texts = [None] * PATHS


cdef str path_of(const unsigned char *p, Py_ssize_t size):
    """A path as text: services ask for few, so that most are not made again, nor hashed again by who looks them up."""
    cdef Py_ssize_t at
    cdef bytes known
    if not 0 < size <= PATH:
        return p[:size].decode("latin-1")
    at = (size * 31 + p[size - 1] * 7 + p[size // 2]) & (PATHS - 1)
    known = <bytes>_paths[at]
    if known is None or PyBytes_GET_SIZE(known) != size or memcmp(PyBytes_AS_STRING(known), p, size) != 0:
        _texts[at] = p[:size].decode("latin-1")
        _paths[at] = PyBytes_FromStringAndSize(<const char *>p, size)
    return <str>_texts[at]


cdef class Seen:
    """A short block of an answer that changed nothing, and what it says while the table stays as it is."""

    cdef bint fits(self, const unsigned char *p, Py_ssize_t size, long long changes) noexcept:
        return (
            self.changes == changes
            and PyBytes_GET_SIZE(self.block) == size
            and memcmp(PyBytes_AS_STRING(self.block), p, size) == 0
        )


cdef class Decoder:
    """The dynamic table of one side, and what its last block said."""

    def __init__(self):
        self.entries = []
        self.size = 0
        self.room = oracle.DEFAULT
        self.partial = False
        self.reset()

    cpdef reset(self):
        self.flags = 0
        self.head = b""
        self.verb = self.target = ""
        self.status = 0

    cpdef forget(self):
        """A block was lost."""
        self.changes += 1
        self.entries = []
        self.size = 0
        self.room = HPACK_TABLE
        self.partial = True

    cpdef widen(self, long long room):
        """The peer allows a table of this size."""
        if room > self.room:
            self.resize(room)

    cpdef resize(self, long long room):
        """The table has this size from now on."""
        self.changes += 1
        if room == 0:
            self.partial = False
        elif room > HPACK_TABLE:
            self.partial = True
        self.room = min(room, HPACK_TABLE)
        self.evict(0)

    cpdef int decode(self, bytes block, Py_ssize_t start, Py_ssize_t end) except? -1:
        """Decode a whole block; gives `flags`."""
        self.reset()
        if end > len(block):
            end = len(block)
        cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(block) + start
        cdef Py_ssize_t size = end - start
        cdef bint short = 0 <= start and 0 < size <= SHORT
        cdef long long before = self.changes
        if short and self.again(p, size):
            return 0
        if self.parts(block, start, end) < 0:
            self.forget()
            self.head = b""
            self.flags = BAD
            return BAD
        self.pseudo(self.head)
        if short and self.flags == 0 and before == self.changes and not self.verb and not self.target:
            self.keep(p, size)
        return self.flags

    cdef bint again(self, const unsigned char *p, Py_ssize_t size):
        """Take what is known of the same block: a service answers most calls alike, in headers and in trailers."""
        cdef Seen seen = self.one
        if seen is None or not seen.fits(p, size, self.changes):
            seen = self.other
            if seen is None or not seen.fits(p, size, self.changes):
                return False
        self.head = seen.head
        self.status = seen.status
        return True

    cdef keep(self, const unsigned char *p, Py_ssize_t size):
        """This block may come again."""
        cdef Seen seen = Seen.__new__(Seen)
        seen.block = PyBytes_FromStringAndSize(<const char *>p, size)
        seen.head = self.head
        seen.status = self.status
        seen.changes = self.changes
        self.other = self.one
        self.one = seen

    cdef int parts(self, bytes block, Py_ssize_t pos, Py_ssize_t end) except -2:
        """The fields of a block go into `head`; -1 where it is broken."""
        cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(block)
        cdef const unsigned char *name
        cdef const unsigned char *value
        cdef Py_ssize_t size = 0, length = 0, more, total = 0, kept = 0
        cdef unsigned char byte
        cdef long long index
        cdef bint begun = False, adds
        cdef bytes entry, known
        while pos < end:
            byte = p[pos]
            if byte & 0xE0 == 0x20:
                index = integer(p, &pos, end, 0x1F)
                if index < 0 or begun:
                    return -1
                self.resize(index)
                continue
            begun = True
            if byte & 0x80:
                index = integer(p, &pos, end, 0x7F)
                if 0 < index <= STATIC:
                    entry = <bytes>PyTuple_GET_ITEM(FIXED, <Py_ssize_t>index - 1)
                else:
                    entry = self.entry(index)
                if entry is None:
                    return -1
                value = <const unsigned char *>PyBytes_AS_STRING(entry)
                if value[0] == 0xFF or value[4] == 0xFF:
                    self.flags |= PARTLY
                more = PyBytes_GET_SIZE(entry)
                total += more
                if total <= HEADER_LIST:
                    memcpy(_list + kept, value, more)
                    kept = total
                continue
            adds = byte & 0x40
            index = integer(p, &pos, end, 0x3F if adds else 0x0F)
            if index < 0:
                return -1
            if index:
                known = self.entry(index) if index > STATIC else <bytes>PyTuple_GET_ITEM(FIXED, <Py_ssize_t>index - 1)
                if known is None:
                    return -1
                name = <const unsigned char *>PyBytes_AS_STRING(known)
                if name[0] == 0xFF:
                    name = NULL
                    size = 0
                else:
                    size = number(name)
                    name += 8
            else:
                name = string(p, &pos, end, _one, &size)
                if name == NULL:
                    return -1
            value = string(p, &pos, end, _other, &length)
            if value == NULL:
                return -1
            if name == NULL:
                self.flags |= PARTLY
            more = 8 + size + length
            if adds:
                entry = PyBytes_FromStringAndSize(NULL, more)
                write(<unsigned char *>PyBytes_AS_STRING(entry), name, size, value, length)
                self.add(entry)
            total += more
            if total <= HEADER_LIST:
                write(_list + kept, name, size, value, length)
                kept = total
        if total > HEADER_LIST:
            self.flags |= LONG
        self.head = PyBytes_FromStringAndSize(<const char *>_list, kept)
        return 0

    cdef bytes entry(self, long long index):
        """The field of that index, None where there cannot be one."""
        cdef Py_ssize_t count = len(self.entries)
        cdef long long back = index - STATIC
        if index <= 0:
            return None
        if back <= 0:
            return <bytes>FIXED[<Py_ssize_t>index - 1]
        if back <= count:
            return <bytes>self.entries[count - <Py_ssize_t>back]
        return NOBODY if self.partial else None

    cdef add(self, bytes entry):
        """A new entry of the dynamic table, the old ones make room."""
        cdef long long size = PyBytes_GET_SIZE(entry) + 24
        self.changes += 1
        if size > self.room:
            if self.room < HPACK_TABLE:
                self.entries = []
                self.size = 0
                return
            entry = NOBODY
            size = PyBytes_GET_SIZE(entry) + 24
        self.evict(size)
        self.entries.append(entry)
        self.size += size

    cdef evict(self, long long size):
        """Make room for so many bytes."""
        cdef Py_ssize_t gone = 0
        while self.size + size > self.room:
            self.size -= PyBytes_GET_SIZE(<bytes>self.entries[gone]) + 24
            gone += 1
        if gone:
            cut_list(<PyObject *>self.entries, 0, gone, NULL)

    cdef pseudo(self, bytes head):
        """What a row shows."""
        cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(head)
        cdef const unsigned char *end = p + PyBytes_GET_SIZE(head)
        cdef const unsigned char *name
        cdef unsigned int size, length
        cdef bint known
        cdef bytes value
        while p < end:
            size = number(p)
            length = number(p + 4)
            known = size != 0xFFFFFFFFu and length != 0xFFFFFFFFu
            name = p + 8
            if size == 0xFFFFFFFFu:
                size = 0
            if length == 0xFFFFFFFFu:
                length = 0
            p = name + size + length
            if not known:
                continue
            if size == 0 or name[0] != c':':
                return
            if size == 7 and memcmp(name, b":method", 7) == 0:
                if length == 4 and memcmp(name + 7, b"POST", 4) == 0:
                    self.verb = POST
                    continue
                value = PyBytes_FromStringAndSize(<const char *>name + size, length)
                self.verb = VERBS.get(value) or value.decode("latin-1")
            elif size == 5 and memcmp(name, b":path", 5) == 0:
                self.target = path_of(name + size, length)
            elif size == 7 and length == 3 and memcmp(name, b":status", 7) == 0:
                self.three(name + 7)

    cdef void three(self, const unsigned char *p) noexcept:
        """The status, where it is three digits."""
        cdef int i
        for i in range(3):
            if not c'0' <= p[i] <= c'9':
                return
        self.status = 100 * (p[0] - c'0') + 10 * (p[1] - c'0') + p[2] - c'0'
