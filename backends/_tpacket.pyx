"""Walk one block of a TPACKET_V3 ring: the compiled `_tpacket`. Its plain twin says what it does and why."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <arpa/inet.h>
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "index records are little-endian: on this machine the plain twin is used"
    #endif
    /* The kernel writes the status last, and may write the block once it is back: order matters. */
    static uint32_t load_status(const void *p) { return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE); }
    static void free_status(void *p) { __atomic_store_n((uint32_t *)p, 0, __ATOMIC_RELEASE); }
    """
    uint32_t load_status(const void *) noexcept
    void free_status(void *) noexcept
    uint16_t ntohs(uint16_t) noexcept

cdef struct Frame:  # tpacket3_hdr, then sockaddr_ll as far as sll_pkttype
    uint32_t step, sec, nsec, kept, wire, status
    uint16_t mac, net
    uint8_t variant[20]
    uint16_t family, protocol
    int32_t ifindex
    uint16_t hatype
    uint8_t pkttype, halen
    uint8_t address[8]

cdef struct Record:  # kshark.api.INDEX_FORMAT
    int64_t ns
    uint32_t offset, kept, wire
    uint16_t number, flags

assert sizeof(Frame) == 68 and sizeof(Record) == 24

COMPILED = True

cdef enum:
    CACHE = 64  # interface numbers remembered, a power of two
    ETHER = 1
    LOOPBACK = 772
    UNWANTED = -1


def ready(const uint8_t[::1] block not None):
    """Whether the kernel has handed this block to us."""
    return (load_status(&block[8]) & 1) != 0


def release(uint8_t[::1] block not None):
    """Give the block back to the kernel; its bytes may change from now on."""
    free_status(&block[8])


cdef class Walker:
    """Turns blocks into records, with the interface numbers that ``resolve(ifindex)`` gives."""

    cdef object _resolve
    cdef int32_t _links[CACHE]
    cdef int32_t _numbers[CACHE]
    cdef readonly long long seen, unwanted, foreign, unsound

    def __init__(self, resolve):
        self._resolve = resolve
        self.forget()

    cpdef forget(self):
        """The links have changed: ask `resolve` again."""
        cdef int i
        for i in range(CACHE):
            self._links[i] = -1

    cdef int32_t _number(self, int32_t link) except -2:
        cdef int slot = link & (CACHE - 1)
        if link < 0 or self._links[slot] != link:
            self._numbers[slot] = self._resolve(link)
            self._links[slot] = link
        return self._numbers[slot]

    def walk(
        self, const uint8_t[::1] block not None, uint8_t[::1] ether not None, uint8_t[::1] plain not None
    ):
        """Index a block: frames into `ether`, IP packets without link header into `plain`.

        Gives the count of records in each.
        """
        cdef int64_t size = block.shape[0], at, left, skipped, begin, length
        cdef int64_t ethers = 0, plains = 0
        cdef int64_t ether_room = ether.shape[0] // 24, plain_room = plain.shape[0] // 24
        cdef uint32_t count, first
        cdef int32_t number
        cdef uint16_t protocol
        cdef bint framed
        cdef Frame frame
        cdef Record row
        cdef const uint8_t *base = &block[0]
        cdef uint8_t *ether_at = &ether[0] if ether_room else NULL
        cdef uint8_t *plain_at = &plain[0] if plain_room else NULL
        if size < 20:
            raise ValueError("a block is larger than its header")
        memcpy(&count, base + 12, 4)
        memcpy(&first, base + 16, 4)
        self.seen += count
        row.flags = 0
        at, left = first, count
        while left > 0:
            if at + <int64_t>sizeof(Frame) > size:
                self.unsound += left
                break
            memcpy(&frame, base + at, sizeof(Frame))
            framed = frame.hatype == ETHER or frame.hatype == LOOPBACK
            skipped = 0 if framed else <int64_t>frame.net - frame.mac
            begin = at + frame.mac + skipped
            length = <int64_t>frame.kept - skipped
            number = self._number(frame.ifindex)
            protocol = ntohs(frame.protocol)
            if number == UNWANTED:
                self.unwanted += 1
            elif not framed and protocol != 0x0800 and protocol != 0x86DD:
                self.foreign += 1
            elif (
                frame.mac < sizeof(Frame) or skipped < 0 or length < 0 or begin + length > size
                or (ethers >= ether_room if framed else plains >= plain_room)
            ):
                self.unsound += 1
            else:
                row.ns = <int64_t>frame.sec * 1_000_000_000 + frame.nsec
                row.offset = <uint32_t>begin
                row.kept = <uint32_t>length
                row.wire = <uint32_t>max(<int64_t>frame.wire - skipped, length)
                row.number = <uint16_t>number
                if framed:
                    memcpy(ether_at + ethers * 24, &row, 24)
                    ethers += 1
                else:
                    memcpy(plain_at + plains * 24, &row, 24)
                    plains += 1
            if left > 1 and frame.step < sizeof(Frame):
                self.unsound += left - 1
                break
            at += frame.step
            left -= 1
        return ethers, plains
