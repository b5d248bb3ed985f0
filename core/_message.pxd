cpdef long long kind(object message) except? -1
cpdef long long side(object message) except? -2
cpdef object key(object message)
cpdef long long first(object message) except? -1
cpdef long long last(object message) except? -1
cpdef long long gap_bytes(object message) except? -1
cpdef bint truncated(object message) except -1
cpdef bint cut(object message) except -1
cpdef bint ok(object message) except -1
cpdef tuple notes(object message)
cpdef long long date(object message, long long first_ns, long long last_ns) except? -1
cpdef long long weight(object message) except? -1
