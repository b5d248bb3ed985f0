"""The data of records whose form depends on what they say: LOC, WKS, APL, IPSECKEY, HIP.

Each function reads one record to its end; `ValueError` where it is not what its type says.
"""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .rdata import Reader

EQUATOR: Final = 1 << 31
"""The number of latitude 0, and of longitude 0 (RFC 1876 section 2)."""
DEGREE: Final = 3_600_000
"""Thousandths of a second of arc."""
GROUND: Final = 10_000_000
"""The number of altitude 0, in cm: 100 km above the lowest that can be said."""
USUAL_SIZES: Final = (100, 1_000_000, 1_000)
"""Size and precisions, in cm, that are left out: 1 m, 10 km, 10 m (RFC 1876 section 3)."""
NEGATED: Final = 0x80
FAMILIES: Final = {1: (socket.AF_INET, 4, 32), 2: (socket.AF_INET6, 16, 128)}


def location(reader: Reader) -> str:
    """LOC (RFC 1876)."""
    if reader.number(1):
        raise ValueError("version")
    sizes = tuple(_size(reader.number(1)) for _ in range(3))
    where = (_angle(reader.number(4), 90, "NS"), _angle(reader.number(4), 180, "EW"))
    height = _metres(reader.number(4) - GROUND)
    shown = "" if sizes == USUAL_SIZES else " " + " ".join(map(_metres, sizes))
    return f"{' '.join(where)} {height}{shown}"


def _size(byte: int) -> int:
    """A digit and a power of ten, in cm."""
    digit, power = byte >> 4, byte & 15
    if digit > 9 or power > 9:
        raise ValueError("size")
    return int(digit * 10**power)


def _angle(number: int, most: int, names: str) -> str:
    number -= EQUATOR
    if abs(number) > most * DEGREE:
        raise ValueError("angle")
    minutes, rest = divmod(abs(number), 60_000)
    end = names[0] if number >= 0 else names[1]
    return f"{minutes // 60} {minutes % 60} {rest // 1000}.{rest % 1000:03} {end}"


def _metres(centimetres: int) -> str:
    return f"{centimetres / 100:.2f}m"


def services(reader: Reader) -> str:
    """WKS (RFC 1035 section 3.4.2): address, protocol, ports."""
    where, protocol, bits = reader.ipv4(), reader.byte(), reader.rest()
    ports = [
        str(8 * at + bit) for at, byte in enumerate(bits) for bit in range(8) if byte & 0x80 >> bit
    ]
    return " ".join((where, protocol, *ports))


def prefixes(reader: Reader) -> str:
    """APL (RFC 3123): address prefixes, "!" where they are not meant."""
    found = []
    while reader.at < reader.end:
        family, bits, size = reader.number(2), reader.number(1), reader.number(1)
        raw = reader.take(size & ~NEGATED)
        if raw.endswith(b"\0"):
            raise ValueError("zeros at the end")
        address = _prefix(family, bits, raw)
        found.append(f"{'!' if size & NEGATED else ''}{family}:{address}/{bits}")
    return " ".join(found)


def _prefix(family: int, bits: int, raw: bytes) -> str:
    if family not in FAMILIES:
        return raw.hex()
    kind, size, most = FAMILIES[family]
    if len(raw) > size or bits > most:
        raise ValueError("prefix")
    return socket.inet_ntop(kind, raw.ljust(size, b"\0"))


def tunnel(reader: Reader) -> str:
    """IPSECKEY (RFC 4025): precedence, gateway's type, algorithm, gateway, key."""
    precedence, kind, algorithm = reader.byte(), reader.number(1), reader.byte()
    read: dict[int, Callable[[], str]] = {1: reader.ipv4, 2: reader.ipv6, 3: reader.name}
    if kind and kind not in read:
        raise ValueError("gateway")
    gateway = read[kind]() if kind else "."
    return " ".join((precedence, str(kind), algorithm, gateway, reader.base64()))


def identity(reader: Reader) -> str:
    """HIP (RFC 8005): algorithm, host identity tag, key, rendezvous servers."""
    size, algorithm, length = reader.number(1), reader.byte(), reader.number(2)
    tag, key = reader.take(size).hex(), b64encode(reader.take(length)).decode()
    servers = []
    while reader.at < reader.end:
        servers.append(reader.name())
    return " ".join((algorithm, tag, key, *servers))


RARE: Final[dict[int, Callable[[Reader], str]]] = {
    11: services,
    29: location,
    42: prefixes,
    45: tunnel,
    55: identity,
}
"""By number of the type."""
