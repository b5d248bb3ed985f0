"""What a message asks, and the message itself, compiled; the twin is ``question.py``, equal field by field.

Each resolver asks from a new port, so that most questions are new ones to their flow.
Bounds: a name has NAME bytes, and its question five more; both fit in SPACE. MOST questions wait.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memmove

from kshark._message cimport Message, known, make

from kshark import limits
from kshark.api import DissectError

from .codes import TYPES, type_name
from .question import LETTERS, quoted

known()

cdef enum:
    SIX_WORDS = 12
    SPACE = 512

cdef int NAME = limits.DNS_NAME
cdef Py_ssize_t MOST = limits.DNS_WAITING
if NAME + 5 >= SPACE:
    raise ImportError("names are longer than kshark's compiled modules have room for")

cdef dict NAMES = TYPES
cdef unsigned char[256] PLAIN  # bytes of a label that need no quotation
cdef unsigned char[256] LOWER
cdef uint32_t[256] CRC  # ISO 3309, as that of zlib
cdef int _byte, _bit
for _byte in range(256):
    PLAIN[_byte] = LETTERS[_byte]
    LOWER[_byte] = _byte + 32 if 65 <= _byte <= 90 else _byte
    CRC[_byte] = _byte
    for _bit in range(8):
        CRC[_byte] = CRC[_byte] >> 1 ^ (0xEDB88320 if CRC[_byte] & 1 else 0)


@cython.final
cdef class Question:
    """The question that was read last: what it says, until a message asks something else."""

    def __cinit__(self):
        self.raw = b""
        self.verb = self.target = ""

    cpdef read(self, bytes data):
        """The first question of a message, which repeats nothing and so has no pointers."""
        cdef const unsigned char* text = <const unsigned char*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), same = PyBytes_GET_SIZE(self.raw)
        cdef Py_ssize_t at = SIX_WORDS, end, i
        cdef int length, kind
        cdef bint plain = True
        cdef uint32_t crc = 0xFFFFFFFF
        cdef unsigned char[SPACE] lower
        cdef char[SPACE] shown
        if same and size >= SIX_WORDS + same and not memcmp(
            text + SIX_WORDS, PyBytes_AS_STRING(self.raw), same
        ):
            return
        while True:
            if at >= size:
                raise DissectError("question beyond the end of the message")
            length = text[at]
            if length == 0:
                break
            if length > 63:
                raise DissectError(f"question with a label of type {length >> 6}")
            if at + length - SIX_WORDS >= NAME:
                raise DissectError(f"name over {NAME} bytes")
            end = at + length + 1
            if end > size:
                raise DissectError("question beyond the end of the message")
            shown[at - SIX_WORDS] = 46
            for i in range(at + 1, end):
                shown[i - SIX_WORDS] = <char>text[i]
                plain &= PLAIN[text[i]]
            at = end
        if at + 5 > size:
            raise DissectError("question beyond the end of the message")
        end = at - SIX_WORDS
        for i in range(end + 5):
            lower[i] = LOWER[text[SIX_WORDS + i]]
            crc = CRC[(crc ^ lower[i]) & 255] ^ crc >> 8
        kind = text[at + 1] << 8 | text[at + 2]
        self.raw = PyBytes_FromStringAndSize(<const char*>text + SIX_WORDS, end + 5)
        self.local = (end >= 6 and not memcmp(lower + end - 6, b"\x05local", 6)) or (
            end >= 5 and not memcmp(lower + end - 5, b"\x04arpa", 5)
        )
        self.type = kind
        self.digest = (crc ^ <uint32_t>0xFFFFFFFF) ^ <unsigned long long>kind << 16
        self.verb = NAMES.get(kind) or type_name(kind)
        if plain and end > 0:
            self.target = PyUnicode_DecodeLatin1(shown + 1, end - 1, NULL)
        else:
            self.target = quoted(data)


@cython.final
cdef class Asked:
    """Keys of the questions that wait, by id; of more than MOST the oldest goes. Few wait, so that no table is needed."""

    def __dealloc__(self):
        PyMem_Free(self.waiting)

    def __len__(self):
        return self.count

    cdef Py_ssize_t at(self, int ident) noexcept:
        """Where the one with this id is; -1 for nowhere."""
        cdef Py_ssize_t i = self.count - 1
        while i >= 0 and self.waiting[i].ident != ident:
            i -= 1
        return i

    cdef void drop(self, Py_ssize_t at) noexcept:
        self.count -= 1
        memmove(self.waiting + at, self.waiting + at + 1, (self.count - at) * sizeof(Waiting))

    cpdef put(self, int ident, long long key):
        """One more, or another one of this id."""
        cdef Py_ssize_t at = self.at(ident)
        cdef Py_ssize_t room
        cdef void* more
        if at < 0:
            if self.count >= MOST:
                self.drop(0)
            if self.count == self.room:
                room = 2 * self.room + 2
                more = PyMem_Realloc(self.waiting, room * sizeof(Waiting))
                if more == NULL:
                    raise MemoryError
                self.waiting = <Waiting*>more
                self.room = room
            at = self.count
            self.count += 1
            self.waiting[at].ident = ident
        self.waiting[at].key = key

    cpdef long long find(self, int ident, long long otherwise) except? -1:
        """The key of the one that has this id."""
        cdef Py_ssize_t at = self.at(ident)
        return otherwise if at < 0 else self.waiting[at].key

    cpdef answered(self, int ident, long long key):
        """The one with this id and key waits no more."""
        cdef Py_ssize_t at = self.at(ident)
        if at >= 0 and self.waiting[at].key == key:
            self.drop(at)


cpdef bytes piece(bytes data, Py_ssize_t start, Py_ssize_t end):
    """A slice at a tenth of its cost: of Python's objects it needs the result alone."""
    if not 0 <= start <= end <= PyBytes_GET_SIZE(data):
        return data[start:end]
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, end - start)


cpdef Message message(int kind, str verb, str target, int status, bint ok, long long key, bytes data):
    cdef Message made = make(kind, verb, target, status, ok, PyBytes_GET_SIZE(data), data, b"")
    made.key = key
    return made
