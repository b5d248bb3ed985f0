"""The record of EDNS (RFC 6891) and its options, as a person reads them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Annotated, Final

from kshark.api import Details, doc

from .codes import EXTENDED, OPTIONS
from .rdata import quoted, shortened
from .records import Part

SUBNET: Final = {1: (socket.AF_INET, 4), 2: (socket.AF_INET6, 16)}
DNSSEC: Final = 0x8000


class DnsEdns(Details):
    """What the sender can do beyond RFC 1035."""

    version: Annotated[int, doc("Version, 0 so far")] = 0
    size: Annotated[int, doc("Bytes of the largest datagram that the sender takes")] = 0
    dnssec: Annotated[bool, doc("Signatures are wanted (DO)")] = False
    options: Annotated[
        list[tuple[str, str]], doc("Options by name in lower case: ecs, cookie, ede ...")
    ] = []


def edns(data: bytes, part: Part) -> DnsEdns:
    """The record as what it means."""
    return DnsEdns(
        version=part.ttl >> 16 & 0xFF,
        size=part.cls,
        dnssec=bool(part.ttl & DNSSEC),
        options=options(data[part.start : part.end]),
    )


def options(data: bytes) -> list[tuple[str, str]]:
    """The options in order; one that is longer than what is there ends them."""
    found, at = [], 0
    while at + 4 <= len(data):
        number, size = int.from_bytes(data[at : at + 2], "big"), data[at + 2] << 8 | data[at + 3]
        raw = data[at + 4 : at + 4 + size]
        name = OPTIONS.get(number, f"OPT{number}").lower()
        found.append((name, shortened(_SHOW.get(name, _hex)(raw))))
        at += 4 + size
    return found


def _subnet(raw: bytes) -> str:
    """Whom the question is for (RFC 7871): address/bits asked for/bits of the answer."""
    family, size = SUBNET.get(int.from_bytes(raw[:2], "big"), (socket.AF_INET, 0))
    if not size or len(raw) < 4 or len(raw) > 4 + size:
        return raw.hex()
    return f"{socket.inet_ntop(family, raw[4:].ljust(size, bytes(1)))}/{raw[2]}/{raw[3]}"


def _error(raw: bytes) -> str:
    """Why there is no better answer (RFC 8914)."""
    number = int.from_bytes(raw[:2], "big")
    name = EXTENDED[number] if number < len(EXTENDED) else "unassigned"
    text = raw[2:].rstrip(b"\0").decode("utf-8", "replace")
    return f"{number} {name}" + (f": {text}" if text else "")


def _number(raw: bytes) -> str:
    return str(int.from_bytes(raw, "big")) if raw else ""


def _hex(raw: bytes) -> str:
    return raw.hex()


def _text(raw: bytes) -> str:
    return quoted(raw)[1:-1]


_SHOW: Final[dict[str, Callable[[bytes], str]]] = {
    "ecs": _subnet,
    "ede": _error,
    "expire": _number,
    "keepalive": _number,
    "nsid": _text,
    "padding": lambda raw: f"{len(raw)} bytes",
}
"""Options that are shown as more than hex digits."""
