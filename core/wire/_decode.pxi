# From a captured frame to one transport datagram, without objects. Included by fast.pyx.
#
# Every function takes a pointer, the bytes captured from there (`have`, checked before each read) and the bytes that
# were on the wire from there (`wire`). They give DATAGRAM, FRAGMENT, or the counter of the drop. Walks are bounded by
# VLAN_TAGS, MPLS_LABELS, EXTENSION_HEADERS, NFLOG_FIELDS and MAX_DEPTH of the caller.

cdef enum:
    DATAGRAM = -1
    FRAGMENT = -2
    PROTO_ICMP = 1
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_ICMP6 = 58
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    PACKET_OUTGOING = 4  # linux/if_packet.h
    ETHERTYPE_IP4 = 0x0800
    ETHERTYPE_IP6 = 0x86DD
    ETHERTYPE_BRIDGING = 0x6558
    NFLOG_FIELDS = 64

cdef struct Found:
    const uint8_t* src
    const uint8_t* dst
    int address  # bytes of each: 4 or 16
    int proto
    int depth
    uint16_t sport
    uint16_t dport
    uint16_t ident
    uint8_t flags
    uint32_t seq
    uint32_t ack
    const uint8_t* payload
    int64_t length
    int64_t missing
    uint64_t mark  # with `mark2`: what tells copies of one packet from other packets
    uint64_t mark2
    # of a fragment, whose data is the payload
    uint32_t fragment
    int64_t offset
    bint more


cdef inline uint16_t be16(const uint8_t* p) noexcept nogil:
    return <uint16_t>((p[0] << 8) | p[1])


cdef inline uint32_t be32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline int64_t least(int64_t a, int64_t b) noexcept nogil:
    return a if a < b else b


cdef inline int64_t most(int64_t a, int64_t b) noexcept nogil:
    return a if a > b else b


cdef inline bint is_vlan(uint16_t kind) noexcept nogil:
    return kind == 0x8100 or kind == 0x88A8 or kind == 0x9100


cdef inline bint is_mpls(uint16_t kind) noexcept nogil:
    return kind == 0x8847 or kind == 0x8848


cdef inline bint is_extension(int proto, int address) noexcept nogil:
    """RFC 8200, 4302, 6275, 7401, 5533."""
    if proto == 51:
        return True
    return address == 16 and (
        proto == 0 or proto == 43 or proto == 44 or proto == 60
        or proto == 135 or proto == 139 or proto == 140
    )


cdef uint64_t tap(const uint8_t* p, int64_t have, int linktype) noexcept nogil:
    """What stands for the interface beside its number (cooked captures), for the upper 32 bits."""
    cdef uint64_t outgoing
    if linktype == 113 and have >= 2:
        return <uint64_t>(be16(p) == PACKET_OUTGOING) << 32
    if linktype == 276 and have >= 11:
        outgoing = p[10] == PACKET_OUTGOING
        return ((<uint64_t>(be32(p + 4) & 0x7FFFFFFF) << 1) | outgoing) << 32
    return 0


cdef int decode(Found* out, const uint8_t* p, int64_t have, int64_t wire, int linktype, int tunnels) noexcept nogil:
    """A captured frame."""
    out.depth = 0
    if linktype == 1:
        return ethernet(out, p, have, wire, tunnels)
    if linktype == 113:
        return C_TRUNCATED if have < 16 else network(out, be16(p + 14), p + 16, have - 16, wire - 16, tunnels)
    if linktype == 276:
        return C_TRUNCATED if have < 20 else network(out, be16(p), p + 20, have - 20, wire - 20, tunnels)
    if linktype == 12 or linktype == 14 or linktype == 101:
        return raw(out, p, have, wire, tunnels)
    if linktype == 228:
        return ip4(out, p, have, wire, tunnels)
    if linktype == 229:
        return ip6(out, p, have, wire, tunnels)
    if linktype == 0 or linktype == 108:
        return loopback(out, p, have, wire, linktype, tunnels)
    if linktype == 239:
        return nflog(out, p, have, tunnels)
    return C_LINKTYPE


