cdef long long MESSAGES, TEXT, BODY, NOTES, NOTE, KEY, LARGEST

cpdef tuple gather(object found)
cpdef object checked(object message)
cpdef bint sound(object entry) except -1
cpdef bint whole(object message) except -1
cpdef bint known(object end) except -1
