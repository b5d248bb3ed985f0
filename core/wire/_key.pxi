# The key of a flow's table entry: made of a datagram, hashed and compared. Included by fast.pyx.

cdef inline bint make_key(const Found* found, uint64_t* key) noexcept nogil:
    """The same key for both directions; whether the sender is its second end."""
    cdef uint64_t src[2]
    cdef uint64_t dst[2]
    cdef uint32_t word
    cdef bint swapped
    if found.address == 4:
        memcpy(&word, found.src, 4)
        src[0] = 0
        src[1] = word
        memcpy(&word, found.dst, 4)
        dst[0] = 0
        dst[1] = word
    else:
        memcpy(src, found.src, 16)
        memcpy(dst, found.dst, 16)
    if src[1] != dst[1]:
        swapped = src[1] > dst[1]
    elif src[0] != dst[0]:
        swapped = src[0] > dst[0]
    else:
        swapped = found.sport > found.dport
    key[4] = (<uint64_t>found.proto << 40) | (<uint64_t>found.address << 32)
    if swapped:
        key[0] = dst[0]
        key[1] = dst[1]
        key[2] = src[0]
        key[3] = src[1]
        key[4] |= (<uint64_t>found.dport << 16) | found.sport
    else:
        key[0] = src[0]
        key[1] = src[1]
        key[2] = dst[0]
        key[3] = dst[1]
        key[4] |= (<uint64_t>found.sport << 16) | found.dport
    return swapped


cdef inline uint32_t spread(const uint64_t* key) noexcept nogil:
    cdef uint64_t h = fold(key[1] ^ 0x2D358DCCAA6C78A5ULL, key[3] ^ 0x8BB84B93962EACC9ULL)
    if key[0] | key[2]:
        h ^= fold(key[0] ^ 0x4B33A62ED433D4A3ULL, key[2] ^ 0x4D5A2DA51DE1AA47ULL)
    h = fold(h ^ 0xA0761D6478BD642FULL, key[4] ^ 0xE7037ED1A0B428DBULL)
    return <uint32_t>h ^ <uint32_t>(h >> 32)


cdef inline bint same_key(const uint64_t* a, const uint64_t* b) noexcept nogil:
    return a[4] == b[4] and a[1] == b[1] and a[3] == b[3] and a[0] == b[0] and a[2] == b[2]