cdef int raw(Found* out, const uint8_t* p, int64_t have, int64_t wire, int tunnels) noexcept nogil:
    if have < 1:
        return C_TRUNCATED
    if p[0] >> 4 == 4:
        return ip4(out, p, have, wire, tunnels)
    return ip6(out, p, have, wire, tunnels) if p[0] >> 4 == 6 else C_NON_IP


cdef int loopback(
    Found* out, const uint8_t* p, int64_t have, int64_t wire, int linktype, int tunnels
) noexcept nogil:
    """DLT_NULL has the byte order of the machine that captured, DLT_LOOP the network's."""
    cdef uint32_t family
    if have < 4:
        return C_TRUNCATED
    family = be32(p)
    if linktype == 0 and family > 0xFFFF:
        family = p[0] | (<uint32_t>p[1] << 8) | (<uint32_t>p[2] << 16) | (<uint32_t>p[3] << 24)
    if family == 2:
        return ip4(out, p + 4, have - 4, wire - 4, tunnels)
    if family == 10 or family == 24 or family == 28 or family == 30:
        return ip6(out, p + 4, have - 4, wire - 4, tunnels)
    return C_NON_IP


cdef int nflog(Found* out, const uint8_t* p, int64_t have, int tunnels) noexcept nogil:
    """linux/netfilter/nfnetlink_log.h: a header of 4, then fields; number 9 is the packet."""
    cdef int64_t at = 4, size
    cdef int i
    for i in range(NFLOG_FIELDS):
        if have - at < 4:
            return C_TRUNCATED
        size = p[at] | (p[at + 1] << 8)
        if size < 4:
            return C_NON_IP
        if p[at + 2] == 9 and p[at + 3] == 0:
            return raw(out, p + at + 4, least(have - at, size) - 4, size - 4, tunnels)
        at += (size + 3) & ~3
    return C_NON_IP


cdef int ethernet(Found* out, const uint8_t* p, int64_t have, int64_t wire, int tunnels) noexcept nogil:
    if have < 14:
        return C_TRUNCATED
    return network(out, be16(p + 12), p + 14, have - 14, wire - 14, tunnels)


cdef int network(
    Found* out, uint16_t kind, const uint8_t* p, int64_t have, int64_t wire, int tunnels
) noexcept nogil:
    """An ethertype: VLAN tags, MPLS labels, then IP."""
    cdef int i
    if kind != ETHERTYPE_IP4 and kind != ETHERTYPE_IP6:
        for i in range(VLAN_TAGS):
            if not is_vlan(kind):
                break
            if have < 4:
                return C_TRUNCATED
            kind = be16(p + 2)
            p += 4
            have -= 4
            wire -= 4
        if is_mpls(kind):
            for i in range(MPLS_LABELS):
                if have < 5:
                    return C_TRUNCATED
                p += 4
                have -= 4
                wire -= 4
                if (p - 2)[0] & 1:
                    kind = ETHERTYPE_IP4 if p[0] >> 4 == 4 else (ETHERTYPE_IP6 if p[0] >> 4 == 6 else 0)
                    break
    if kind == ETHERTYPE_IP4:
        return ip4(out, p, have, wire, tunnels)
    return ip6(out, p, have, wire, tunnels) if kind == ETHERTYPE_IP6 else C_NON_IP


cdef int ip4(Found* out, const uint8_t* p, int64_t have, int64_t wire, int tunnels) noexcept nogil:
    cdef int64_t head, total
    cdef uint16_t frag
    if have < 20:
        return C_TRUNCATED
    head = (p[0] & 15) * 4
    total = be16(p + 2)
    if p[0] >> 4 != 4 or head < 20 or (total and total < head):
        return C_BAD_IP
    if have < head:
        return C_TRUNCATED
    if total:  # 0 where the sender's network card was to cut it up (TSO)
        wire = total
        have = least(have, wire)
    out.src = p + 12
    out.dst = p + 16
    out.address = 4
    out.ident = be16(p + 4)
    frag = be16(p + 6)
    if frag & 0x3FFF:
        out.fragment = out.ident
        out.proto = p[9]
        return fragment(out, p + head, have - head, wire - head, (frag & 0x1FFF) * 8, frag & 0x2000)
    return upper(out, p[9], p + head, have - head, wire - head, tunnels)


