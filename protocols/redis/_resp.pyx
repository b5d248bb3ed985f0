"""The compiled twin of `kshark.protocols.redis.resp`: same names, same answers, same errors.

Pointers stay within the bytes object at hand: each loop is bounded by its size, and lines by LINE.
What is wrong is left to the pure functions to say, so that there is one wording.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr

from kshark import limits
from kshark.api import DissectError
from kshark.protocols.redis import resp as pure

ctypedef const unsigned char* Bytes

cdef enum:
    LINE = 32
    DEPTH = 32
    COUNT = 2147483647
    STREAMED = -1
    WRONG = -2

cdef long long BULK = limits.RESP_BULK
cdef Py_ssize_t INLINE = limits.RESP_INLINE

if limits.RESP_DEPTH != DEPTH or pure.LINE != LINE:
    raise ImportError("compiled for other limits")


cdef inline Bytes start(bytes data) noexcept:
    return <Bytes>PyBytes_AS_STRING(data)


cdef inline bytes cut(Bytes data, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<const char*>data, size)


cdef inline Py_ssize_t find(Bytes data, Py_ssize_t pos, Py_ssize_t size) noexcept:
    """The first LF in data[pos:size], or -1."""
    cdef Bytes found
    if pos >= size:
        return -1
    found = <Bytes>memchr(data + pos, c"\n", size - pos)
    return -1 if found == NULL else found - data


cdef inline long long number(Bytes digits, Py_ssize_t size) noexcept:
    """A strict length of at most 18 digits, or WRONG."""
    cdef long long value = 0
    cdef Py_ssize_t at
    if size < 1 or size > 18 or (digits[0] == c"0" and size > 1):
        return WRONG
    for at in range(size):
        if not c"0" <= digits[at] <= c"9":
            return WRONG
        value = value * 10 + (digits[at] - c"0")
    return value


cdef long long length(Bytes digits, Py_ssize_t size, long long limit) except -1:
    """A strict length within a limit; DissectError else."""
    cdef long long value = number(digits, size)
    if value == WRONG or value > limit:
        pure.number(cut(digits, size), limit)
        raise DissectError("bad length")
    return value


cdef inline Py_ssize_t item(Bytes data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t* begin) noexcept:
    """The end of a whole string ``$n`` at `pos`, behind its CRLF, and where its bytes begin; -1 if not whole."""
    cdef Py_ssize_t at = pos + 1
    cdef long long value = 0
    if at >= size or data[pos] != c"$":
        return -1
    while at < size and at - pos < 18 and c"0" <= data[at] <= c"9":
        value = value * 10 + (data[at] - c"0")
        at += 1
    if at == pos + 1 or at + 2 > size or data[at] != c"\r" or data[at + 1] != c"\n":
        return -1
    if data[pos + 1] == c"0" and at > pos + 2:
        return -1
    at += 2
    if value > size - at - 2 or data[at + value] != c"\r" or data[at + value + 1] != c"\n":
        return -1
    begin[0] = at
    return at + value + 2


def command(bytes data not None, Py_ssize_t pos):
    """A whole command at `pos`: where it ends, its name and its first argument."""
    cdef Bytes raw = start(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at, end, begin = 0
    cdef long long count = 0, done
    cdef bytes name = b"", first = b""
    if pos < 0 or pos >= size or raw[pos] != c"*":
        return None
    at = pos + 1
    while at < size and at - pos < 18 and c"0" <= raw[at] <= c"9":
        count = count * 10 + (raw[at] - c"0")
        at += 1
    if count == 0 or raw[pos + 1] == c"0" or at + 2 > size:
        return None
    if raw[at] != c"\r" or raw[at + 1] != c"\n":
        return None
    end = at + 2
    for done in range(count):
        end = item(raw, end, size, &begin)
        if end < 0:
            return None
        if done == 0:
            name = cut(raw + begin, end - begin - 2)
        elif done == 1:
            first = cut(raw + begin, end - begin - 2)
    return end, name, first


def reply(bytes data not None, Py_ssize_t pos):
    """Where a whole reply of one line or one string at `pos` ends; -1 for all else."""
    cdef Bytes raw = start(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), end, begin = 0
    if pos < 0 or pos >= size:
        return -1
    if raw[pos] == c"$":
        return item(raw, pos, size, &begin)
    if raw[pos] == c"+" or raw[pos] == c"-":
        end = find(raw, pos, size)
        if end > 0 and raw[end - 1] == c"\r":
            return end + 1
    return -1


cdef class Framing:
    """What both scanners know of the string that is under way."""

    cdef public long long left
    cdef public int tail
    cdef public bytes part

    cdef Py_ssize_t payload(self, Bytes data, Py_ssize_t pos, Py_ssize_t size) except -1:
        """Count off a string and check its CRLF."""
        cdef long long taken
        if self.left:
            taken = min(self.left, size - pos)
            self.left -= taken
            pos += taken
        while self.tail and not self.left and pos < size:
            if data[pos] != (c"\r" if self.tail == 2 else c"\n"):
                raise DissectError("a string longer than its length")
            self.tail -= 1
            pos += 1
        return pos

    cdef bint hole(self, long long missing) noexcept:
        """Count off lost bytes, if they lie within a string and its CRLF."""
        cdef long long taken
        if not 0 < missing <= self.left + self.tail:
            return False
        taken = min(self.left, missing)
        self.left -= taken
        self.tail -= missing - taken
        return True

    cdef bytes line(self, bytes data, Bytes raw, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t* end):
        """A length line that began in an earlier chunk or does not end in this one; None: go on."""
        cdef Py_ssize_t found = find(raw, pos, min(size, pos + LINE))
        cdef bytes whole
        if found < 0:
            self.part += data[pos : min(size, pos + LINE)]
            if PyBytes_GET_SIZE(self.part) >= LINE:
                raise DissectError("a length line without an end")
            return None
        whole = self.part + data[pos : found + 1]
        self.part = b""
        end[0] = found + 1
        return whole


cdef class Commands(Framing):
    """Where the command that is under way ends."""

    cdef public long long todo
    cdef public Py_ssize_t waiting
    cdef public bint inline, empty, blank

    def __init__(self):
        self.reset()

    cpdef reset(self):
        self.todo = -1
        self.left = 0
        self.tail = 0
        self.part = b""
        self.waiting = 0
        self.blank = True
        self.inline = False
        self.empty = False

    def scan(self, bytes data not None, Py_ssize_t pos):
        """The offset behind the command that began at or before `pos`, or -1."""
        cdef Bytes raw = start(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), found
        cdef bytes whole
        if pos < 0:
            raise ValueError("pos")
        while pos < size:
            if self.left or self.tail:
                pos = self.payload(raw, pos, size)
                if self.left or self.tail:
                    return -1
                self.todo -= 1
                if not self.todo:
                    self.todo = -1
                    return pos
                continue
            if PyBytes_GET_SIZE(self.part) == 0:
                if self.todo < 0 and (self.waiting or raw[pos] != c"*"):
                    return self.words(data, raw, pos, size)
                found = find(raw, pos, min(size, pos + LINE))
                if found >= 0:
                    self.head(raw + pos, found + 1 - pos)
                    pos = found + 1
                    if self.empty:
                        return pos
                    continue
            whole = self.line(data, raw, pos, size, &pos)
            if whole is None:
                return -1
            self.head(start(whole), PyBytes_GET_SIZE(whole))
            if self.empty:
                return pos
        return -1

    cdef int head(self, Bytes line, Py_ssize_t size) except -1:
        """One line of lengths."""
        cdef long long count
        if size < 2 or line[size - 2] != c"\r":
            raise DissectError("a length line without CRLF")
        if self.todo < 0:
            self.inline = False
            if size > 2 and line[1] == c"-":
                length(line + 2, size - 4, COUNT)
                self.empty = True
                return 0
            count = length(line + 1, size - 3, COUNT)
            self.empty = count == 0
            self.todo = count or -1
            return 0
        if line[0] != c"$":
            raise DissectError("an argument that is no bulk string")
        self.left = length(line + 1, size - 3, BULK)
        self.tail = 2
        return 0

    cdef Py_ssize_t words(self, bytes data, Bytes raw, Py_ssize_t pos, Py_ssize_t size) except -2:
        """An inline command: all up to LF."""
        cdef Py_ssize_t found = find(raw, pos, size), end
        self.inline = True
        end = size if found < 0 else found + 1
        self.waiting += end - pos
        if self.waiting > INLINE:
            raise DissectError("inline command over 64 KiB")
        self.blank = self.blank and not data[pos:end].strip()
        if found < 0:
            return -1
        self.empty = self.blank
        self.blank = True
        self.waiting = 0
        return end

    def open(self):
        """Within an array of strings."""
        return self.todo > 0

    def skip(self, long long missing):
        """Lost bytes within a string: 1 skipped, 2 and they end the command, 0 cannot tell."""
        if not self.hole(missing):
            return 0
        if self.left or self.tail:
            return 1
        self.todo -= 1
        if self.todo:
            return 1
        self.todo = -1
        return 2


cdef class Replies(Framing):
    """Where the reply that is under way ends."""

    cdef long long stack[DEPTH]
    cdef Py_ssize_t depth
    cdef public bint text, cr, chunks, errors, busy

    def __init__(self):
        self.reset()

    cpdef reset(self):
        self.depth = 0
        self.left = 0
        self.tail = 0
        self.part = b""
        self.text = self.cr = self.chunks = self.errors = self.busy = False

    def scan(self, bytes data not None, Py_ssize_t pos):
        """The offset behind the reply that began at or before `pos`, or -1."""
        cdef Bytes raw = start(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), found
        cdef bytes whole
        cdef bint element
        if pos < 0:
            raise ValueError("pos")
        if not self.busy:
            self.busy = True
            self.errors = False
        while pos < size:
            if self.left or self.tail:
                pos = self.payload(raw, pos, size)
                if self.left or self.tail:
                    return -1
                if self.chunks:
                    continue
            elif self.text or (PyBytes_GET_SIZE(self.part) == 0 and is_text(raw[pos])):
                pos = self.words(raw, pos, size)
                if pos < 0:
                    return -1
            else:
                found = -1
                if PyBytes_GET_SIZE(self.part) == 0:
                    if not is_type(raw[pos]):
                        raise DissectError("not RESP")
                    found = find(raw, pos, min(size, pos + LINE))
                if found >= 0:
                    element = self.head(raw + pos, found + 1 - pos)
                    pos = found + 1
                else:
                    whole = self.line(data, raw, pos, size, &pos)
                    if whole is None:
                        return -1
                    element = self.head(start(whole), PyBytes_GET_SIZE(whole))
                if not element:
                    continue
            if self.done():
                self.busy = False
                return pos
        return -1

    cdef Py_ssize_t words(self, Bytes data, Py_ssize_t pos, Py_ssize_t size) except -2:
        """A line of text: behind its end, or -1."""
        cdef Py_ssize_t found
        if not self.text:
            if self.chunks:
                raise DissectError("a streamed string broken off")
            self.errors = self.errors or (data[pos] == c"-" and self.depth > 0)
            self.cr = False
        found = find(data, pos, size)
        if found < 0:
            self.text = True
            self.cr = data[size - 1] == c"\r"
            return -1
        if not (data[found - 1] == c"\r" if found > pos else self.cr):
            raise DissectError("a line without CRLF")
        self.text = False
        return found + 1

    cdef bint head(self, Bytes line, Py_ssize_t size) except -1:
        """One line with a length or a short value; true when it is a whole element."""
        cdef unsigned char kind = line[0]
        if size < 3 or line[size - 2] != c"\r":
            raise DissectError("not RESP")
        if self.chunks:
            if kind != c";":
                raise DissectError("a streamed string broken off")
            self.left = length(line + 1, size - 3, BULK)
            self.tail = 2 if self.left else 0
            self.chunks = self.left > 0
            return not self.chunks
        if kind == c"$" or kind == c"=" or kind == c"!":
            return self.string(line, size)
        if kind == c"*" or kind == c"%" or kind == c"~" or kind == c">" or kind == c"|":
            return self.aggregate(line, size)
        if kind == c":":
            if number(line + 1, size - 3) == WRONG:
                pure.integer(cut(line + 1, size - 3))
        elif kind == c".":
            if size > 3 or not self.depth or self.stack[self.depth - 1] != STREAMED:
                raise DissectError("an end of no streamed aggregate")
            self.depth -= 1
        elif not (kind == c"_" and size == 3) and not (
            kind == c"#" and size == 4 and (line[1] == c"t" or line[1] == c"f")
        ):
            raise DissectError("not RESP")
        return True

    cdef bint string(self, Bytes line, Py_ssize_t size) except -1:
        """``$5``, ``$-1``, ``$?``, ``!21``, ``=15``."""
        if line[0] == c"$":
            if size == 5 and line[1] == c"-" and line[2] == c"1":
                return True
            if size == 4 and line[1] == c"?":
                self.chunks = True
                return False
        elif line[0] == c"!" and self.depth:
            self.errors = True
        self.left = length(line + 1, size - 3, BULK)
        self.tail = 2
        return False

    cdef bint aggregate(self, Bytes line, Py_ssize_t size) except -1:
        """``*3``, ``*-1``, ``*?``, ``%2``, ``~5``, ``>4``, ``|1``."""
        cdef long long count
        cdef unsigned char kind = line[0]
        if kind == c"*" and size == 5 and line[1] == c"-" and line[2] == c"1":
            return True
        if size == 4 and line[1] == c"?" and kind != c">" and kind != c"|":
            count = STREAMED
        else:
            count = length(line + 1, size - 3, COUNT)
            if kind == c"%" or kind == c"|":
                count *= 2
            if not count:
                return kind != c"|"
            if kind == c"|":
                count = STREAMED - count
        if self.depth >= DEPTH:
            raise DissectError(f"nested deeper than {DEPTH}")
        self.stack[self.depth] = count
        self.depth += 1
        return False

    cdef bint done(self) noexcept:
        """One element is whole; true when the reply is."""
        cdef long long left
        while self.depth:
            left = self.stack[self.depth - 1]
            if left == STREAMED:
                return False
            left += 1 if left < 0 else -1
            if left == STREAMED:
                self.depth -= 1
                return False
            if left:
                self.stack[self.depth - 1] = left
                return False
            self.depth -= 1
        return True

    def open(self):
        """Within a reply that goes on for a known number of bytes or elements."""
        return self.busy and (self.depth > 0 or not self.text)

    def skip(self, long long missing):
        """Lost bytes within a string: 1 skipped, 2 and they end the reply, 0 cannot tell."""
        if not self.hole(missing):
            return 0
        if self.left or self.tail or self.chunks or not self.done():
            return 1
        self.busy = False
        return 2


cdef inline bint is_text(unsigned char kind) noexcept:
    return kind == c"+" or kind == c"-" or kind == c"," or kind == c"("


cdef inline bint is_type(unsigned char kind) noexcept:
    return memchr(b":$*_#!=%~>|;.", kind, 13) != NULL or is_text(kind)
