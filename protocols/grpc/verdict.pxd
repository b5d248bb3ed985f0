cimport cython

from kshark._message cimport Message, known
from kshark.protocols.grpc.states cimport Call

@cython.locals(said=bytes, text=bytes)
cpdef judge(Message message, Call call, bytes asked, long long took)

cpdef settle(Message message, object code, str text)

cpdef unsaid(Message message, Call call, bytes asked, long long took)

cpdef bint unpacked(Call call, Message message) except -1
