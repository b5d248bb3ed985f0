"""JA3, JA3S and JA4: what kind of client or server said a hello.

GREASE values, which a client draws anew each time, count in none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from .codes import ALPN, GROUPS, POINT_FORMATS, SERVER_NAME, SIGNATURES, grease
from .hello import Hello

JA4_VERSIONS: Final = {
    0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2",
}  # fmt: skip
EMPTY: Final = "000000000000"
MOST: Final = 99


def ja3_text(hello: Hello) -> str:
    """Version, ciphers, extensions, groups and point formats, in decimal."""
    formats = (hello.get(POINT_FORMATS) or b"")[1:]
    return ",".join(
        [
            str(hello.version),
            _dashes(hello.ciphers),
            _dashes(kind for kind, _ in hello.extensions),
            _dashes(hello.words(GROUPS)),
            "-".join(str(one) for one in formats),
        ]
    )


def ja3s_text(hello: Hello) -> str:
    """Version, cipher and extensions of a server."""
    kinds = (kind for kind, _ in hello.extensions)
    return ",".join([str(hello.version), _dashes(hello.ciphers), _dashes(kinds)])


def md5(text: str) -> str:
    """How both are written."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def ja4(hello: Hello) -> str:
    """How JA4 writes a client: a part to read, its ciphers, its extensions."""
    ciphers = [one for one in hello.ciphers if not grease(one)]
    kinds = [kind for kind, _ in hello.extensions if not grease(kind)]
    others = [kind for kind in kinds if kind not in (SERVER_NAME, ALPN)]
    signatures = [one for one in hello.words(SIGNATURES) if not grease(one)]
    head = "".join(
        [
            "t",
            JA4_VERSIONS.get(hello.best, "00"),
            "d" if SERVER_NAME in kinds else "i",
            f"{min(len(ciphers), MOST):02}",
            f"{min(len(kinds), MOST):02}",
            _ends(hello.protocols),
        ]
    )
    tail = _hexes(sorted(others))
    if signatures:
        tail += "_" + _hexes(signatures)
    return f"{head}_{_short(_hexes(sorted(ciphers)))}_{_short(tail) if others else EMPTY}"


def _ends(protocols: list[bytes]) -> str:
    """First and last character of the first protocol; of its hex digits, where these are no letters."""
    if not protocols or not protocols[0]:
        return "00"
    first, last = protocols[0][:1], protocols[0][-1:]
    if first.isalnum() and last.isalnum():
        return (first + last).decode()
    digits = protocols[0].hex()
    return digits[0] + digits[-1]


def _dashes(numbers: Iterable[int]) -> str:
    return "-".join(str(one) for one in numbers if not grease(one))


def _hexes(numbers: Iterable[int]) -> str:
    return ",".join(f"{one:04x}" for one in numbers)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else EMPTY
