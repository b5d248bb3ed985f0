"""A conversation as TCP packets in a block, for the law of reordered and repeated packets."""

from __future__ import annotations

import struct

from kshark.api import INDEX_FORMAT, Block
from kshark.testing._case import Talk
from kshark.testing.play import PORT, START

RAW_IPV4 = 228
"""LINKTYPE_IPV4: the packet begins with the IP header."""
SYN, ACK, FIN = 2, 16, 1
GAP = 100_000
"""ns between two packets."""


class Peers:
    """Both ends of one connection; makes packets in the order in which they are sent."""

    def __init__(self) -> None:
        self.seq = [0xFFFFFF00, 1_000]  # the client's wraps around soon
        self.ident = 0

    def packet(self, side: int, flags: int, payload: bytes = b"") -> bytes:
        """One IPv4 packet without checksums (as captured before the card fills them in)."""
        self.ident += 1
        address = (bytes((10, 0, 0, 1 + side)), bytes((10, 0, 0, 2 - side)))
        ports = (40_000, PORT) if side == 0 else (PORT, 40_000)
        ip = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), self.ident, 0, 64, 6, 0, *address
        )
        ack = self.seq[1 - side] if flags & ACK else 0
        tcp = struct.pack(">HHIIBBHHH", *ports, self.seq[side], ack, 0x50, flags, 65_535, 0, 0)
        used = len(payload) + bool(flags & (SYN | FIN))
        self.seq[side] = (self.seq[side] + used) % (1 << 32)
        return ip + tcp + payload


def packets(talk: Talk, size: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Handshake, data in segments of at most `size` bytes with ACKs, and the end."""
    peers = Peers()
    start = [peers.packet(0, SYN), peers.packet(1, SYN | ACK), peers.packet(0, ACK)]
    middle = []
    for side, data in talk:
        cuts = range(0, len(data), size)
        middle += [peers.packet(side, ACK, data[at : at + size]) for at in cuts]
        middle.append(peers.packet(1 - side, ACK))
    end = [peers.packet(0, FIN | ACK), peers.packet(1, FIN | ACK), peers.packet(0, ACK)]
    return start, middle, end


def block(frames: list[bytes]) -> Block:
    """The packets as a backend hands them over."""
    index, offset = b"", 0
    for number, frame in enumerate(frames):
        size = len(frame)
        index += struct.pack(INDEX_FORMAT, START + number * GAP, offset, size, size, 0, 0)
        offset += size
    return Block(data=b"".join(frames), index=index, count=len(frames), linktype=RAW_IPV4)
