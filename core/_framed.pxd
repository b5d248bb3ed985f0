cdef class Stepper:
    cdef object _framed, _side, _gen, _want, _buf, _kept, _left, _room
    cdef int _state
    cdef Py_ssize_t _at, _seen, _used, _lost
    cdef bint _taking, _skipped

    cpdef object feed(self, data)
    cpdef object gap(self, missing)
    cpdef bint inside(self)
    cpdef object close(self)
    cdef object _run(self, list out)
    cdef object _emit(self, object message, list out)
    cdef object _piece(self, object want)
    cdef object _exactly(self, object size)
    cdef object _until(self, bytes delimiter)
    cdef object _taken(self, object take)
    cdef object _cut(self, Py_ssize_t size)
    cdef object _trim(self)
    cdef bint _found(self) except -1
    cdef object _end(self, list out)
    cdef object _stop(self, int state)
    cdef object _failed(self, list out, object error)
    cdef object _over(self)