cdef int ip6(Found* out, const uint8_t* p, int64_t have, int64_t wire, int tunnels) noexcept nogil:
    if have < 40:
        return C_TRUNCATED
    if p[0] >> 4 != 6:
        return C_BAD_IP
    if be16(p + 4):  # 0: a jumbogram, or segmentation offload
        wire = 40 + be16(p + 4)
        have = least(have, wire)
    out.src = p + 8
    out.dst = p + 24
    out.address = 16
    out.ident = 0
    return upper(out, p[6], p + 40, have - 40, wire - 40, tunnels)


cdef int fragment(
    Found* out, const uint8_t* p, int64_t have, int64_t wire, int64_t offset, bint more
) noexcept nogil:
    if have < wire:
        return C_TRUNCATED
    if have == 0 or (more and have & 7) or offset + have > 0xFFFF:
        return C_BAD_IP
    out.payload = p
    out.length = have
    out.offset = offset
    out.more = more
    return FRAGMENT


cdef int upper(
    Found* out, int proto, const uint8_t* p, int64_t have, int64_t wire, int tunnels
) noexcept nogil:
    """Walk extension headers to the transport."""
    cdef int64_t size
    cdef int walked = 0, after
    while is_extension(proto, out.address):
        walked += 1
        if walked > EXTENSION_HEADERS or wire < 8:
            return C_BAD_IP
        if have < 8:
            return C_TRUNCATED
        after = p[0]
        size = 8
        if proto == 44:
            if be16(p + 2) & 0xFFF9:
                out.fragment = be32(p + 4)
                out.ident = <uint16_t>out.fragment
                out.proto = after
                return fragment(out, p + 8, have - 8, wire - 8, be16(p + 2) & 0xFFF8, p[3] & 1)
        else:
            size = (p[1] + 2) * 4 if proto == 51 else (p[1] + 1) * 8
            if size > wire:
                return C_BAD_IP
            if size > have:
                return C_TRUNCATED
        p += size
        have -= size
        wire -= size
        proto = after
    return transport(out, proto, p, have, wire, tunnels)


cdef int transport(
    Found* out, int proto, const uint8_t* p, int64_t have, int64_t wire, int tunnels
) noexcept nogil:
    out.proto = proto
    if proto == PROTO_TCP:
        return tcp(out, p, have, wire)
    if proto == PROTO_UDP:
        return udp(out, p, have, wire, tunnels)
    if proto == PROTO_ICMP or proto == PROTO_ICMP6:
        return icmp(out, p, have, wire)
    if proto != 4 and proto != 41 and proto != 47:
        return C_OTHER_L4
    if out.depth >= tunnels:
        return C_TUNNEL_DEPTH
    out.depth += 1
    if proto == 4:
        return ip4(out, p, have, wire, tunnels)
    if proto == 41:
        return ip6(out, p, have, wire, tunnels)
    return gre(out, p, have, wire, tunnels)


cdef inline int tcp(Found* out, const uint8_t* p, int64_t have, int64_t wire) noexcept nogil:
    cdef int64_t head
    if wire < 20:
        return C_BAD_L4
    if have < 20:
        return C_TRUNCATED
    head = (p[12] >> 4) * 4
    if head < 20 or head > wire:
        return C_BAD_L4
    out.sport = be16(p)
    out.dport = be16(p + 2)
    out.seq = be32(p + 4)
    out.ack = be32(p + 8)
    out.flags = p[13]
    out.payload = p + least(head, have)
    out.length = most(0, have - head)
    out.missing = wire - head - out.length
    out.mark = (<uint64_t>out.seq << 32) | out.ack
    out.mark2 = (<uint64_t>out.ident << 48) | (<uint64_t>out.flags << 40) | <uint64_t>(wire - head)
    return DATAGRAM


cdef int udp(Found* out, const uint8_t* p, int64_t have, int64_t wire, int tunnels) noexcept nogil:
    cdef int64_t size
    cdef int inner
    if wire < 8:
        return C_BAD_L4
    if have < 8:
        return C_TRUNCATED
    size = be16(p + 4)
    if 0 < size < 8:
        return C_BAD_L4
    if size:
        wire = least(wire, size)
        have = least(have, wire)
    out.sport = be16(p)
    out.dport = be16(p + 2)
    if have >= 16 and (out.dport == 4789 or out.dport == 8472 or out.dport == 6081 or out.dport == 4790):
        inner = tunnel(out, p + 8, have - 8, wire - 8, tunnels)
        if inner != NO_TUNNEL:
            return inner
    out.flags = 0
    out.payload = p + 8
    out.length = have - 8
    out.missing = wire - have
    out.mark = be16(p + 6)
    out.mark2 = (<uint64_t>out.ident << 48) | <uint64_t>(wire - 8)
    return DATAGRAM


