# Payloads as `bytes`, in memory that goes from one to the next: malloc and free of each segment's were 4 % of all work.
#
# What a consumer keeps is his: it is seen by its reference count, and not touched again.

cdef extern from *:
    """
    /* Fill a bytes object anew that nobody else holds, as _PyBytes_Resize takes one that nobody else holds. */
    static inline int kshark_refill(PyObject *lent, const uint8_t *data, Py_ssize_t size) {
    #ifdef Py_GIL_DISABLED
        return 0;
    #else
        PyBytesObject *bytes = (PyBytesObject *)lent;
        if (Py_REFCNT(lent) != 1) return 0;
        Py_SET_SIZE(bytes, size);
        bytes->ob_shash = -1;
        memcpy(bytes->ob_sval, data, size);
        bytes->ob_sval[size] = 0;
        return 1;
    #endif
    }
    """
    bint refill "kshark_refill"(PyObject* lent, const uint8_t* data, Py_ssize_t size) noexcept

cdef enum:
    LENT = 2_048  # bytes of a payload that may be lent: a packet's, on most networks
    SMALL = 512  # ... and not less: Python has small ones at hand, and who keeps one keeps room for LENT
    KEPT = 32  # payloads that are not lent after one was kept


@cython.final
cdef class Lender:
    cdef int kept  # so many payloads are not to be lent
    cdef bytes lent  # a payload that its consumer did not keep: the next one takes its place

    cdef bytes payload(self, Found* found):
        """The bytes of a segment: in the memory of the last ones, where these are done with."""
        cdef int64_t size = found.length
        if size < SMALL or size > LENT:
            return found.payload[:size]
        if self.kept > 0:  # consumers keep what they get: let them have no more than that
            self.kept -= 1
            return found.payload[:size]
        if self.lent is None:
            self.lent = PyBytes_FromStringAndSize(NULL, LENT)
        if refill(<PyObject*>self.lent, found.payload, size):
            return self.lent
        self.lent = None
        self.kept = KEPT
        return found.payload[:size]
