"""From secrets to keys: the key schedule of TLS 1.3 (RFC 8446 section 7) and the PRF of 1.2 (RFC 5246 section 5)."""

from __future__ import annotations

import hmac


def expand_label(secret: bytes, label: str, size: int, digest: str) -> bytes:
    """HKDF-Expand-Label without a context (RFC 8446 section 7.1)."""
    name = b"tls13 " + label.encode()
    info = size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    found, block, number = b"", b"", 0
    while len(found) < size:
        number += 1
        block = hmac.digest(secret, block + info + bytes([number]), digest)
        found += block
    return found[:size]


def prf(secret: bytes, label: bytes, seed: bytes, size: int, digest: str) -> bytes:
    """The pseudo-random function of TLS 1.2."""
    seed = label + seed
    found, block = b"", seed
    while len(found) < size:
        block = hmac.digest(secret, block, digest)
        found += hmac.digest(secret, block + seed, digest)
    return found[:size]
