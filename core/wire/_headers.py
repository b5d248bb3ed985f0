"""From a captured frame to one transport datagram: link layers, IP, tunnels. Plain Python.

`Decoder.frame` gives a `Datagram`, a `Fragment` (to be put together first) or the reason of a drop. Every walk
is bounded: VLAN_TAGS, MPLS_LABELS, EXTENSION_HEADERS, NFLOG_FIELDS, and ``tunnels`` of the limits.

Two ends bound each layer: ``end``, where the captured bytes stop, and ``wire``, where the packet did. They differ
where the snap length cut it. Checksums are not looked at: a sender's own packets have none yet (offloading).
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from kshark import limits

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
SYN, FIN, RST, PSH, ACK = 0x02, 0x01, 0x04, 0x08, 0x10

NFLOG_FIELDS = 64
OUTGOING = 4  # linux/if_packet.h PACKET_OUTGOING

_IP4, _IP6, _ETHERNET, _MPLS = 0x0800, 0x86DD, 0x6558, (0x8847, 0x8848)
_VLAN = (0x8100, 0x88A8, 0x9100)
_VXLAN, _GENEVE, _GPE = (4789, 8472), 6081, 4790
_GPE_NEXT = {1: _IP4, 2: _IP6, 3: _ETHERNET, 5: _MPLS[0]}
_ERSPAN2, _ERSPAN3 = 0x88BE, 0x22EB
_EXTENSIONS4 = frozenset((51,))
_EXTENSIONS6 = frozenset((0, 43, 44, 51, 60, 135, 139, 140))  # RFC 8200, 6275, 7401, 5533
_FAMILIES6 = (10, 24, 28, 30)  # AF_INET6 of Linux, the BSDs and macOS
_WITH_IDENTIFIER = {ICMP: (0, 8, 13, 14, 15, 16, 17, 18), ICMP6: (128, 129)}

_u16 = Struct(">H").unpack_from
_u32 = Struct(">I").unpack_from
_tcp = Struct(">HHIIBB").unpack_from
_ip4 = Struct(">BxHHHxB").unpack_from


@dataclass(slots=True)
class Datagram:
    """What a TCP segment, UDP datagram or ICMP message says of itself; payload is data[begin:begin + length]."""

    proto: int
    src: bytes
    dst: bytes
    sport: int
    dport: int
    data: bytes
    begin: int
    length: int
    missing: int  # payload bytes that the snap length cut off
    mark: tuple[int, ...]  # what tells copies of one packet from other packets
    seq: int = 0
    ack: int = 0
    flags: int = 0


@dataclass(slots=True)
class Fragment:
    """A piece of an IP datagram, with what is needed to go on once it is whole."""

    key: tuple[bytes, bytes, int, int]
    version: int
    proto: int
    src: bytes
    dst: bytes
    ident: int
    offset: int
    more: bool
    data: bytes
    depth: int


Decoded = Datagram | Fragment | str


def tap(frame: bytes, linktype: int) -> int:
    """What stands for the interface beside its number: the packet type, in cooked v2 the interface too."""
    if linktype == 113 and len(frame) >= 2:
        return int(frame[0] == 0 and frame[1] == OUTGOING)
    if linktype == 276 and len(frame) >= 11:
        return (int.from_bytes(frame[4:8]) & 0x7FFF_FFFF) << 1 | (frame[10] == OUTGOING)
    return 0


class Decoder:
    """Stateless but for its bound on nesting."""

    def __init__(self, tunnels: int) -> None:
        self.tunnels = tunnels

    def frame(self, data: bytes, linktype: int, wire: int) -> Decoded:
        """Decode a captured frame that had `wire` bytes on the wire."""
        end = len(data)
        wire = max(wire, end)
        if linktype == 1:
            return self.ethernet(data, 0, end, wire, 0)
        if linktype in (113, 276):
            head, kind = (16, 14) if linktype == 113 else (20, 0)
            if end < head:
                return "truncated"
            return self.network(data, _u16(data, kind)[0], head, end, wire, 0)
        if linktype in (12, 14, 101):
            return self.raw(data, 0, end, wire)
        if linktype == 228:
            return self.ip4(data, 0, end, wire, 0)
        if linktype == 229:
            return self.ip6(data, 0, end, wire, 0)
        if linktype in (0, 108):
            return self.loopback(data, end, wire, linktype == 108)
        if linktype == 239:
            return self.nflog(data, end)
        return "linktype"

    def raw(self, data: bytes, at: int, end: int, wire: int) -> Decoded:
        if end <= at:
            return "truncated"
        version = data[at] >> 4
        if version == 4:
            return self.ip4(data, at, end, wire, 0)
        return self.ip6(data, at, end, wire, 0) if version == 6 else "non_ip"

    def loopback(self, data: bytes, end: int, wire: int, network_order: bool) -> Decoded:
        """DLT_NULL is in the byte order of the machine that captured; families are small numbers."""
        if end < 4:
            return "truncated"
        family: int = _u32(data, 0)[0]
        if not network_order and family > 0xFFFF:
            family = int.from_bytes(data[:4], "little")
        if family == 2:
            return self.ip4(data, 4, end, wire, 0)
        return self.ip6(data, 4, end, wire, 0) if family in _FAMILIES6 else "non_ip"

    def nflog(self, data: bytes, end: int) -> Decoded:
        """linux/netfilter/nfnetlink_log.h: a header of 4, then fields; number 9 is the packet."""
        at = 4
        for _ in range(NFLOG_FIELDS):
            if end - at < 4:
                return "truncated"
            size, kind = (
                int.from_bytes(data[at : at + 2], "little"),
                data[at + 2] | data[at + 3] << 8,
            )
            if size < 4:
                return "non_ip"
            if kind == 9:
                return self.raw(data, at + 4, min(end, at + size), at + size)
            at += size + 3 & ~3
        return "non_ip"

    def ethernet(self, data: bytes, at: int, end: int, wire: int, depth: int) -> Decoded:
        if end - at < 14:
            return "truncated"
        return self.network(data, _u16(data, at + 12)[0], at + 14, end, wire, depth)

    def network(self, data: bytes, kind: int, at: int, end: int, wire: int, depth: int) -> Decoded:
        """An ethertype: VLAN tags, MPLS labels, then IP."""
        tags = 0
        while kind in _VLAN:
            tags += 1
            if tags > limits.VLAN_TAGS:
                return "non_ip"
            if end - at < 4:
                return "truncated"
            kind = _u16(data, at + 2)[0]
            at += 4
        if kind in _MPLS:
            for _ in range(limits.MPLS_LABELS):
                if end - at < 5:
                    return "truncated"
                at += 4
                if data[at - 2] & 1:
                    kind = {4: _IP4, 6: _IP6}.get(data[at] >> 4, 0)
                    break
        if kind == _IP4:
            return self.ip4(data, at, end, wire, depth)
        return self.ip6(data, at, end, wire, depth) if kind == _IP6 else "non_ip"

    def ip4(self, data: bytes, at: int, end: int, wire: int, depth: int) -> Decoded:
        if end - at < 20:
            return "truncated"
        first, total, ident, frag, proto = _ip4(data, at)
        head = (first & 15) * 4
        if first >> 4 != 4 or head < 20 or 0 < total < head:
            return "bad_ip"
        if end - at < head:
            return "truncated"
        if total:  # 0 where the sender's network card was to cut it up (TSO)
            wire = at + total
            end = min(end, wire)
        src, dst = data[at + 12 : at + 16], data[at + 16 : at + 20]
        if frag & 0x3FFF:
            if end < wire:
                return "truncated"
            offset, more, size = (frag & 0x1FFF) * 8, bool(frag & 0x2000), end - at - head
            if size == 0 or (more and size & 7) or offset + size > 0xFFFF:
                return "bad_ip"
            return Fragment(
                (src, dst, ident, proto), 4, proto, src, dst, ident, offset, more,
                data[at + head : end], depth,
            )  # fmt: skip
        return self.upper(data, 4, proto, at + head, end, wire, src, dst, ident, depth)

    def ip6(self, data: bytes, at: int, end: int, wire: int, depth: int) -> Decoded:
        if end - at < 40:
            return "truncated"
        if data[at] >> 4 != 6:
            return "bad_ip"
        size = _u16(data, at + 4)[0]
        if size:  # 0: a jumbogram, or segmentation offload
            wire = at + 40 + size
            end = min(end, wire)
        src, dst = data[at + 8 : at + 24], data[at + 24 : at + 40]
        return self.upper(data, 6, data[at + 6], at + 40, end, wire, src, dst, 0, depth)

    def upper(
        self, data: bytes, version: int, proto: int, at: int, end: int, wire: int,
        src: bytes, dst: bytes, ident: int, depth: int,
    ) -> Decoded:  # fmt: skip
        """Walk extension headers to the transport."""
        walked = 0
        while proto in (_EXTENSIONS6 if version == 6 else _EXTENSIONS4):
            walked += 1
            if walked > limits.EXTENSION_HEADERS or wire - at < 8:
                return "bad_ip"
            if end - at < 8:
                return "truncated"
            after = data[at]
            if proto == 44:
                word, number = _u16(data, at + 2)[0], _u32(data, at + 4)[0]
                at += 8
                if word & 0xFFF9:
                    offset, more, size = word & 0xFFF8, bool(word & 1), end - at
                    if end < wire:
                        return "truncated"
                    if size == 0 or (more and size & 7) or offset + size > 0xFFFF:
                        return "bad_ip"
                    key = (src, dst, number, 44)
                    return Fragment(
                        key, 6, after, src, dst, number & 0xFFFF, offset, more, data[at:end], depth
                    )
            else:
                at += (data[at + 1] + 2) * 4 if proto == 51 else (data[at + 1] + 1) * 8
                if at > wire:
                    return "bad_ip"
                if at > end:
                    return "truncated"
            proto = after
        return self.transport(data, proto, at, end, wire, src, dst, ident, depth)

    def transport(
        self, data: bytes, proto: int, at: int, end: int, wire: int,
        src: bytes, dst: bytes, ident: int, depth: int,
    ) -> Decoded:  # fmt: skip
        if proto == TCP:
            return self.tcp(data, at, end, wire, src, dst, ident)
        if proto == UDP:
            return self.udp(data, at, end, wire, src, dst, ident, depth)
        if proto in (ICMP, ICMP6):
            return self.icmp(data, proto, at, end, wire, src, dst, ident)
        if proto not in (4, 41, 47):
            return "other_l4"
        if depth >= self.tunnels:
            return "tunnel_depth"
        if proto == 4:
            return self.ip4(data, at, end, wire, depth + 1)
        if proto == 41:
            return self.ip6(data, at, end, wire, depth + 1)
        return self.gre(data, at, end, wire, depth + 1)

    def tcp(
        self, data: bytes, at: int, end: int, wire: int, src: bytes, dst: bytes, ident: int
    ) -> Decoded:
        if wire - at < 20:
            return "bad_l4"
        if end - at < 20:
            return "truncated"
        sport, dport, seq, ack, words, flags = _tcp(data, at)
        head = (words >> 4) * 4
        if head < 20 or head > wire - at:
            return "bad_l4"
        begin = min(at + head, end)
        length = end - begin
        missing = wire - at - head - length
        mark = (ident, seq, ack, flags, length + missing)
        return Datagram(
            TCP, src, dst, sport, dport, data, begin, length, missing, mark, seq, ack, flags
        )

    def udp(
        self,
        data: bytes,
        at: int,
        end: int,
        wire: int,
        src: bytes,
        dst: bytes,
        ident: int,
        depth: int,
    ) -> Decoded:
        if wire - at < 8:
            return "bad_l4"
        if end - at < 8:
            return "truncated"
        size, check = _u16(data, at + 4)[0], _u16(data, at + 6)[0]
        if 0 < size < 8:
            return "bad_l4"
        if size:
            wire = min(wire, at + size)
            end = min(end, wire)
        sport, dport = _u16(data, at)[0], _u16(data, at + 2)[0]
        begin = at + 8
        if end - begin >= 8:
            inner = self.tunnel(data, dport, begin, end, wire, depth)
            if inner is not None:
                return inner
        mark = (ident, check, wire - begin)
        return Datagram(UDP, src, dst, sport, dport, data, begin, end - begin, wire - end, mark)

    def tunnel(
        self, data: bytes, dport: int, at: int, end: int, wire: int, depth: int
    ) -> Decoded | None:
        """VXLAN (RFC 7348; 8472 is Linux's first port for it), its generic extension
        (draft-ietf-nvo3-vxlan-gpe-13, of version 0 and no OAM) and Geneve (RFC 8926); None if none of them."""
        if dport in _VXLAN and data[at] & 8:
            size, kind = 8, _ETHERNET
        elif dport == _GENEVE and data[at] >> 6 == 0:
            size, kind = 8 + (data[at] & 63) * 4, _u16(data, at + 2)[0]
            if kind not in (_ETHERNET, _IP4, _IP6):
                return None
        elif dport == _GPE and data[at] & 0xFC in (4, 8, 12) and not data[at] & 1:
            size, kind = 8, _GPE_NEXT.get(data[at + 3], 0) if data[at] & 4 else _ETHERNET
            if not kind:
                return None
        else:
            return None
        if depth >= self.tunnels:
            return "tunnel_depth"
        if end - at < size:
            return "truncated"
        if kind == _ETHERNET:
            return self.ethernet(data, at + size, end, wire, depth + 1)
        return self.network(data, kind, at + size, end, wire, depth + 1)

    def gre(self, data: bytes, at: int, end: int, wire: int, depth: int) -> Decoded:
        """RFC 2784 and 2890, and ERSPAN in it (draft-foschiano-erspan-03)."""
        if wire - at < 4:
            return "bad_l4"
        if end - at < 4:
            return "truncated"
        flags, kind = _u16(data, at)[0], _u16(data, at + 2)[0]
        if flags & 0x4007:  # source routing, or not version 0
            return "other_l4"
        at += 4 + sum(4 for bit in (0x8000, 0x2000, 0x1000) if flags & bit)
        if kind == _ERSPAN2:
            at, kind = at + (8 if flags & 0x1000 else 0), _ETHERNET
        elif kind == _ERSPAN3:
            if end - at < 12:
                return "truncated"
            at, kind = at + (20 if data[at + 11] & 1 else 12), _ETHERNET
        if at > end:
            return "truncated"
        if kind == _ETHERNET:
            return self.ethernet(data, at, end, wire, depth)
        if kind in (_IP4, _IP6, *_MPLS):
            return self.network(data, kind, at, end, wire, depth)
        return "other_l4"

    def icmp(
        self, data: bytes, proto: int, at: int, end: int, wire: int,
        src: bytes, dst: bytes, ident: int,
    ) -> Decoded:  # fmt: skip
        if wire - at < 8:
            return "bad_l4"
        if end - at < 8:
            return "truncated"
        named = data[at] in _WITH_IDENTIFIER[proto]
        port = _u16(data, at + 4 if named else at)[0]
        mark = (ident, _u16(data, at + 2)[0], wire - at)
        return Datagram(proto, src, dst, port, port, data, at, end - at, wire - end, mark)
