# The search for secrets in targets. Included by _rows.pyx.

cdef enum:
    NAME = 24  # bytes of a parameter's name that is remembered, the last of them its length
    NAMES = 256  # names known to be public that are kept, each in the one place that its bytes give


cdef unsigned char[256] PLAIN  # what _text passes over
cdef int _c
for _c in range(256):
    PLAIN[_c] = chr(_c) not in "\0\n@?&;#/=%"


@cython.final
cdef class Suspects:
    """Finds the entries whose targets may hold a secret; of the others that is certain."""

    cdef object _secret
    cdef char[NAMES][NAME] _public

    def __cinit__(self, secret):
        self._secret = secret
        memset(self._public, 0, sizeof(self._public))

    def find(self, list batch, frozenset protocols):
        """Entries of these protocols with a target that `url` might change, or the text of an error."""
        cdef list found = []
        cdef bint wanted = False
        last = None  # the protocol of the entry before
        for entry in batch:
            if not PyObject_TypeCheck(entry, ENTRY):
                found.append(entry)
                continue
            protocol = field(entry, E_PROTOCOL)
            if protocol is not last:
                last = protocol
                wanted = protocol in protocols
            if wanted and (
                self._half(field(entry, E_REQUEST)) or self._says(field(entry, E_RESPONSE))
            ):
                found.append(entry)
        return found

    cdef bint _says(self, object half) except -1:
        """Whether a response has the text of an error; few have one."""
        if half is None:
            return False
        if not PyObject_TypeCheck(half, MESSAGE):
            return True
        target = field(half, M_TARGET)
        return not PyUnicode_Check(target) or len(target) > 0

    cdef bint _half(self, object half) except -1:
        if half is None:
            return False
        if not PyObject_TypeCheck(half, MESSAGE):
            return True
        target = field(half, M_TARGET)
        if not PyUnicode_Check(target):
            return True
        cdef Py_ssize_t size
        cdef const char *text
        try:
            text = PyUnicode_AsUTF8AndSize(target, &size)
        except UnicodeEncodeError:
            return True
        return self._text(text, size)

    cdef bint _text(self, const char *text, Py_ssize_t size) except -1:
        """Walks over names: what stands between one of "?&;#\\n" and "=" without a "/"."""
        cdef Py_ssize_t i = 0, name = -1
        cdef char c
        if size == 0 or memchr(text, c'=', size) == NULL and memchr(text, c'%', size) == NULL and memchr(text, c'@', size) == NULL:
            return False  # as most
        while True:
            while PLAIN[<unsigned char>text[i]]:
                i += 1
            if i >= size:  # at its NUL
                return False
            c = text[i]
            if c == 64:  # @
                return True
            if c == 63 or c == 38 or c == 59 or c == 35 or c == 10:  # ? & ; # and a line's end
                name = i + 1
            elif c == 47:  # /
                name = -1
            elif c == 61 and name >= 0:  # =
                if self._is_secret(text + name, i - name):
                    return True
                name = -1
            elif c == 37 and (name >= 0 or (i + 2 < size and delimits(text[i + 1], text[i + 2]))):
                return True  # an escape within a name, or of a delimiter: worth a close look
            i += 1

    cdef bint _is_secret(self, const char *text, Py_ssize_t size) except -1:
        cdef unsigned int mixed = <unsigned int>size
        cdef Py_ssize_t i
        cdef char *kept
        if size == 0 or size >= NAME:
            return self._secret(PyBytes_FromStringAndSize(text, size).decode())
        for i in range(size):
            mixed = mixed * 31 + <unsigned char>text[i]
        kept = self._public[(mixed ^ (mixed >> 8)) % NAMES]
        if kept[NAME - 1] == size and memcmp(kept, text, size) == 0:
            return False
        if self._secret(PyBytes_FromStringAndSize(text, size).decode()):
            return True
        memcpy(kept, text, size)
        kept[NAME - 1] = <char>size
        return False


cdef inline bint delimits(char high, char low) noexcept:
    """Whether "%" and these are one of ? = ; & # @"""
    if high == 51:
        return low in (b"F", b"f", b"D", b"d", b"B", b"b")
    if high == 52:
        return low == 48
    return high == 50 and (low == 54 or low == 51)
