"""Packets made by hand, of nothing but `struct`, and blocks of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from kshark.api import INDEX_FORMAT, Block

SYN, FIN, RST, PSH, ACK = 0x02, 0x01, 0x04, 0x08, 0x10
MASK = 0xFFFF_FFFF
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND

A4, B4 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
A6, B6 = b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02"


def tcp(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    payload: bytes = b"",
    options: bytes = b"",
) -> bytes:
    words = (20 + len(options)) // 4
    head = struct.pack(
        ">HHIIBBHHH", sport, dport, seq & MASK, ack & MASK, words << 4, flags, 65_535, 0, 0
    )
    return head + options + payload


def udp(sport: int, dport: int, payload: bytes, check: int = 0, size: int = -1) -> bytes:
    size = 8 + len(payload) if size < 0 else size
    return struct.pack(">HHHH", sport, dport, size, check) + payload


def icmp(kind: int, code: int, ident: int = 0, payload: bytes = b"", check: int = 0) -> bytes:
    return struct.pack(">BBHHH", kind, code, check, ident, 1) + payload


def ip4(
    payload: bytes, proto: int = 6, src: bytes = A4, dst: bytes = B4, ident: int = 0, frag: int = 0,
    options: bytes = b"", total: int = -1,
) -> bytes:  # fmt: skip
    head = 20 + len(options)
    total = head + len(payload) if total < 0 else total
    fields = (0x40 | head // 4, 0, total, ident, frag, 64, proto, 0)
    return struct.pack(">BBHHHBBH", *fields) + src + dst + options + payload


def ip6(payload: bytes, proto: int = 6, src: bytes = A6, dst: bytes = B6, size: int = -1) -> bytes:
    size = len(payload) if size < 0 else size
    return struct.pack(">IHBB", 6 << 28, size, proto, 64) + src + dst + payload


def ether(payload: bytes, kind: int = 0x0800, tags: Sequence[int] = ()) -> bytes:
    macs = b"\x02" + bytes(11)
    vlan = b"".join(struct.pack(">HH", tag, 7) for tag in tags)
    return macs + vlan + struct.pack(">H", kind) + payload


def pieces(datagram: bytes, size: int, ident: int = 9, proto: int = 17) -> list[bytes]:
    """An IPv4 payload in fragments of `size` bytes."""
    out = []
    for at in range(0, len(datagram), size):
        more = 0x2000 if at + size < len(datagram) else 0
        out.append(ip4(datagram[at : at + size], proto, ident=ident, frag=at // 8 | more))
    return out


@dataclass
class Record:
    frame: bytes
    ns: int = START
    iface: int = 0
    wire: int = -1


def block(
    records: Sequence[Record], linktype: int = 1, ifaces: tuple[str, ...] = ("eth0", "eth1", "eth2")
) -> Block:
    """The records as a backend hands them over."""
    data, index = bytearray(), bytearray()
    for r in records:
        wire = len(r.frame) if r.wire < 0 else r.wire
        index += struct.pack(INDEX_FORMAT, r.ns, len(data), len(r.frame), wire, r.iface, 0)
        data += r.frame
    return Block(bytes(data), bytes(index), len(records), linktype, ifaces)


def frames(*packets: bytes, step: int = 1_000_000) -> Block:
    """IPv4 packets, each in its Ethernet frame, a millisecond apart."""
    return block([Record(ether(p), START + i * step) for i, p in enumerate(packets)])


@dataclass
class Talk:
    """A TCP connection: both ends' numbers, and the IPv4 packets so far."""

    seqs: list[int] = field(default_factory=lambda: [1000, 5000])
    ports: tuple[int, int] = (40_000, 80)
    packets: list[bytes] = field(default_factory=list)
    ident: int = 0

    def raw(
        self,
        side: int,
        flags: int,
        payload: bytes = b"",
        seq: int | None = None,
        ack: int | None = None,
    ) -> bytes:
        """A packet of one side that changes nothing here."""
        self.ident = (self.ident + 1) & 0xFFFF
        ends, ports = ((A4, B4), self.ports) if side == 0 else ((B4, A4), self.ports[::-1])
        seq = self.seqs[side] if seq is None else seq
        ack = self.seqs[1 - side] if ack is None else ack
        ack = ack if flags & ACK else 0
        segment = tcp(*ports, seq, ack, flags, payload)
        return ip4(segment, 6, *ends, ident=self.ident)

    def send(self, side: int, payload: bytes = b"", flags: int = ACK) -> bytes:
        """A packet of one side, in order."""
        packet = self.raw(side, flags, payload)
        self.seqs[side] = (self.seqs[side] + len(payload) + bool(flags & (SYN | FIN))) & MASK
        self.packets.append(packet)
        return packet

    def open(self) -> Talk:
        self.send(0, flags=SYN)
        self.send(1, flags=SYN | ACK)
        self.send(0)
        return self

    def close(self) -> Talk:
        self.send(0, flags=FIN | ACK)
        self.send(1, flags=FIN | ACK)
        self.send(0)
        return self
