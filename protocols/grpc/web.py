"""What grpc-web does otherwise: content in base64, perhaps in several pieces, each with its own padding."""

from __future__ import annotations

import binascii
import re
from typing import Final

RAW: Final = 1
BASE64: Final = 2
FIRST: Final = frozenset(b"Ag")
"""How base64 begins whose first byte is 0 or 1 (a message), or 128 or 129 (trailers); no bare content does."""
_PIECE = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


def kind_of(first: int) -> int:
    """Whether content with that first byte is base64."""
    return BASE64 if first in FIRST else RAW


def decoded(text: bytes) -> tuple[bytes, bytes]:
    """The bytes of all whole groups of four, and what is left; a byte that is no base64 ends it with a broken frame.

    >>> decoded(b"AAAAAAA=gAAAAAA=AA")
    (b'\\x00\\x00\\x00\\x00\\x00\\x80\\x00\\x00\\x00\\x00', b'AA')
    """
    whole = len(text) // 4 * 4
    out = bytearray()
    at = 0
    while at < whole:
        found = _PIECE.match(text, at, whole)
        end = found.end() if found else at
        end -= (end - at) % 4
        if end == at:
            return bytes(out) + b"\xff", b""
        try:
            out += binascii.a2b_base64(text[at:end])
        except binascii.Error:
            return bytes(out) + b"\xff", b""
        at = end
    return bytes(out), text[whole:]
