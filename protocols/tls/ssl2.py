"""Hellos as SSLv2 frames them: two bytes of length with the highest bit set, then a type.

Old clients begin so to speak TLS, too (RFC 5246 appendix E.2). Of SSLv2 itself the two hellos are read, no more.
"""

from __future__ import annotations

from typing import Final

from kshark.api import Side

from .codes import SSL2, SSL3, TLS13

CLIENT_HELLO2: Final = 1
SERVER_HELLO2: Final = 4
SHORTEST: Final = 11


def is_ssl2(data: bytes) -> bool:
    """Whether a record of TLS cannot begin so."""
    return data[:1] >= b"\x80"


def size_of(data: bytes) -> int:
    """Bytes of the whole record, its length included."""
    return 2 + ((data[0] & 0x7F) << 8 | data[1])


def right(data: bytes, side: Side) -> bool:
    """Whether the first bytes of a side, SHORTEST or more, are such a hello: all of its lengths fit.

    >>> hello = bytes.fromhex("80 1c 01 0301 0003 0000 0010 00002f") + bytes(16)
    >>> right(hello, Side.CLIENT), right(hello[:1] + b"x" + hello[2:], Side.CLIENT)
    (True, False)
    """
    kind, numbers = data[2], [int.from_bytes(data[at : at + 2], "big") for at in (3, 5, 7, 9)]
    if side == Side.SERVER:
        version, size = numbers[1], size_of(data)
        certificate, ciphers = numbers[2], numbers[3]
        return (
            kind == SERVER_HELLO2
            and data[3] <= 1
            and version == SSL2
            and ciphers % 3 == 0
            and 13 + certificate + ciphers <= size <= 13 + certificate + ciphers + 32
        )
    version, ciphers, session, challenge = numbers
    return (
        kind == CLIENT_HELLO2
        and (version == SSL2 or SSL3 <= version <= TLS13)
        and ciphers > 0
        and ciphers % 3 == 0
        and session in (0, 16)
        and 16 <= challenge <= 32
        and size_of(data) == SHORTEST + ciphers + session + challenge
    )
