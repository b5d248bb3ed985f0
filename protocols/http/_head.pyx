# cython: boundscheck=False
"""The compiled twin of ``head``: one pass over the bytes in C, the same findings in the same fields.

`bytes` end with a NUL that may be read, so the byte after the last one needs no check. What a line
means is written as in ``head``, function by function; read that first.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy

from kshark._message cimport make

from kshark import limits
from kshark.protocols.http import head as oracle

cdef long BARE_CR = oracle.BARE_CR
cdef long BARE_LF = oracle.BARE_LF
cdef long NUL = oracle.NUL
cdef long LEADING_SPACE = oracle.LEADING_SPACE
cdef long FOLDED = oracle.FOLDED
cdef long SPACE_COLON = oracle.SPACE_COLON
cdef long ODD_NAME = oracle.ODD_NAME
cdef long NO_COLON = oracle.NO_COLON
cdef long ODD_START = oracle.ODD_START
cdef long REPEATED_LENGTH = oracle.REPEATED_LENGTH
cdef long DIFFERING_LENGTHS = oracle.DIFFERING_LENGTHS
cdef long BAD_LENGTH = oracle.BAD_LENGTH
cdef long HUGE_LENGTH = oracle.HUGE_LENGTH
cdef long LENGTH_AND_ENCODING = oracle.LENGTH_AND_ENCODING
cdef long ODD_ENCODING = oracle.ODD_ENCODING
cdef long BAD_ENCODING = oracle.BAD_ENCODING
cdef long ENCODING_10 = oracle.ENCODING_10
cdef long ODD_CHUNK = oracle.ODD_CHUNK
cdef str GET = oracle.VERBS[b"GET"]
cdef str PUT = oracle.VERBS[b"PUT"]
cdef str POST = oracle.VERBS[b"POST"]
cdef str HEAD = oracle.VERBS[b"HEAD"]
cdef Py_ssize_t CHUNK_LINE = limits.CHUNK_LINE

cdef enum:
    MORE = 0
    DONE = 1
    BAD = -1
    CHUNK_MORE = -1
    CHUNK_BAD = -2
    CHUNK_HUGE = -3
    NO_LENGTH = -1
    WRONG_LENGTH = -2
    UNCODED = 0
    CHUNKED = 1
    CODED = 2
    # which header a name is
    OTHER = 0
    CONTENT_LENGTH = 1
    TRANSFER_ENCODING = 2
    UPGRADE = 3

cdef long long LARGEST = 0x7FFFFFFFFFFFFFFF
cdef unsigned char[256] TOKEN
cdef unsigned char[256] METHOD
cdef int _c
for _c in range(256):
    TOKEN[_c] = bytes((_c,)) in b"!#$%&'*+-.^_`|~" or bytes((_c,)).isalnum()
    METHOD[_c] = bytes((_c,)) in b"_-" or bytes((_c,)).isalnum()

cdef inline bint blank(unsigned char c) noexcept nogil:
    return c == c' ' or c == c'\t'


cdef inline bint space(unsigned char c) noexcept nogil:
    return c == c' ' or c == c'\t' or c == c'\r' or c == c'\n'


cdef inline bint digit(unsigned char c) noexcept nogil:
    return c'0' <= c <= c'9'


cdef inline int hexadecimal(unsigned char c) noexcept nogil:
    if digit(c):
        return c - c'0'
    c |= 32
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


cdef inline bint same(const unsigned char *p, const char *name, Py_ssize_t size) noexcept nogil:
    """Whether the `size` bytes at `p` are `name` (lower case), whatever their case."""
    cdef Py_ssize_t i
    cdef unsigned char c
    for i in range(size):
        c = p[i]
        if c'A' <= c <= c'Z':
            c |= 32
        if c != <unsigned char>name[i]:
            return False
    return True


cdef inline bint known(const unsigned char *p, Py_ssize_t size) noexcept nogil:
    """Whether it is one of `head._CODINGS`."""
    if size == 2:
        return same(p, b"br", 2)
    if size == 4:
        return same(p, b"gzip", 4) or same(p, b"zstd", 4)
    if size == 6:
        return same(p, b"x-gzip", 6)
    if size == 7:
        return same(p, b"deflate", 7)
    if size == 8:
        return same(p, b"compress", 8) or same(p, b"identity", 8)
    return size == 10 and same(p, b"x-compress", 10)


cdef inline bint is_version(const unsigned char *p) noexcept nogil:
    return memcmp(p, b"HTTP/1.", 7) == 0 and digit(p[7])


cdef inline int framing(const unsigned char *p, Py_ssize_t size) noexcept nogil:
    """Which of the headers that frame a message has this name."""
    if size == 14:
        return CONTENT_LENGTH if same(p, b"content-length", 14) else OTHER
    if size == 17:
        return TRANSFER_ENCODING if same(p, b"transfer-encoding", 17) else OTHER
    if size == 7:
        return UPGRADE if same(p, b"upgrade", 7) else OTHER
    return OTHER


cdef inline Py_ssize_t find(const unsigned char *p, unsigned char c, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    cdef const unsigned char *found
    if start >= end:
        return -1
    found = <const unsigned char *>memchr(p + start, c, end - start)
    return found - p if found != NULL else -1


# A client that stays sends the same headers again and again: those of requests without a body, from the second line
# on, are kept with what they say of the framing, each in the one place that some of its bytes give.
cdef enum:
    PLACES = 256
    SHORTEST = 16

cdef Py_ssize_t KNOWN_HEAD = limits.KNOWN_HEAD
if limits.KNOWN_HEADS != PLACES:
    raise ImportError("kshark's compiled modules are of another version: build them again")
cdef list _headers = [None] * PLACES
cdef long long[PLACES] _length
cdef bint[PLACES] _upgrade


cdef inline int place(const unsigned char *p, Py_ssize_t size) noexcept nogil:
    """Where headers of SHORTEST bytes or more are kept."""
    cdef uint64_t first, middle, last
    memcpy(&first, p, 8)
    memcpy(&middle, p + (size >> 1), 8)
    memcpy(&last, p + size - 12, 8)
    first = (first ^ <uint64_t>size) * 0x9E3779B97F4A7C15ULL
    middle = (middle ^ (first >> 29)) * 0xBF58476D1CE4E5B9ULL
    last = (last ^ (middle >> 31)) * 0x94D049BB133111EBULL
    return <int>((last >> 40) & (PLACES - 1))


cdef class Head:
    """What the last scan found; offsets are into the bytes that were scanned."""

    def __init__(self):
        self.reset()

    cdef void reset(self):
        self.end = 0
        self.raw = b""
        self.verb = ""
        self.target = ""
        self.minor = 0
        self.status = 0
        self.length = NO_LENGTH
        self.coding = UNCODED
        self.upgrade = False
        self.flags = 0

    cpdef int request(self, bytes data, Py_ssize_t start) except? -1:
        """Scan the request head at `start`: DONE, MORE or BAD."""
        cdef const unsigned char *p = data
        cdef Py_ssize_t size = len(data)
        cdef Py_ssize_t end = find(p, c'\n', start, size)
        self.reset()
        if end < 0:
            return MORE
        if not self.request_line(p, start, end - (end > start and p[end - 1] == c'\r')):
            return BAD
        self.verb = self.name(data, start)
        self.target = data[self.target_start : self.target_end].decode("latin-1")
        if self.recalled(p, start, end + 1, size):
            self.raw = self.piece(data, start, self.end)
            return DONE
        if self.headers(p, start, end + 1, size) == MORE:
            return MORE
        self.raw = self.piece(data, start, self.end)
        self.keep(p, end + 1, size)
        return DONE

    cpdef int response(self, bytes data, Py_ssize_t start) except? -1:
        """Scan the response head at `start`: DONE, MORE or BAD."""
        cdef const unsigned char *p = data
        cdef Py_ssize_t size = len(data)
        cdef Py_ssize_t end = find(p, c'\n', start, size)
        self.reset()
        if end < 0:
            return MORE
        if not self.status_line(p, start, end - (end > start and p[end - 1] == c'\r')):
            return BAD
        if self.headers(p, start, end + 1, size) == MORE:
            return MORE
        self.raw = self.piece(data, start, self.end)
        return DONE

    cpdef long long chunk(self, bytes data, Py_ssize_t start) except? -1:
        """The chunk size of the line at `start`, or CHUNK_*; ``end`` is just after the line."""
        cdef const unsigned char *p = data
        cdef Py_ssize_t size = len(data)
        cdef Py_ssize_t stop = min(size, start + CHUNK_LINE)
        cdef Py_ssize_t end = find(p, c'\n', start, stop)
        cdef Py_ssize_t digits
        cdef unsigned long long value = 0
        cdef bint huge = False
        self.flags = 0
        if end < 0:
            return CHUNK_BAD if size - start >= CHUNK_LINE else CHUNK_MORE
        self.end = end + 1
        self.line(p, start, &end)
        while blank(p[start]):
            start += 1
            self.flags |= ODD_CHUNK
        digits = start
        while start < end and hexadecimal(p[start]) >= 0:
            huge = huge or value >> 59 != 0
            value = (value << 4) | <unsigned long long>hexadecimal(p[start])
            start += 1
        if start == digits:
            self.flags &= ~ODD_CHUNK
            return CHUNK_BAD
        digits = start
        while start < end and blank(p[start]):
            start += 1
        if start < end and p[start] != c';':
            self.flags &= ~ODD_CHUNK
            return CHUNK_BAD
        if start > digits:
            self.flags |= ODD_CHUNK
        return CHUNK_HUGE if huge else <long long>value

    cdef str name(self, bytes data, Py_ssize_t start):
        """The method of the request line at `start`."""
        cdef const unsigned char *p = <const unsigned char *>data + start
        cdef Py_ssize_t size = self.verb_end - start
        if size == 3:
            if memcmp(p, b"GET", 3) == 0:
                return GET
            if memcmp(p, b"PUT", 3) == 0:
                return PUT
        elif size == 4:
            if memcmp(p, b"POST", 4) == 0:
                return POST
            if memcmp(p, b"HEAD", 4) == 0:
                return HEAD
        verb = data[start : self.verb_end]
        return oracle.VERBS.get(verb) or verb.decode("latin-1")

    cpdef object message(
        self, int kind, str verb, str target, int status, long long size, bytes head, bytes body
    ):
        """The message; here because the compiled twin makes it without a call through Python."""
        return make(kind, verb, target, status, status < 400, size, head, body)

    cpdef bytes piece(self, bytes data, Py_ssize_t start, Py_ssize_t end):
        """``data[start:end]``, without a slice object; the whole is not copied."""
        if end > len(data):
            end = len(data)
        if start == 0 and end == len(data):
            return data
        return PyBytes_FromStringAndSize(<char *>data + start, end - start if end > start else 0)

    cdef bint recalled(self, const unsigned char *p, Py_ssize_t begin, Py_ssize_t start, Py_ssize_t size) except -1:
        """Whether the bytes from `start` on are headers that are known; then all is set that `headers` would set."""
        cdef Py_ssize_t rest = size - start
        cdef int at
        if rest < SHORTEST or p[size - 1] != c'\n' or p[start - 2] != c'\r' or start - 2 < begin:
            return False
        at = place(p + start, rest)
        kept = _headers[at]
        if kept is None or PyBytes_GET_SIZE(kept) != rest or memcmp(PyBytes_AS_STRING(kept), p + start, rest):
            return False
        self.end = size
        self.length = _length[at]
        self.upgrade = _upgrade[at]
        if find(p, c'\r', begin, start - 2) >= 0:
            self.flags |= BARE_CR
        if find(p, 0, begin, start - 2) >= 0:
            self.flags |= NUL
        return True

    cdef keep(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t size):
        """The headers from `start` on, if nothing is odd about them and nothing follows, may come again."""
        cdef Py_ssize_t rest = size - start
        cdef int at
        if self.flags or self.coding != UNCODED or self.end != size or not SHORTEST <= rest <= KNOWN_HEAD:
            return
        at = place(p + start, rest)
        _headers[at] = PyBytes_FromStringAndSize(<const char *>p + start, rest)
        _length[at] = self.length
        _upgrade[at] = self.upgrade

    cdef bint line(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t *end) noexcept:
        """Take the CR off a line whose LF is at `end`, and look for what must not be in it."""
        cdef Py_ssize_t stop = end[0]
        if stop > start and p[stop - 1] == c'\r':
            stop -= 1
        else:
            self.flags |= BARE_LF
        end[0] = stop
        if find(p, c'\r', start, stop) >= 0:
            self.flags |= BARE_CR
        if find(p, 0, start, stop) >= 0:
            self.flags |= NUL
        return True

    cdef bint request_line(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept:
        cdef Py_ssize_t at = start
        cdef Py_ssize_t version
        if not METHOD[p[at]] or digit(p[at]) or p[at] == c'_' or p[at] == c'-':
            return False
        while METHOD[p[at]]:
            at += 1
        if at - start > 32 or p[at] != c' ':
            return False
        self.verb_end = at
        version = end
        while version > at and blank(p[version - 1]):
            version -= 1
        if version != end:
            self.flags |= ODD_START
        version -= 8
        if version <= at + 1 or not is_version(p + version) or not blank(p[version - 1]):
            return False
        self.minor = p[version + 7] - c'0'
        version -= 1
        at += 1
        while at < version and blank(p[at]):
            at += 1
            self.flags |= ODD_START
        while version > at and blank(p[version - 1]):
            version -= 1
            self.flags |= ODD_START
        self.target_start = at
        self.target_end = version
        if find(p, c' ', at, version) >= 0 or find(p, c'\t', at, version) >= 0:
            self.flags |= ODD_START
        return version > at

    cdef bint status_line(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept:
        cdef Py_ssize_t at = start + 8
        if end < at or not is_version(p + start):
            return False
        self.minor = p[start + 7] - c'0'
        while at < end and blank(p[at]):
            at += 1
        if at == start + 8 or at + 3 > end:
            return False
        if not (c'1' <= p[at] <= c'9' and digit(p[at + 1]) and digit(p[at + 2])):
            return False
        if at + 3 < end and not blank(p[at + 3]):
            return False
        if at != start + 9 or p[start + 8] != c' ':
            self.flags |= ODD_START
        self.status = 100 * (p[at] - c'0') + 10 * (p[at + 1] - c'0') + p[at + 2] - c'0'
        return True

    cdef int headers(
        self, const unsigned char *p, Py_ssize_t begin, Py_ssize_t start, Py_ssize_t size
    ) noexcept:
        """All lines from `start`; those of the whole head from `begin` are looked at for odd bytes."""
        cdef const unsigned char *line = p + start
        cdef const unsigned char *at = line
        cdef const unsigned char *end
        cdef Py_ssize_t value = 0, value_end = 0
        cdef int which = OTHER
        cdef Py_ssize_t pairs = start - 2 >= begin and p[start - 2] == c'\r'
        cdef Py_ssize_t lines = 1
        cdef bint first = True
        while True:
            while TOKEN[at[0]] and TOKEN[at[1]] and TOKEN[at[2]] and TOKEN[at[3]]:
                at += 4  # the NUL after the bytes is no token
            while TOKEN[at[0]]:
                at += 1
            end = <const unsigned char *>memchr(at, c'\n', p + size - at)
            if end == NULL:
                return MORE
            lines += 1
            start = end + 1 - p
            if end > line and (end - 1)[0] == c'\r':
                pairs += 1
                end -= 1
            if end == line:
                break
            if at[0] == c':' and at > line:  # nearly all
                if which != OTHER:
                    self.header(p, which, value, value_end)
                which = framing(line, at - line)
                value = at + 1 - p
            elif blank(line[0]):
                self.flags |= LEADING_SPACE if first else FOLDED
            else:
                if which != OTHER:
                    self.header(p, which, value, value_end)
                which = self.split(p, line - p, end - p, &value)
            value_end = end - p
            first = False
            line = at = p + start
        if which != OTHER:
            self.header(p, which, value, value_end)
        self.end = start
        if pairs != lines:
            self.flags |= BARE_LF
        self.odd_bytes(p, begin, start, pairs)
        self.settle()
        return DONE

    cdef void odd_bytes(
        self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end, Py_ssize_t pairs
    ) noexcept:
        """CRs that end no line, and NULs; counted in bytes, so that the compiler makes the loop wide."""
        cdef Py_ssize_t i, stop, returns = 0
        cdef unsigned char some
        if memchr(p + start, 0, end - start) != NULL:
            self.flags |= NUL
        while start < end:
            stop = min(end, start + 255)
            some = 0
            for i in range(start, stop):
                some += p[i] == c'\r'
            returns += some
            start = stop
        if returns != pairs:
            self.flags |= BARE_CR

    cdef int split(
        self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end, Py_ssize_t *value
    ) noexcept:
        """Which header an odd line is; `value` is set to the offset after its colon."""
        cdef Py_ssize_t at = start
        cdef Py_ssize_t size
        while TOKEN[p[at]]:
            at += 1
        size = at - start
        while blank(p[at]):
            at += 1
        if p[at] != c':':
            self.flags |= ODD_NAME if find(p, c':', start, end) >= 0 else NO_COLON
            return OTHER
        self.flags |= SPACE_COLON if size else ODD_NAME
        value[0] = at + 1
        return framing(p + start, size)

    cdef void header(
        self, const unsigned char *p, int which, Py_ssize_t start, Py_ssize_t end
    ) noexcept:
        if which == CONTENT_LENGTH:
            self.content_length(p, start, end)
        elif which == TRANSFER_ENCODING:
            self.transfer_encoding(p, start, end)
        else:
            while start < end and space(p[start]):
                start += 1
            if start < end:
                self.upgrade = True

    cdef void content_length(
        self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end
    ) noexcept:
        cdef Py_ssize_t stop = start - 1
        while stop < end:
            start = stop + 1
            stop = find(p, c',', start, end)
            if stop < 0:
                stop = end
            self.one_length(p, start, stop)

    cdef void one_length(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept:
        cdef unsigned long long value = 0
        cdef Py_ssize_t at, digits
        while start < end and space(p[start]):
            start += 1
        while start < end and space(p[end - 1]):
            end -= 1
        for at in range(start, end):
            if not digit(p[at]):
                start = end
                break
        if start == end:
            self.flags |= BAD_LENGTH
            self.length = WRONG_LENGTH
            return
        while start < end - 1 and p[start] == c'0':
            start += 1
        digits = end - start
        for at in range(start, min(end, start + 19)):
            value = value * 10 + (p[at] - c'0')
        if digits > 19 or value > <unsigned long long>LARGEST:
            self.flags |= HUGE_LENGTH
            self.length = WRONG_LENGTH
        elif self.length == NO_LENGTH:
            self.length = <long long>value
        elif self.length == <long long>value:
            self.flags |= REPEATED_LENGTH
        elif self.length != WRONG_LENGTH:
            self.flags |= DIFFERING_LENGTHS
            self.length = WRONG_LENGTH

    cdef void transfer_encoding(
        self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end
    ) noexcept:
        cdef Py_ssize_t stop = start - 1
        if self.coding != UNCODED:
            self.flags |= ODD_ENCODING
        while stop < end:
            start = stop + 1
            stop = find(p, c',', start, end)
            if stop < 0:
                stop = end
            self.one_coding(p, start, stop)

    cdef void one_coding(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept:
        while start < end and space(p[start]):
            start += 1
        while start < end and space(p[end - 1]):
            end -= 1
        if end - start == 7 and same(p + start, b"chunked", 7):
            if self.coding == CHUNKED:
                self.flags |= ODD_ENCODING
            self.coding = CHUNKED
            return
        if not known(p + start, end - start):
            self.flags |= ODD_ENCODING
        if end > start or self.coding == UNCODED:
            self.coding = CODED

    cdef void settle(self) noexcept:
        """What only all headers together tell."""
        if self.coding == UNCODED:
            return
        if self.coding == CODED:
            self.flags |= BAD_ENCODING
        if self.length != NO_LENGTH:
            self.flags |= LENGTH_AND_ENCODING
        if self.minor == 0:
            self.flags |= ENCODING_10
