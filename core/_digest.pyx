"""The id of a flow, compiled: BLAKE2b (RFC 7693) of one block, with the numbers written into it.

The twin is ``digest.py``, equal in every digit. By way of Python's objects an id costs 7,000 instructions, here 900;
a busy resolver makes a flow of each question.

Bounds: two addresses of sixteen bytes, four numbers and the strokes between them are 69 bytes at most. What is longer,
or negative, is left to the twin.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from kshark.digest import flow_id as plain

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    static const uint64_t kshark_iv[8] = {
        0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
        0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL,
    };
    static const uint8_t kshark_sigma[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    };
    #define KSHARK_TURN(x, n) ((x) >> (n) | (x) << (64 - (n)))
    #define KSHARK_MIX(a, b, c, d, x, y) \\
        a += b + (x); d = KSHARK_TURN(d ^ a, 32); c += d; b = KSHARK_TURN(b ^ c, 24); \\
        a += b + (y); d = KSHARK_TURN(d ^ a, 16); c += d; b = KSHARK_TURN(b ^ c, 63)

    /* The first eight bytes of the digest, of eight, of `size` bytes in a block that is zero after them. */
    static uint64_t kshark_blake2b(const uint8_t block[128], uint64_t size) {
        uint64_t m[16], v[16], first = kshark_iv[0] ^ 0x01010008ULL;
        memcpy(m, block, 128);
        memcpy(v, kshark_iv, 64);
        memcpy(v + 8, kshark_iv, 64);
        v[0] = first;
        v[12] ^= size;
        v[14] = ~v[14];
    #if defined(__GNUC__) && !defined(__clang__)
        #pragma GCC unroll 12  /* which makes constants of the order in which words are mixed */
    #endif
        for (int round = 0; round < 12; round++) {
            const uint8_t *s = kshark_sigma[round % 10];
            KSHARK_MIX(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
            KSHARK_MIX(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
            KSHARK_MIX(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
            KSHARK_MIX(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
            KSHARK_MIX(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
            KSHARK_MIX(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
            KSHARK_MIX(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
            KSHARK_MIX(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
        }
        return first ^ v[0] ^ v[8];
    }
    """
    uint64_t blake2b "kshark_blake2b"(const uint8_t* block, uint64_t size) noexcept nogil

cdef extern from "Python.h":
    str PyUnicode_FromStringAndSize(const char *text, Py_ssize_t size)

cdef enum:
    LONGEST = 16  # bytes of an address
    DIGITS = 20  # of a number of 64 bits


cpdef str flow_id(bytes client, bytes server, int client_port, int server_port, int proto, long long first_ns):
    cdef uint8_t[128] block
    cdef char[16] text
    cdef const char *hexadecimal = b"0123456789abcdef"
    cdef uint64_t found
    cdef Py_ssize_t at = 0, i
    if (
        PyBytes_GET_SIZE(client) > LONGEST or PyBytes_GET_SIZE(server) > LONGEST
        or client_port < 0 or server_port < 0 or proto < 0 or first_ns < 0
    ):
        return plain(client, server, client_port, server_port, proto, first_ns)
    for i in range(128):
        block[i] = 0
    at = put(block, 0, client)
    at = put(block, at, server)
    at = write(block, at, client_port)
    at = write(block, at, server_port)
    at = write(block, at, proto)
    at = write(block, at, first_ns) - 1  # after the last one stands no stroke
    block[at] = 0
    found = blake2b(block, at)
    for i in range(8):
        text[2 * i] = hexadecimal[(found >> (8 * i + 4)) & 15]
        text[2 * i + 1] = hexadecimal[(found >> (8 * i)) & 15]
    return PyUnicode_FromStringAndSize(text, 16)


cdef inline Py_ssize_t put(uint8_t* block, Py_ssize_t at, bytes address) noexcept:
    """An address and a stroke; where the next part begins."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(address)
    memcpy(block + at, PyBytes_AS_STRING(address), size)
    block[at + size] = 124
    return at + size + 1


cdef inline Py_ssize_t write(uint8_t* block, Py_ssize_t at, uint64_t number) noexcept:
    """A number in decimal digits and a stroke, likewise."""
    cdef uint8_t[DIGITS] digits
    cdef Py_ssize_t first = DIGITS
    while True:
        first -= 1
        digits[first] = <uint8_t>(48 + number % 10)
        number //= 10
        if number == 0:
            break
    memcpy(block + at, digits + first, DIGITS - first)
    at += DIGITS - first
    block[at] = 124
    return at + 1
