cdef long long MESSAGES, TEXT, BODY, NOTES, NOTE, KEY, LARGEST

cpdef tuple gather(object found)
cpdef object checked(object message)
