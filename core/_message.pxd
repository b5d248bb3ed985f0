# A `Message` and an `Entry` as memory: their fields in the order in which CPython lays out sorted slots.
#
# Code that declares a variable of this type reads and writes its fields without the attribute machinery (10
# instructions instead of 170, some forty times a pair). ``_message.pyx`` compares the offsets when it is imported.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *body, *cut, *extra, *first_ns, *gap_bytes, *head, *key, *kind, *last_ns, *notes, *ok, *protocol, *side,
            *size, *status, *target, *truncated, *verb;
    } KsharkMessage;
    typedef struct {
        PyObject_HEAD
        PyObject *extra, *flow, *gap_bytes, *midstream, *outcome, *packets, *protocol, *request, *response, *seq,
            *swapped, *truncated;
    } KsharkEntry;
    """
    ctypedef class kshark.api.Message [object KsharkMessage, check_size ignore]:
        cdef object body
        cdef object cut
        cdef object extra
        cdef object first_ns
        cdef object gap_bytes
        cdef object head
        cdef object key
        cdef object kind
        cdef object last_ns
        cdef object notes
        cdef object ok
        cdef object protocol
        cdef object side
        cdef object size
        cdef object status
        cdef object target
        cdef object truncated
        cdef object verb

    ctypedef class kshark.api.Entry [object KsharkEntry, check_size ignore]:
        cdef object flow
        cdef object gap_bytes
        cdef object midstream
        cdef object packets
        cdef object protocol
        cdef object request
        cdef object response
        cdef object seq
        cdef object swapped
        cdef object truncated

cdef void known() noexcept

# ``Message(kind, verb, target, status, ok, 0, size, head, body)`` without the call: the defaults are set here.
cdef Message make(
    int kind, str verb, str target, int status, bint ok, long long size, bytes head, bytes body
)

# Likewise, with its key. In plain Python: `kshark.made.message`.
cdef Message message(
    int kind, str verb, str target, int status, bint ok, long long key, long long size, bytes head, bytes body
)

# ``data[start:end]`` without a slice object; both are within it. In plain Python: `kshark.made.piece`.
cdef bytes piece(bytes data, Py_ssize_t start, Py_ssize_t end)

# ``Entry(flow, seq, protocol, request, response, outcome)``, likewise. In plain Python: `kshark.made.entry`.
cdef Entry entry(flow, long long seq, protocol, Message request, Message response, outcome)