cdef enum:
    NO_TUNNEL = -3


cdef int tunnel(Found* out, const uint8_t* p, int64_t have, int64_t wire, int tunnels) noexcept nogil:
    """VXLAN (RFC 7348; 8472 is Linux's first port for it), its generic extension
    (draft-ietf-nvo3-vxlan-gpe-13, of version 0 and no OAM) and Geneve (RFC 8926)."""
    cdef int64_t size = 8
    cdef uint16_t kind = ETHERTYPE_BRIDGING
    if out.dport == 6081:
        size = 8 + (p[0] & 63) * 4
        kind = be16(p + 2)
        if p[0] >> 6 or (kind != ETHERTYPE_BRIDGING and kind != ETHERTYPE_IP4 and kind != ETHERTYPE_IP6):
            return NO_TUNNEL
    elif out.dport == 4790:
        if p[0] & 0xF1 or not p[0] & 12:
            return NO_TUNNEL
        if p[0] & 4:  # there is a next protocol
            if p[3] == 0 or p[3] == 4 or p[3] > 5:
                return NO_TUNNEL
            if p[3] == 1:
                kind = ETHERTYPE_IP4
            elif p[3] == 2:
                kind = ETHERTYPE_IP6
            elif p[3] == 5:
                kind = 0x8847
    elif not p[0] & 8:
        return NO_TUNNEL
    if out.depth >= tunnels:
        return C_TUNNEL_DEPTH
    if have < size:
        return C_TRUNCATED
    out.depth += 1
    if kind == ETHERTYPE_BRIDGING:
        return ethernet(out, p + size, have - size, wire - size, tunnels)
    return network(out, kind, p + size, have - size, wire - size, tunnels)


cdef int gre(Found* out, const uint8_t* p, int64_t have, int64_t wire, int tunnels) noexcept nogil:
    """RFC 2784 and 2890, and ERSPAN in it (draft-foschiano-erspan-03)."""
    cdef uint16_t flags, kind
    cdef int64_t size = 4
    if wire < 4:
        return C_BAD_L4
    if have < 4:
        return C_TRUNCATED
    flags = be16(p)
    kind = be16(p + 2)
    if flags & 0x4007:  # source routing, or not version 0
        return C_OTHER_L4
    size += 4 * ((flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1))
    if kind == 0x88BE:  # ERSPAN, type II if it is numbered
        size += 8 * (flags >> 12 & 1)
        kind = ETHERTYPE_BRIDGING
    elif kind == 0x22EB:  # type III
        if have < size + 12:
            return C_TRUNCATED
        size += 20 if p[size + 11] & 1 else 12
        kind = ETHERTYPE_BRIDGING
    if size > have:
        return C_TRUNCATED
    if kind == ETHERTYPE_BRIDGING:
        return ethernet(out, p + size, have - size, wire - size, tunnels)
    if kind == ETHERTYPE_IP4 or kind == ETHERTYPE_IP6 or is_mpls(kind):
        return network(out, kind, p + size, have - size, wire - size, tunnels)
    return C_OTHER_L4


cdef int icmp(Found* out, const uint8_t* p, int64_t have, int64_t wire) noexcept nogil:
    cdef bint named
    if wire < 8:
        return C_BAD_L4
    if have < 8:
        return C_TRUNCATED
    if out.proto == PROTO_ICMP:  # RFC 792, 950: with an identifier
        named = p[0] == 0 or p[0] == 8 or 13 <= p[0] <= 18
    else:
        named = p[0] == 128 or p[0] == 129
    out.sport = out.dport = be16(p + 4 if named else p)
    out.flags = 0
    out.payload = p
    out.length = have
    out.missing = wire - have
    out.mark = be16(p + 2)
    out.mark2 = (<uint64_t>out.ident << 48) | <uint64_t>wire
    return DATAGRAM
