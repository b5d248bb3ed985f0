"""What the headers and trailers of a call say: `Metadata`, and the values that gRPC gives a meaning."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from kshark.protocols._fields import LENGTHS, listed, value_of

UNITS: Final = {
    "H": 3_600_000_000_000,
    "M": 60_000_000_000,
    "S": 1_000_000_000,
    "m": 1_000_000,
    "u": 1_000,
    "n": 1,
}
"""ns of each unit of ``grpc-timeout``."""
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_STATUS = LENGTHS.pack(11, 1) + b"grpc-status"
"""A status of one digit, as it stands in a header list: most have one."""


def timeout_of(value: str) -> int | None:
    """The ns of a ``grpc-timeout``, None where it is none.

    >>> timeout_of("250m"), timeout_of("1 hour")
    (250000000, None)
    """
    found = _TIMEOUT.fullmatch(value)
    return int(found[1]) * UNITS[found[2]] if found else None


def binary(value: str) -> bytes | None:
    """The bytes of a ``-bin`` header, padded or not; None where it is no base64.

    >>> binary("aGk"), binary("aGk="), binary("!")
    (b'hi', b'hi', None)
    """
    text = value.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def status_in(head: bytes) -> bytes | None:
    """The value of ``grpc-status``, None where there is none that is known."""
    at = head.find(_STATUS)
    if at >= 0:
        return head[at + len(_STATUS) : at + len(_STATUS) + 1]
    return value_in(head, b"grpc-status") if b"grpc-status" in head.lower() else None


def value_in(head: bytes, wanted: bytes) -> bytes | None:
    """The value of the first header of that name."""
    if head[:1] == b"\0":
        found = value_of(head, wanted)
        if found is not None or wanted not in head.lower():
            return found
    for name, value in listed(head):
        if value is not None and name is not None and name.lower() == wanted:
            return value
    return None


def unknowns(head: bytes) -> int:
    """How many headers of a list have a name or a value that cannot be known."""
    return sum(name is None or value is None for name, value in listed(head))


class Metadata:
    """The headers of one side, without pseudo-headers."""

    __slots__ = ("pairs", "pseudo", "unknown")

    def __init__(self, head: bytes) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.pseudo: dict[str, str] = {}
        self.unknown = 0
        for name, value in listed(head):
            if name is None or value is None:
                self.unknown += 1
            elif name[:1] == b":":
                self.pseudo.setdefault(name.decode("latin-1"), value.decode("latin-1"))
            else:
                self.pairs.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def first(self, name: str) -> str | None:
        """The value of the first header of that name."""
        return next((value for key, value in self.pairs if key == name), None)
