"""Walk the records of a capture file in a buffer; the compiled twin of ``_records.py``, and its contract.

Pointers are borrowed from the buffers for one call, and every access is behind the comparison of
offsets with `end` that the plain twin makes too.
"""

from struct import Struct

from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from kshark.api import INDEX_FORMAT
from kshark.limits import PACKET_BYTES

cdef extern from *:
    """
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "index records are little-endian: on this machine the plain twin is used"
    #endif
    """
    uint32_t __builtin_bswap32(uint32_t) noexcept nogil
    ctypedef uint64_t uint128_t "unsigned __int128"
    ctypedef int64_t int128_t "__int128"

COMPILED = True
INDEX = Struct(INDEX_FORMAT)
ROW = 5
SECTION, INTERFACE, OBSOLETE, SIMPLE, STATISTICS, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 5, 6
SECRETS = 10

cdef enum:
    _SECTION = 0x0A0D0D0A
    _INTERFACE = 1
    _OBSOLETE = 2
    _SIMPLE = 3
    _STATISTICS = 5
    _SECRETS = 10
    _ENHANCED = 6
    _SLOT = 24
    _ROW = 5

cdef struct Record:  # kshark.api.INDEX_FORMAT
    int64_t ns
    uint32_t body, captured, wire
    uint16_t iface, flags

cdef uint32_t _MOST = PACKET_BYTES
assert INDEX.size == sizeof(Record) == _SLOT and ROW == _ROW


cdef inline uint32_t word(const uint8_t *at, bint big) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return __builtin_bswap32(value) if big else value


cdef inline void record(
    uint8_t *slot, int64_t ns, uint32_t body, uint32_t captured, uint32_t wire, uint16_t iface
) noexcept nogil:
    cdef Record *to = <Record *>slot
    to.ns = ns
    to.body = body
    to.captured = captured
    to.wire = wire
    to.iface = iface
    to.flags = 0


cdef inline int64_t moment(uint64_t stamp, int64_t times, int64_t over, int64_t offset) noexcept nogil:
    """``stamp * times // over + offset``, held within 63 bits before and after the offset."""
    cdef uint128_t scaled = <uint128_t>stamp * <uint128_t>times
    if over != 1:
        scaled = scaled // <uint128_t>over
    if scaled > <uint128_t>INT64_MAX:
        scaled = <uint128_t>INT64_MAX
    cdef int128_t total = <int128_t>scaled + <int128_t>offset
    if total > INT64_MAX:
        return INT64_MAX
    if total < INT64_MIN:
        return INT64_MIN
    return <int64_t>total


cdef int within(Py_ssize_t start, Py_ssize_t end, Py_ssize_t size) except -1:
    if start < 0 or end > size or size > 0xFFFFFFFF:
        raise ValueError("start and end are not within the buffer")
    return 0


def walk_pcap(
    const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t end, uint8_t[::1] index,
    Py_ssize_t head, bint big, uint64_t scale,
):
    """Index the classic records of ``data[start:end]``; give their count and where the walk stopped."""
    within(start, end, data.shape[0])
    if head < 16 or end - start < head or index.shape[0] < _SLOT:
        return 0, start
    cdef const uint8_t *base = &data[0]
    cdef const uint8_t *p
    cdef uint8_t *slot = &index[0]
    cdef Py_ssize_t at = start, count = 0, room = index.shape[0] // _SLOT
    cdef uint32_t captured
    while end - at >= head and count < room:
        p = base + at
        captured = word(p + 8, big)
        if captured > _MOST or captured > end - at - head:
            break
        record(
            slot,
            <int64_t>(<uint64_t>word(p, big) * 1000000000 + <uint64_t>word(p + 4, big) * scale),
            <uint32_t>(at + head), captured, word(p + 12, big), 0,
        )
        at += head + captured
        slot += _SLOT
        count += 1
    return count, at


def walk_pcapng(
    const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t end, uint8_t[::1] index,
    const int64_t[::1] table, bint big, Py_ssize_t count, int64_t last,
):
    """Index the packet blocks of ``data[start:end]`` after the `count` that are there; skip unknown ones."""
    within(start, end, data.shape[0])
    cdef Py_ssize_t at = start, rows = table.shape[0] // _ROW, most = index.shape[0] // _SLOT
    cdef int64_t linktype = -1, left
    cdef uint32_t kind, total, iface, captured, wire, body
    cdef const uint8_t *p
    cdef const int64_t *row
    if end - start < 12 or count < 0 or count > most:
        return count, at
    cdef const uint8_t *base = &data[0]
    if count:
        last, _, _, _, iface, _ = INDEX.unpack_from(index, (count - 1) * _SLOT)
        linktype = table[iface * _ROW]
    while end - at >= 12:
        p = base + at
        kind, total = word(p, big), word(p + 4, big)
        if kind == _SECTION or kind == _INTERFACE or kind == _STATISTICS or kind == _SECRETS:
            break
        if total < 12 or total & 3 or total > end - at or word(p + total - 4, big) != total:
            break
        if kind == _ENHANCED or kind == _SIMPLE or kind == _OBSOLETE:
            # `left` is what is left for the packet after the block's fixed part and its trailer.
            left = <int64_t>total - (16 if kind == _SIMPLE else 32)
            if left < 0 or count >= most:
                break
            if kind == _SIMPLE:
                iface, body, captured = 0, 12, word(p + 8, big)
                wire = captured
            else:
                iface, body, captured, wire = word(p + 8, big), 28, word(p + 20, big), word(p + 24, big)
            if kind == _OBSOLETE:  # two 16-bit numbers in the file's order: interface, drops
                iface = iface >> 16 if big else iface & 0xFFFF
            if iface >= rows:
                break
            row = &table[iface * _ROW]
            if kind == _SIMPLE:
                captured = <uint32_t>min(<int64_t>captured, left)
                if row[1] and captured > row[1]:
                    captured = <uint32_t>row[1]
            if captured > left or captured > _MOST or (linktype >= 0 and row[0] != linktype):
                break
            linktype = row[0]
            if kind != _SIMPLE:
                last = moment(
                    <uint64_t>word(p + 12, big) << 32 | word(p + 16, big), row[2], row[3], row[4]
                )
            record(&index[count * _SLOT], last, <uint32_t>(at + body), captured, wire, <uint16_t>iface)
            count += 1
        at += total
    return count, at
