"""What nearly every packet is: Ethernet, IPv4 without options, TCP; read as one struct by the plain wire."""

from __future__ import annotations

from struct import Struct

from kshark.wire._headers import ACK, FIN, RST, SYN, TCP, Datagram

COMMON = Struct(">12xIHHHxB2x12sIIH")  # Ethernet, IPv4 without options, TCP: bytes 12 to 47
FIELDS = 9  # of COMMON; no mark of a packet has so many
_SPECIAL = SYN | FIN | RST | ACK
_ROW = {
    words: bytes(34 + 4 * words if flags & _SPECIAL == ACK else 0 for flags in range(256))
    for words in range(5, 16)
}
# By the 16 bits of a TCP header with its length and flags: where in such a packet its payload begins; behind the end of
# any where a flag is special, or the length impossible.
HEADS = tuple(
    at or 1 << 17 for at in b"".join(_ROW.get(bits >> 4, bytes(256)) for bits in range(256))
)


def mark_of(fields: tuple[int, ...]) -> tuple[int, ...]:
    """What `Decoder.tcp` makes of the packet with these fields of COMMON."""
    _, total, ident, _, _, _, seq, ack, flags = fields
    return ident, seq, ack, flags & 0xFF, total - 20 - (flags >> 12 << 2)


def keys(found: Datagram) -> tuple[bytes, bytes]:
    """The table's keys of both directions."""
    tail = b"" if found.proto == TCP else bytes((found.proto,))
    one, two = found.sport.to_bytes(2, "big"), found.dport.to_bytes(2, "big")
    return (
        b"".join((found.src, found.dst, one, two, tail)),
        b"".join((found.dst, found.src, two, one, tail)),
    )
