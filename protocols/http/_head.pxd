cimport cython

@cython.final
cdef class Head:
    cdef public Py_ssize_t end
    cdef Py_ssize_t verb_end, target_start, target_end
    cdef public bytes raw
    cdef public str verb, target
    cdef public int minor, status, coding
    cdef public long long length
    cdef public bint upgrade
    cdef public long flags
    cdef void reset(self)
    cpdef int request(self, bytes data, Py_ssize_t start) except? -1
    cpdef int response(self, bytes data, Py_ssize_t start) except? -1
    cpdef long long chunk(self, bytes data, Py_ssize_t start) except? -1
    cdef bint recalled(self, const unsigned char *p, Py_ssize_t begin, Py_ssize_t start, Py_ssize_t size) except -1
    cdef keep(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t size)
    cdef str name(self, bytes data, Py_ssize_t start)
    cpdef object message(self, int kind, str verb, str target, int status, long long size, bytes head, bytes body)
    cpdef bytes piece(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    cdef bint line(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t *end) noexcept
    cdef bint request_line(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef bint status_line(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef int headers(self, const unsigned char *p, Py_ssize_t begin, Py_ssize_t start, Py_ssize_t size) noexcept
    cdef int split(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end, Py_ssize_t *value) noexcept
    cdef void header(self, const unsigned char *p, int which, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef void content_length(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef void transfer_encoding(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef void one_length(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef void one_coding(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef void odd_bytes(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t end, Py_ssize_t pairs) noexcept
    cdef void settle(self) noexcept
